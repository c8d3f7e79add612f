"""What the trainings of a learning curve say together: the forecast, and where more rows would help."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finetooth.analysis import label_gains, learning_curve
from finetooth.analysis.learning_curve import Point
from finetooth.data.examples import read_examples
from finetooth.errors import GradeError
from finetooth.privacy.masking import redact
from finetooth.rundir import read_jsonl
from finetooth.runs.sized_runs import ANSWERS, FOLDER, Sized
from finetooth.types import Example

QUARTERS = ("shortest quarter", "second quarter by length", "third quarter by length", "longest quarter")


def result(out: Path, measured: Sequence[Mapping[str, Any]], validation: Sequence[Example]) -> dict[str, Any]:
    """The forecast for twice the largest size, and the gains by group. measured: of each training.

    Rows that the grader could not grade in every training are left out. Raises GradeError if none is left.
    """
    folders = [out / FOLDER / Sized(one["size"], one["seed"]).name for one in measured]
    scores = [{line["id"]: line["score"] for line in read_jsonl(folder / ANSWERS)} for folder in folders]
    graded = [row for row in validation if all(of.get(row.id) is not None for of in scores)]
    if not graded:
        raise GradeError("No validation row was graded in every training, so there is no curve.")
    points = [
        Point(one["size"], one["seed"], sum(of[row.id] for row in graded) / len(graded))
        for one, of in zip(measured, scores, strict=True)
    ]
    forecast = learning_curve.forecast(points, len(graded))
    kind, group_of = _grouping(graded)
    trainings = [
        _by_group(one["size"], of, graded, read_examples(folder / "data" / "train.jsonl"), group_of)
        for one, of, folder in zip(measured, scores, folders, strict=True)
    ]
    gains = label_gains.group_gains(trainings)
    shown = [{**gain.to_json(), "group": redact(gain.group)} for gain in gains]
    return {
        "graded": len(graded),
        "forecast": forecast.to_json(),
        "group": kind,
        "gains": shown,
        "gain_words": redact(label_gains.gain_words(gains, kind)),
    }


def _by_group(
    size: int, scores: Mapping[str, float], graded: Sequence[Example], train: Any, group_of: Any
) -> label_gains.Measured:
    """One training's rows and scores by group."""
    by_group: dict[str, list[float]] = {}
    for row in graded:
        by_group.setdefault(group_of(row), []).append(scores[row.id])
    return label_gains.Measured(size, Counter(map(group_of, train)), by_group)


def _grouping(rows: Sequence[Example]) -> tuple[str, Any]:
    """What rows are grouped by, and the function that tells a row's group: its label, else its length."""
    if all("label" in row.tags for row in rows):
        return "label", lambda row: str(row.tags["label"])

    def length(row: Example) -> int:
        return sum(len(message.content or "") for message in row.context)

    ordered = sorted(map(length, rows))
    limits = [ordered[len(ordered) * part // 4] for part in (1, 2, 3)]
    return "length", lambda row: QUARTERS[sum(length(row) >= limit for limit in limits)]
