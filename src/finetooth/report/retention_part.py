"""The part of a run's page that says what general ability the tuned model kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetooth.evaluation.retention import FILE, FORGOTTEN, KEPT
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
    return {**found, **shown, "chart": bar}


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
