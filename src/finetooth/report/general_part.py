"""The part of a run's page on neighbouring tasks: what the tuned model still does as well as its base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finetooth.evaluation.general import FILE
from finetooth.evaluation.retention import FORGOTTEN, KEPT
from finetooth.rundir import read_json

KINDS = {KEPT: "better", FORGOTTEN: "worse"}


def general_part(run_path: Path) -> dict[str, Any] | None:
    """A line for each neighbouring task; None where there is none."""
    file = run_path / FILE
    if not file.is_file():
        return None
    found = read_json(file)
    lines = [{**one, "kind": KINDS.get(one["verdict"], "not-proven")} for one in found["tasks"]]
    return {"lines": lines, "margin": found["margin"], "missing": found["missing"]}
