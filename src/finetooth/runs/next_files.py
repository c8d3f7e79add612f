"""The files of the next data set in RUN/errors, and what is on record of them: next.json.

The record has the digest of each file as it was written, so that one that was filled in is never replaced,
and of a draw with a random arm which validation rows have chosen which rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finetooth.analysis.annotations import FOLDER
from finetooth.analysis.change_set import ChangeSheet
from finetooth.data.examples import normalised_context
from finetooth.errors import ConfigError
from finetooth.rundir import read_json, sha256_file, write_bytes, write_json
from finetooth.runs import workspace
from finetooth.types import Example

NAMES = ("next.jsonl", "next.csv", "random.jsonl", "random.csv")
RECORD = "next.json"
STEERED = "steered"  # in the record: NextData.steered of the last draw with a random arm


def context_digest(example: Example) -> str:
    """The sha256 of what an example asks: a chosen row is known by it when it is filled in."""
    return hashlib.sha256(normalised_context(example).encode("utf-8", "surrogatepass")).hexdigest()


def write(
    path: Path,
    changes: ChangeSheet,
    random: ChangeSheet | None = None,
    steered: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write next and random into RUN/errors, as .jsonl and as .csv, and return the paths of those written.
    steered: see NextData.

    Files that somebody has filled in are never replaced: ConfigError. A random draw that belongs to an
    earlier next.csv goes, unless it was filled in. Nothing is written where there is nothing to say.
    """
    folder = path / FOLDER
    contents = {"next.jsonl": changes.jsonl(), "next.csv": changes.csv()} if changes.rows else {}
    if random is not None and random.rows:
        contents |= {"random.jsonl": random.jsonl(), "random.csv": random.csv()}
    if not contents:
        return []
    with workspace.occupied(path):
        before = _record(path)
        ours = {name: _as_list(before.get(name)) for name in NAMES}
        present = [name for name in NAMES if (folder / name).is_file()]
        filled_in = [name for name in present if sha256_file(folder / name) not in ours[name]]
        if changed := next((name for name in filled_in if name in contents), None):
            raise ConfigError(
                f"{folder / changed} has been changed since it was written, perhaps filled in, and is never "
                f"replaced. Move or rename it (it can be used from anywhere: finetooth run --add FILE), "
                "then run the same command again."
            )
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
        # Both digests first: whatever is there after a kill is known as ours.
        both = {name: [*ours[name], digest] for name, digest in digests.items()}
        write_json(folder / RECORD, {**before, **both})
        for name, content in contents.items():
            write_bytes(folder / name, content)
        for name in present:
            if name not in contents and name not in filled_in:
                (folder / name).unlink()
        write_json(folder / RECORD, {**before, **digests, **({STEERED: steered} if steered else {})})
    return [folder / name for name in contents]


def _record(path: Path) -> dict[str, Any]:
    """What was written last. Raises ConfigError for a damaged record."""
    file = path / FOLDER / RECORD
    known = read_json(file) if file.is_file() else {}
    if not isinstance(known, dict):
        raise ConfigError(f"{file} is damaged. Delete it, and run: finetooth errors {path} --next")
    return known


def _as_list(digests: Any) -> list[Any]:
    return digests if isinstance(digests, list) else [digests]


def choosers(path: Path, added: Sequence[Example]) -> tuple[set[str], list[Example]]:
    """The ids of the validation rows whose failures have chosen all these rows, by the last draw with a
    random arm; and the rows that it has not chosen, because of which there are none: a person who has seen
    all failures may have written them.
    """
    known = _record(path).get(STEERED) or {"rows": [], "by": []}
    drawn = {*known["rows"]}
    others = [row for row in added if context_digest(row) not in drawn]
    return (set() if others else {*known["by"]}), others
