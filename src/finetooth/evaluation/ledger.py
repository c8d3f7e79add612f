"""The sealed test: the only reader of data/sealed.jsonl, and the book of who looked when (ledger.jsonl).

A test split proves something only while nobody chooses by it. So every look is written down before it is
taken, the file is compared with what was sealed, and a second look with the same candidates gives the stored
result.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from finetooth.data.examples import from_json, normalised_context
from finetooth.errors import DataError
from finetooth.rundir import read_jsonl, write_jsonl
from finetooth.types import Example

Clock = Callable[[], float]


def seal(run_path: Path, clock: Clock, start: Mapping[str, Any] | None = None) -> None:
    """Record the sealed file's sha256 and number of rows, right after the split was written; once.

    clock: seconds since 1970. start: the run that this one goes on from, {run, digest}; where it has sealed
    one of these rows, its looks count here. DataError when another file was sealed before.
    """
    content = _read(run_path)
    digest = hashlib.sha256(content).hexdigest()
    known = _sealed(run_path)
    if known is None:
        examples = _examples(content)
        event = {"event": "sealed", "sha256": digest, "rows": len(examples), "time": _time(clock)}
        before = {"start": {**start, "looks": _looks_before(Path(start["run"]), examples)}} if start else {}
        _append(run_path, event | before)
    elif known["sha256"] != digest:
        raise DataError(_changed(run_path))


def open_sealed(run_path: Path, digest: str, clock: Clock) -> list[Example]:
    """The test rows. The look is written into the ledger first, unless this digest has looked before.

    digest: of everything that is about to be evaluated. DataError when the test was never sealed, or is not
    the file that was sealed.
    """
    examples = read_sealed(run_path)
    if look_number(run_path, digest) is None:
        look = look_count(run_path) + 1
        _append(run_path, {"event": "opened", "digest": digest, "time": _time(clock), "look": look})
    return examples


def read_sealed(run_path: Path) -> list[Example]:
    """The test rows, for a run that goes on from this one, which must keep them apart.

    Nothing is answered or shown of them, so it is no look. DataError as of open_sealed.
    """
    known = _sealed(run_path)
    if known is None:
        raise DataError(f"{run_path / 'ledger.jsonl'}: the test was never sealed. Start a new run directory.")
    content = _read(run_path)
    if hashlib.sha256(content).hexdigest() != known["sha256"]:
        raise DataError(_changed(run_path))
    return _examples(content)


def lengths(run_path: Path, measure: Callable[[Example], int]) -> dict[str, int]:
    """How long each sealed row is by `measure`, by id: all that is told of the rows before the test is
    opened.

    A row that cannot be measured (DataError) counts as 0; it is asked and graded like the others.
    """
    found = {}
    for example in _examples(_read(run_path)):
        try:
            found[example.id] = measure(example)
        except DataError:
            found[example.id] = 0
    return found


def store_result(run_path: Path, digest: str, summary: dict[str, Any], clock: Clock) -> None:
    """Keep the summary of the look with this digest; `stored_result` gives it back."""
    if look_number(run_path, digest) is None:
        raise DataError(f"{run_path / 'ledger.jsonl'}: no look has the digest {digest}: nothing to store.")
    _append(run_path, {"event": "result", "digest": digest, "time": _time(clock), "summary": summary})


def stored_result(run_path: Path, digest: str) -> dict[str, Any] | None:
    """The summary of an earlier look with this digest, None when there was none that was finished."""
    for event in _events(run_path):
        if event["event"] == "result" and event["digest"] == digest:
            summary: dict[str, Any] = event["summary"]
            return summary
    return None


def sealed_count(run_path: Path) -> int | None:
    """How many rows the sealed test has, by the ledger; None when none is sealed."""
    known = _sealed(run_path)
    return None if known is None else int(known["rows"])


def sealed_digest(run_path: Path) -> str | None:
    """The sha256 of the rows that were sealed, None without any."""
    known = _sealed(run_path)
    return None if known is None else str(known["sha256"])


def look_count(run_path: Path) -> int:
    """How often the sealed test was opened, here and in the runs that this one went on from."""
    start = (_sealed(run_path) or {}).get("start") or {}
    before = int(start.get("looks", 0))
    return before + sum(1 for event in _events(run_path) if event["event"] == "opened")


def _looks_before(start: Path, examples: list[Example]) -> int:
    asked = {normalised_context(example) for example in examples}
    sealed = read_sealed(start) if sealed_count(start) else []
    return look_count(start) if any(normalised_context(example) in asked for example in sealed) else 0


def look_number(run_path: Path, digest: str) -> int | None:
    """Which look the one with this digest was, from 1; None when it never looked."""
    opened = (event for event in _events(run_path) if event["event"] == "opened")
    return next((event["look"] for event in opened if event["digest"] == digest), None)


def _sealed(run_path: Path) -> dict[str, Any] | None:
    return next((event for event in _events(run_path) if event["event"] == "sealed"), None)


def _events(run_path: Path) -> list[dict[str, Any]]:
    path = run_path / "ledger.jsonl"
    return list(read_jsonl(path)) if path.exists() else []


def _append(run_path: Path, event: dict[str, Any]) -> None:
    """Rewritten as a whole, durably: a look that happened must be in the book, whatever happens next."""
    write_jsonl(run_path / "ledger.jsonl", [*_events(run_path), event])


def _read(run_path: Path) -> bytes:
    path = run_path / "data" / "sealed.jsonl"
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file: this run holds no sealed test (data.test: 0?).") from None


def _examples(content: bytes) -> list[Example]:
    """The rows of the file. Only a line feed ends one: texts hold other marks that Python calls line ends."""
    return [from_json(json.loads(line)) for line in content.split(b"\n") if line]


def _changed(run_path: Path) -> str:
    return (
        f"{run_path / 'data' / 'sealed.jsonl'}: not the file that was sealed (its sha256 differs). A changed "
        "test proves nothing: restore the file, or start a new run directory."
    )


def _time(clock: Clock) -> str:
    return datetime.fromtimestamp(clock(), UTC).isoformat(timespec="seconds")
