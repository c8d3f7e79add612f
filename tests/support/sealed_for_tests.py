"""Runs that have sealed some rows, and the two copies of their ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finetooth.data.examples import to_json
from finetooth.evaluation import ledger
from finetooth.evaluation.looks import FOLDER, Look
from finetooth.rundir import read_jsonl, write_jsonl
from finetooth.types import Answer, Example, Message


def rows(first: int, last: int) -> list[Example]:
    return [Example(f"id{i}", (Message("user", f"q {i}"),), (Answer(f"a {i}"),)) for i in range(first, last)]


def clock() -> float:
    return 1_700_000_000.0


def sealed_run(path: Path, examples: list[Example], folder: Path | None = None) -> Path:
    """A run directory that has sealed these rows; folder: that of its task file."""
    write_jsonl(path / "data" / "sealed.jsonl", map(to_json, examples))
    ledger.seal(path, clock, None, folder)
    return path


def look(run: Path, digest: str, declared: int = 1, further: bool = True) -> Look | None:
    return ledger.take_look(run, digest, clock, declared, further)


def number(run: Path, digest: str, declared: int = 1) -> int:
    taken = look(run, digest, declared)
    assert taken is not None
    return taken.number


def copies(task: Path, state: Path) -> list[Path]:
    """The copies of the one ledger there is."""
    return [file for place in (task / FOLDER, state) for file in place.glob("*.jsonl")]


def events(file: Path) -> list[dict[str, Any]]:
    return [{key: line[key] for key in line if key != "previous"} for line in read_jsonl(file)]
