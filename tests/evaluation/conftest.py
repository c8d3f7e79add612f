"""A user's state directory and a folder with a task, for the ledgers of sealed rows."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("FINETOOTH_STATE", str(tmp_path / "state"))
    return tmp_path / "state" / "ledger"


@pytest.fixture
def task(tmp_path: Path) -> Path:
    (tmp_path / "task").mkdir()
    return tmp_path / "task"
