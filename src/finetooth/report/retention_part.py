"""The part of a run's page that says what general ability the tuned model kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finetooth.evaluation.retention import FILE, FORGOTTEN, KEPT
from finetooth.report.charts import difference_bar
from finetooth.rundir import read_json


def retention_part(run_path: Path) -> dict[str, Any] | None:
    """What the tuned model kept of its base's general ability, None where it was not measured."""
    file = run_path / FILE
    if not file.is_file():
        return None
    found = read_json(file)
    headline, _, words = found["words"].partition(": ")
    kind = {KEPT: "better", FORGOTTEN: "worse"}.get(found["verdict"], "not proven")
    names = "base knows more", "tuned model knows more"
    bar = difference_bar(found["difference"], found["low"], found["high"], kind, names)
    shown = {"headline": headline, "words": words[:1].upper() + words[1:], "kind": kind.replace(" ", "-")}
    return {**found, **shown, "chart": bar}
