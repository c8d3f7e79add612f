"""Where `check` writes when the run of that name is there already."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from finetooth.commands.check import run
from finetooth.config.task import build_task
from finetooth.errors import ConfigError


def test_a_run_keeps_its_own_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"text": f"message number {k}", "label": ("ham", "spam")[k % 3 == 0]} for k in range(60)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task, quiet = build_task({"name": "mail", "data": {"train": "rows.jsonl"}}), Console(quiet=True)
    assert run(task, None, quiet).page == Path("runs/mail/data/report.html")
    assert run(task, None, quiet).page == Path("runs/mail/data/report.html")
    Path("runs/mail/config.yaml").write_text("name: mail\n")
    Path("runs/mail/data/report.html").write_text("the run's")
    assert run(task, None, quiet).page == Path("runs/mail-check/data/report.html")
    assert run(task, Path("looked"), quiet).page == Path("looked/data/report.html")
    with pytest.raises(ConfigError, match="is a run"):
        run(task, Path("runs/mail"), quiet)
    assert Path("runs/mail/data/report.html").read_text() == "the run's"
