"""The part of a run's page that says what general ability the tuned model kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any

from finetooth.evaluation.retention import FILE, FORGOTTEN, INTERPOLATION, KEPT
from finetooth.evaluation.verdict_words import points
from finetooth.report.charts import difference_bar
from finetooth.report.evidence import Evidence, Line
from finetooth.rundir import read_json


def retention_part(run_path: Path) -> dict[str, Any] | None:
    """What the tuned model kept of its base's general ability, None where it was not measured."""
    file = run_path / FILE
    if not file.is_file():
        return None
    found = read_json(file)
    headline, _, words = found["words"].partition(": ")
    kind = _kind(found)
    names = "base knows more", "tuned model knows more"
    bar = difference_bar(found["difference"], found["low"], found["high"], kind, names)
    shown = {"headline": headline, "words": words[:1].upper() + words[1:], "kind": kind.replace(" ", "-")}
    return {**found, **shown, "chart": bar, "interpolation": _interpolation(run_path)}


def retention_line(evidence: Evidence) -> Line | None:
    """Kept, forgotten or not proven, with the change in points."""
    found = evidence.json(FILE)
    if not found:
        return None
    words = (
        f"The right answer's probability on {found['n']} general questions changed by "
        f"{points(found['difference'])} points (95% confidence interval {points(found['low'])} to "
        f"{points(found['high'])}); a loss of {100 * found['margin']:g} is tolerated."
    )
    return Line("General ability", words, found["verdict"], _kind(found).replace(" ", "-"))


def _kind(found: Mapping[str, Any]) -> str:
    return {KEPT: "better", FORGOTTEN: "worse"}.get(found["verdict"], "not proven")


def retention_steps(run_path: Path, found: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """What to do about a model that has forgotten, with the command. found: of `retention_part`."""
    if found is None or found["verdict"] != FORGOTTEN:
        return []
    command = f"finetooth evaluate {quote(str(run_path))} --interpolate auto"
    return [("General ability was lost. Get it back, without training, in a run of its own:", command)]


def _interpolation(run_path: Path) -> dict[str, Any] | None:
    """Before and after, for a run that was made by interpolation; None for another."""
    file = run_path / INTERPOLATION
    if not file.is_file():
        return None
    record = read_json(file)
    stages = [
        (f"{record['run']}, as trained", record["before"]),
        (f"this run, {100 * record['share']:.0f}% of the change", record["after"]),
    ]
    rows = [{"name": name, "score": stage["score"], **stage["retention"]} for name, stage in stages]
    return {"words": record["words"], "rows": rows, "tried": len(record["trials"])}
