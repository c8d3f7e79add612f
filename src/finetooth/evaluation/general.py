"""Neighbouring tasks: the tuned model against its base, row by row, with a margin of non-inferiority."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

from finetooth.evaluation.retention import FORGOTTEN, KEPT, NOT_PROVEN, verdict_of
from finetooth.evaluation.statistics import MIN_ROWS, compare
from finetooth.evaluation.verdict_words import percent, points

FILE = "evaluate/general.json"  # of a run
BASE = "base"
_VERDICTS = {
    KEPT: "is kept: a loss of {margin} points or more is excluded",
    FORGOTTEN: "is lost: the loss is larger than the tolerated {margin} points",
    NOT_PROVEN: "may be lost: a loss of {margin} points is not excluded",
}


def task_result(
    name: str,
    grader: str,
    base: Sequence[float],
    tuned: Sequence[float],
    groups: Sequence[str] | None,
    margin: float,
) -> dict[str, Any]:
    """Scores of both models on the same rows, the paired difference, and a verdict as in retention.

    groups: the cluster of each row; fewer than 30 rows, or clusters, prove nothing.
    """
    compared = asdict(compare(base, tuned, groups))
    verdict = verdict_of(compared, margin) if compared["units"] >= MIN_ROWS else NOT_PROVEN
    result = {key: compared[key] for key in ("n", "units", "difference", "low", "high", "p")}
    scores = {"base": fmean(base), "tuned": fmean(tuned)}
    interval = f"{points(compared['low'])} to {points(compared['high'])}"
    words = (
        f"{name} {_VERDICTS[verdict].format(margin=f'{100 * margin:g}')}. Base {percent(scores['base'])}, "
        f"tuned {percent(scores['tuned'])} of {compared['n']:,} rows, difference "
        f"{points(compared['difference'])} points (95% confidence interval {interval})."
    )
    return {**result, **scores, "grader": grader, "margin": margin, "verdict": verdict, "words": words}
