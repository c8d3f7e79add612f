"""The version of data: a digest of what the rows of a side say, and what changed between two versions.

Two files have one version where their rows say the same, whatever the order, ids, tags and source files.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetooth.data.examples import content_of_line, from_json
from finetooth.data.row_changes import compare_rows
from finetooth.errors import DataError
from finetooth.rundir import sha256_file
from finetooth.types import Example

SHOWN = 8  # digits of a version
MOST_COMPARED = (
    250_000  # pairs of an old and a new row whose texts are compared; beyond, none is a correction
)


@dataclass(frozen=True, slots=True)
class Version:
    """digest: hex sha256 over the sorted digests of all rows, each copy counted. rows: their number."""

    digest: str
    rows: int

    @property
    def short(self) -> str:
        """The first digits, as they are shown."""
        return self.digest[:SHOWN]


@dataclass(frozen=True, slots=True)
class VersionChanges:
    """Rows that a version has and the one before it does not, and the reverse.

    corrected: rows that say something else; they are not among the others.
    """

    added: int
    removed: int
    corrected: int


def row_digest(line: Mapping[str, Any]) -> bytes:
    """The sha256 of what a line of data/*.jsonl says: context, answers and tools. KeyError for others."""
    return hashlib.sha256(content_of_line(line).encode()).digest()


def version_of(digests: Iterable[bytes]) -> Version:
    """The version of rows with these digests, in any order."""
    ordered = sorted(digests)
    return Version(hashlib.sha256(b"".join(ordered)).hexdigest(), len(ordered))


class Versions:
    """Versions and changes of files. A line is parsed once: runs of a task have most rows in common."""

    def __init__(self) -> None:
        self._digest: dict[bytes, bytes] = {}  # of the bytes of a line -> of what it says
        self._versions: dict[str, Version] = {}
        self._changes: dict[tuple[str, str], VersionChanges] = {}

    def digests(self, file: Path) -> list[bytes]:
        """`row_digest` of each row of a run's data/train.jsonl or data/validation.jsonl. DataError."""
        return [digest for digest, _ in self._rows(file)]

    def of(self, file: Path) -> Version:
        """The version of a file of rows. DataError."""
        key = sha256_file(file)
        if key not in self._versions:
            self._versions[key] = version_of(self.digests(file))
        return self._versions[key]

    def changes(self, old: Path, new: Path) -> VersionChanges:
        """What changed from one file of rows to another. DataError."""
        key = sha256_file(old), sha256_file(new)
        if key not in self._changes:
            self._changes[key] = self._compare(old, new)
        return self._changes[key]

    def _compare(self, old: Path, new: Path) -> VersionChanges:
        before, after = Counter(self.digests(old)), Counter(self.digests(new))
        gone, come = before - after, after - before
        if gone.total() * come.total() > MOST_COMPARED:
            return VersionChanges(come.total(), gone.total(), 0)
        found = compare_rows(self._examples(old, gone), self._examples(new, come))
        return VersionChanges(len(found.added), len(found.removed), len(found.edited))

    def _examples(self, file: Path, wanted: Counter[bytes]) -> list[Example]:
        """The rows with these digests, as often as each is wanted."""
        left, found = wanted.copy(), []
        for digest, line in self._rows(file) if wanted else ():
            if left[digest] > 0:
                left[digest] -= 1
                found.append(from_json(json.loads(line)))
        return found

    def _rows(self, file: Path) -> Iterator[tuple[bytes, bytes]]:
        """The digest and the bytes of each line. A torn last line is left out, as by `read_jsonl`."""
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                key = hashlib.blake2b(line, digest_size=16).digest()
                if key not in self._digest:
                    try:
                        self._digest[key] = row_digest(json.loads(line))
                    except (ValueError, RecursionError, KeyError, TypeError) as error:
                        if not line.endswith(b"\n"):
                            return
                        raise DataError(f"{file}, line {number}: not a row of a run ({error!r}).") from error
                yield self._digest[key], line
