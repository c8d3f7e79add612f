"""What `run` says of findings that do not block: one line with the rules, their rows and the report."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from rich.console import Console

from finetooth.config.load import load_task
from finetooth.runs.check import run_gate
from finetooth.runs.context import RunContext


def _said(rows: list[dict[str, Any]], out: Path) -> str:
    said = io.StringIO()
    console = Console(file=said, width=80, markup=False, highlight=False)
    task = load_task({"data": {"train": rows, "validation": 0.2, "test": 0.2}})
    assert run_gate(RunContext(task, out, console), needs_grader=False) is not None
    return said.getvalue()


def test_findings_to_review_are_one_line(tmp_path: Path) -> None:
    fruit = ("apple", "plum", "pear", "quince", "cherry", "melon", "grape", "lemon")
    rows = [{"text": f"{name} number {n}", "label": "ab"[n % 2]} for n in range(8) for name in fruit]
    quiet = _said(rows, tmp_path / "quiet")
    assert "encoding" not in quiet
    rows[3]["text"] = "a caf\u00c3\u00a9 and a th\u00c3\u00a9"
    said = _said(rows, tmp_path / "said")
    assert said.count("\n") == 1 and said.startswith("warning: the data gate has findings to review: ")
    assert "encoding (1 row)" in said
    assert said.rstrip().endswith(str(tmp_path / "said" / "data" / "report.html"))
