"""A log of events whose lines are chained by sha256, so that an edited or a missing line is noticed.

Each line holds the digest of all lines before it, and LOG.sha256 that of all of them. Somebody who computes
all of them anew is not noticed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import Any

from finetooth.errors import DataError
from finetooth.rundir import write_bytes, write_text

NONE = 64 * "0"  # the digest of no lines
Event = dict[str, Any]


def head_of(path: Path) -> Path:
    """The file with the digest of all lines of a log."""
    return path.with_suffix(".sha256")


def read(path: Path, remedy: str) -> list[Event]:
    """The events, each with the digest `previous`; older logs have none. [] where there is no log.

    Raises DataError for a line that was edited or taken out; remedy: what the user can do then.
    """
    head, lines = head_of(path), _lines(path)
    events = []
    for number, line in enumerate(lines, 1):
        try:
            events.append(json.loads(line))
            if not isinstance(events[-1]["event"], str):
                raise TypeError("no event")
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise DataError(f"{path}, line {number}: not a line of a ledger ({error}). {remedy}") from error
    digests = _digests(lines)
    began = next((index for index, event in enumerate(events) if "previous" in event), len(events))
    if began == len(events) and not head.is_file():
        return events  # of an older version
    whole = all(event.get("previous") == digests[began + index] for index, event in enumerate(events[began:]))
    if not whole or not head.is_file() or digests[-1] not in _head(head):
        raise DataError(
            f"{path}: a line was edited or taken out (its digests do not fit), so looks at the sealed test "
            f"can no longer be counted. {remedy}"
        )
    return events


def append(path: Path, event: Mapping[str, Any], remedy: str) -> None:
    """Add a line durably: it must be on record, whatever happens next."""
    read(path, remedy)
    _write(path, _lines(path), [event])


def write(path: Path, events: Sequence[Mapping[str, Any]]) -> None:
    """Replace the log durably by one of these events."""
    _write(path, [], events)


def _write(path: Path, lines: list[bytes], events: Sequence[Mapping[str, Any]]) -> None:
    """The lines as they are, then the events. The head fits the file, wherever a crash comes."""
    before = _digests(_lines(path))[-1]
    last = _digests(lines)[-1]
    for event in events:
        lines.append(json.dumps({**event, "previous": last}, ensure_ascii=False, allow_nan=False).encode())
        last = _digest(last.encode() + lines[-1])
    write_text(head_of(path), f"{before}\n{last}\n")
    write_bytes(path, b"".join(line + b"\n" for line in lines))
    write_text(head_of(path), f"{last}\n")


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


def _digests(lines: Sequence[bytes]) -> list[str]:
    """Of no line, of the first, of the first two, and so on."""
    return list(accumulate(lines, lambda before, line: _digest(before.encode() + line), initial=NONE))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
