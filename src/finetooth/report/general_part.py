"""The part of a run's page on neighbouring tasks: what the tuned model still does as well as its base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finetooth.evaluation.general import FILE
from finetooth.evaluation.retention import FORGOTTEN, KEPT, NOT_PROVEN
from finetooth.evaluation.verdict_words import percent, points
from finetooth.report.evidence import Evidence, Line
from finetooth.rundir import read_json

KINDS = {KEPT: "better", FORGOTTEN: "worse"}
WORST_FIRST = (FORGOTTEN, NOT_PROVEN, KEPT)


def general_part(run_path: Path) -> dict[str, Any] | None:
    """A line for each neighbouring task; None where there is none."""
    file = run_path / FILE
    if not file.is_file():
        return None
    found = read_json(file)
    lines = [{**one, "kind": KINDS.get(one["verdict"], "not-proven")} for one in found["tasks"]]
    return {"lines": lines, "margin": found["margin"], "missing": found["missing"]}


def general_line(evidence: Evidence) -> Line | None:
    """The neighbouring task that fares worst; None where none was measured."""
    tasks = evidence.json(FILE).get("tasks")
    if not tasks:
        return None
    worst = min(tasks, key=lambda one: (WORST_FIRST.index(one["verdict"]), one["difference"]))
    among = f", the worst of {len(tasks)} neighbouring tasks," if len(tasks) > 1 else ""
    words = (
        f"On {worst['task']}{among} the score changed from the base model's {percent(worst['base'])} by "
        f"{points(worst['difference'])} points (95% CI {points(worst['low'])} to {points(worst['high'])}); a "
        f"loss of {100 * worst['margin']:g} is tolerated."
    )
    return Line("Other tasks", words, worst["verdict"], KINDS.get(worst["verdict"], "not-proven"))
