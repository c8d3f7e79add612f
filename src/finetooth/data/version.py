"""The version of data: a digest of what the rows of a side say, and what changed between two versions.

Two files have one version where their rows say the same, whatever the order, ids, tags and source files.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetooth.data.examples import from_json
from finetooth.data.row_changes import compare_rows
from finetooth.rundir import read_jsonl, sha256_file

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
    said = [line["context"], line["answers"], line.get("tools")]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).digest()


def row_digests(file: Path) -> list[bytes]:
    """The digest of each row of a run's data/train.jsonl or data/validation.jsonl. DataError."""
    return [row_digest(line) for line in read_jsonl(file)]


def version_of(digests: Iterable[bytes]) -> Version:
    """The version of rows with these digests, in any order."""
    ordered = sorted(digests)
    return Version(hashlib.sha256(b"".join(ordered)).hexdigest(), len(ordered))


class Versions:
    """Versions and changes of files, each content read once, since runs of one task share their rows."""

    def __init__(self) -> None:
        self._versions: dict[str, Version] = {}
        self._changes: dict[tuple[str, str], VersionChanges] = {}

    def of(self, file: Path) -> Version:
        """The version of a file of rows. DataError."""
        key = sha256_file(file)
        if key not in self._versions:
            self._versions[key] = version_of(row_digests(file))
        return self._versions[key]

    def changes(self, old: Path, new: Path) -> VersionChanges:
        """What changed from one file of rows to another. DataError."""
        key = sha256_file(old), sha256_file(new)
        if key not in self._changes:
            self._changes[key] = self._compare(old, new)
        return self._changes[key]

    @staticmethod
    def _compare(old: Path, new: Path) -> VersionChanges:
        before, after = Counter(row_digests(old)), Counter(row_digests(new))
        gone, come = before - after, after - before
        if gone.total() * come.total() > MOST_COMPARED:
            return VersionChanges(come.total(), gone.total(), 0)
        lines = [_lines(old, gone), _lines(new, come)]
        found = compare_rows(*([from_json(line) for line in side] for side in lines))
        return VersionChanges(len(found.added), len(found.removed), len(found.edited))


def _lines(file: Path, wanted: Counter[bytes]) -> list[dict[str, Any]]:
    """The lines with these digests, as often as each is wanted."""
    left, found = wanted.copy(), []
    for line in read_jsonl(file) if wanted else ():
        digest = row_digest(line)
        if left[digest] > 0:
            left[digest] -= 1
            found.append(line)
    return found
