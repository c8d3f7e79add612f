"""The sealed test: the only reader of data/sealed.jsonl, and the ledger of every look at it (ledger.jsonl).

A held-out test is evidence only while no choice is made on it. So every look is recorded before it happens,
the file is compared with what was sealed, and a second look with the same digest returns the stored result.

Each line holds a sha256 of all lines before it, ledger.sha256 that of all of them, and the lines of the
event `evaluated` those of the results. An edited result, and a line that was edited or taken out, are thereby
noticed; somebody who computes all of them anew is not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from typing import Any

from finetooth.data.examples import from_json, normalised_context
from finetooth.errors import DataError
from finetooth.rundir import read_json, sha256_file, write_bytes, write_text
from finetooth.types import Example

Clock = Callable[[], float]
LEDGER, HEAD = "ledger.jsonl", "ledger.sha256"
NONE = 64 * "0"  # the digest of no lines


def seal(run_path: Path, clock: Clock, start: Mapping[str, Any] | None = None) -> None:
    """Record the sealed file's sha256 and number of rows, once, right after the split was written.

    clock: seconds since 1970. start: the run whose split is kept, {run, digest of its weights if they are
    continued}; where it has sealed one of these rows, its looks count here too. DataError when another file
    was sealed before.
    """
    content = _read(run_path)
    digest = hashlib.sha256(content).hexdigest()
    known = _sealed(run_path)
    if known is not None:
        if known["sha256"] != digest:
            raise _changed(run_path)
        return
    examples = _examples(content)
    event = {"event": "sealed", "sha256": digest, "rows": len(examples), "time": _time(clock)}
    if start:
        parent = Path(start["run"])
        prompts = {normalised_context(example) for example in examples}
        theirs = read_sealed(parent) if sealed_count(parent) else []
        shared = any(normalised_context(example) in prompts for example in theirs)
        event["start"] = {**start, "looks": look_count(parent) if shared else 0}
    _append(run_path, event)


def open_sealed(run_path: Path, digest: str, clock: Clock) -> list[Example]:
    """The test rows. The look is recorded first, unless one with this digest is in the ledger.

    digest: of everything that decides the result. DataError when the test was never sealed, or is not the
    file that was sealed.
    """
    examples = read_sealed(run_path)
    if look_number(run_path, digest) is None:
        look = look_count(run_path) + 1
        _append(run_path, {"event": "opened", "digest": digest, "time": _time(clock), "look": look})
    return examples


def read_sealed(run_path: Path) -> list[Example]:
    """The test rows, for a run that continues this one and must keep them apart from its training rows.

    They are neither answered nor shown, so this is no look. Raises DataError as open_sealed does.
    """
    known = _sealed(run_path)
    if known is None:
        raise DataError(f"{run_path / 'ledger.jsonl'}: the test was never sealed. Start a new run directory.")
    content = _read(run_path)
    if hashlib.sha256(content).hexdigest() != known["sha256"]:
        raise _changed(run_path)
    return _examples(content)


def lengths(run_path: Path, measure: Callable[[Example], int]) -> dict[str, int]:
    """Id -> length of each sealed row by `measure`: the only fact about the rows before the test is opened.

    A row that cannot be measured (DataError) has length 0; it is evaluated like the others.
    """
    length_of = {}
    for example in _examples(_read(run_path)):
        try:
            length_of[example.id] = measure(example)
        except DataError:
            length_of[example.id] = 0
    return length_of


def store_result(run_path: Path, digest: str, summary: dict[str, Any], clock: Clock) -> None:
    """Store the summary of the look with this digest; `stored_result` returns it."""
    if look_number(run_path, digest) is None:
        raise DataError(f"{run_path / 'ledger.jsonl'}: there is no look with the digest {digest}.")
    _append(run_path, {"event": "result", "digest": digest, "time": _time(clock), "summary": summary})


def stored_result(run_path: Path, digest: str) -> dict[str, Any] | None:
    """The summary of an earlier look with this digest, None where none was completed."""
    results = (event for event in _events(run_path) if event["event"] == "result")
    return next((event["summary"] for event in results if event["digest"] == digest), None)


def rows_of_result(run_path: Path, summary: Mapping[str, Any]) -> list[Example] | None:
    """The test rows of the look that gave this summary, None where the ledger has no such look.

    That look is on record, so this is no new one. Raises DataError as open_sealed does.
    """
    results = (event["summary"] for event in _events(run_path) if event["event"] == "result")
    return read_sealed(run_path) if summary in results else None


def store_files(run_path: Path, split: str, files: Mapping[str, bytes], clock: Clock) -> None:
    """Write the files of an evaluation to evaluate/SPLIT, in order; their digests are recorded first."""
    digests = {name: _digest(content) for name, content in files.items()}
    _append(run_path, {"event": "evaluated", "split": split, "files": digests, "time": _time(clock)})
    for name, content in files.items():
        write_bytes(run_path / "evaluate" / split / name, content)


def require_unchanged(run_path: Path, *splits: str) -> list[str]:
    """Raise DataError for a changed ledger, and for a result of these splits that is not as it was written.

    Returns the splits with results of an older version, of which no digests are known. Without `splits`, all
    are checked, and evaluate/summary.json too.
    """
    events, folder, unknown = _events(run_path), run_path / "evaluate", []
    bound: list[Any] = []
    for split in splits or ("validation", "test"):
        known = [one["files"] for one in events if one["event"] == "evaluated" and one["split"] == split]
        if not (folder / split / "summary.json").is_file():
            continue
        if not known:
            unknown.append(split)
            continue
        for name in known[-1]:
            file = folder / split / name
            if not file.is_file() or sha256_file(file) not in [digests[name] for digests in known]:
                raise _edited(file, run_path, split)
        bound.append(read_json(folder / split / "summary.json"))
    summary = folder / "summary.json"
    if not splits and bound and not unknown and summary.is_file() and read_json(summary) not in bound:
        raise _edited(summary, run_path, "test" if len(bound) > 1 else "validation")
    return unknown


def sealed_count(run_path: Path) -> int | None:
    """The number of sealed test rows, by the ledger; None when none is sealed."""
    known = _sealed(run_path)
    return None if known is None else int(known["rows"])


def sealed_digest(run_path: Path) -> str | None:
    """The sha256 of the sealed file, None when none is sealed."""
    known = _sealed(run_path)
    return None if known is None else str(known["sha256"])


def look_count(run_path: Path) -> int:
    """How often the sealed test was opened, here and in the runs that this one continues."""
    start = (_sealed(run_path) or {}).get("start") or {}
    before = int(start.get("looks", 0))
    return before + sum(1 for event in _events(run_path) if event["event"] == "opened")


def look_number(run_path: Path, digest: str) -> int | None:
    """The number, from 1, of the look with this digest; None where there was none."""
    opened = (event for event in _events(run_path) if event["event"] == "opened")
    return next((event["look"] for event in opened if event["digest"] == digest), None)


def result_time(run_path: Path, split: str) -> str | None:
    """When the result on this split was written, in ISO 8601 and UTC; None where the ledger does not say."""
    named = "result" if split == "test" else "evaluated"
    events = [one for one in _events(run_path) if one["event"] == named and one.get("split", split) == split]
    times = [one["time"] for one in events if "time" in one]
    return str(times[-1]) if times else None


def _sealed(run_path: Path) -> dict[str, Any] | None:
    return next((event for event in _events(run_path) if event["event"] == "sealed"), None)


def _events(run_path: Path) -> list[dict[str, Any]]:
    """The events. Raises DataError for a line that was edited or taken out; older ledgers have no digests."""
    path, head = run_path / LEDGER, run_path / HEAD
    lines = _lines(path)
    events = []
    for number, line in enumerate(lines, 1):
        try:
            events.append(json.loads(line))
            if not isinstance(events[-1]["event"], str):
                raise TypeError("no event")
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise DataError(f"{path}, line {number}: not a line of a ledger ({error}).") from error
    digests = _digests(lines)
    began = next((index for index, event in enumerate(events) if "previous" in event), len(events))
    if began == len(events) and not head.is_file():
        return events  # of an older version
    whole = all(event.get("previous") == digests[began + index] for index, event in enumerate(events[began:]))
    if not whole or not head.is_file() or digests[-1] not in _head(head):
        raise DataError(
            f"{path}: a line was edited or taken out (its digests do not fit), so looks at the sealed test "
            "can no longer be counted. Restore the file, or start a new run directory."
        )
    return events


def _head(path: Path) -> list[str]:
    """The digest of the last line; while a line is being added, those of the last line and of the new one."""
    return path.read_bytes().decode("ascii", "replace").split()


def _lines(path: Path) -> list[bytes]:
    """The lines, without one at the end that a crash has cut short."""
    *whole, last = path.read_bytes().split(b"\n") if path.exists() else [b""]
    with suppress(ValueError):
        json.loads(last)
        whole.append(last)
    return [line for line in whole if line]


def _append(run_path: Path, event: dict[str, Any]) -> None:
    """Rewrite the ledger durably: a look must be on record, whatever happens next."""
    _events(run_path)
    lines = _lines(run_path / LEDGER)
    last = _digests(lines)[-1]
    lines.append(json.dumps({**event, "previous": last}, ensure_ascii=False, allow_nan=False).encode())
    new = _digests(lines)[-1]
    write_text(run_path / HEAD, f"{last}\n{new}\n")  # one of them fits, wherever a crash comes
    write_bytes(run_path / LEDGER, b"".join(line + b"\n" for line in lines))
    write_text(run_path / HEAD, f"{new}\n")


def _digests(lines: Sequence[bytes]) -> list[str]:
    """Of no line, of the first, of the first two, and so on."""
    return list(accumulate(lines, lambda before, line: _digest(before.encode() + line), initial=NONE))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _read(run_path: Path) -> bytes:
    path = run_path / "data" / "sealed.jsonl"
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file: this run has no sealed test (data.test: 0?).") from None


def _examples(content: bytes) -> list[Example]:
    """The rows of the file. Only a line feed ends a row: texts may hold other line separators of Unicode."""
    return [from_json(json.loads(line)) for line in content.split(b"\n") if line]


def _edited(file: Path, run_path: Path, split: str) -> DataError:
    sealed = " --sealed" if split == "test" else ""
    return DataError(
        f"{file} is not what finetooth wrote there (ledger.jsonl has another sha256): it was edited or is "
        f"damaged. Restore it, or write it anew: finetooth evaluate {run_path}{sealed}"
    )


def _changed(run_path: Path) -> DataError:
    return DataError(
        f"{run_path / 'data' / 'sealed.jsonl'}: not the file that was sealed (its sha256 differs). A changed "
        "test is no evidence: restore the file, or start a new run directory."
    )


def _time(clock: Clock) -> str:
    return datetime.fromtimestamp(clock(), UTC).isoformat(timespec="seconds")
