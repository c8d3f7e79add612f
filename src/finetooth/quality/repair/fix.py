"""`check --fix`: writes edited copies of the user's files, each with a patch that records the changes.

The user's own files are only read, never written. They are read again to locate the edited rows, since row
ids are assigned in the same way every time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path
from typing import Any

from finetooth.config.task import DataConfig
from finetooth.config.values import DATA_FILES
from finetooth.data.examples import with_ids
from finetooth.data.formats.columns import ColumnPlan
from finetooth.data.formats.parse import parse
from finetooth.data.read.files import read
from finetooth.data.read.table import RawRow, Table
from finetooth.data.split import SIDES
from finetooth.errors import DataError
from finetooth.quality.findings import Edit
from finetooth.quality.repair.clean import TEXT, map_text
from finetooth.rundir import write_jsonl

# Identifying and grouping columns: a change there would move rows to another side of the split.
_KEPT = ("id", "group", "weight")
_KEPT_INSIDE = ("role", "from", "id", "tool_call_id", "type", "name")  # keys of messages and tool calls


@dataclass(frozen=True, slots=True)
class FixedFile:
    """A fixed file. source: name of the original; fixed, patch: the files written; dropped, changed: rows;
    left_out: unreadable rows of the source, which the new file does not contain.
    """

    source: str
    side: str
    fixed: Path
    patch: Path
    dropped: int
    changed: int
    left_out: int


def fix(config: DataConfig, edits: Sequence[Edit], folder: Path) -> list[FixedFile]:
    """Write NAME.fixed.jsonl and NAME.patch.jsonl into a folder for each file with edits.

    The new file is JSONL in UTF-8 (data.encoding no longer applies) and keeps the keys of the rows in order.
    Each line of the patch is a change: file, line, row (number in the source, from 1), id, operation, before,
    after (null for a dropped row). The patch holds the original values, including personal data. Raises
    DataError if an edit matches no row or a file already exists; then nothing is written.
    """
    planned: list[tuple[FixedFile, list[Mapping[str, Any]], list[dict[str, Any]]]] = []
    wanted: dict[str, list[Edit]] = {}
    for edit in edits:
        wanted.setdefault(edit.id, []).append(edit)
    taken: set[str] = set()
    for side, table, ids in _identified(config):
        mine = {row: wanted.pop(id) for row, id in ids.items() if id in wanted}
        if not mine:
            continue
        rows, patch = _edited(table, ids, mine, config)
        name = _name(table.name, side, taken)
        dropped = sum(line["operation"] == "drop" for line in patch)
        changed = len({line["row"] for line in patch if line["operation"] != "drop"})
        paths = folder / f"{name}.fixed.jsonl", folder / f"{name}.patch.jsonl"
        if patch:
            planned.append(
                (FixedFile(table.name, side, *paths, dropped, changed, len(table.rejected)), rows, patch)
            )
    if wanted:
        raise DataError(
            f"There is no row {next(iter(wanted))!r} in the data: the data changed since the check. Run it "
            "again."
        )
    _write(planned)
    return [fixed for fixed, _, _ in planned]


def _write(planned: Sequence[tuple[FixedFile, list[Mapping[str, Any]], list[dict[str, Any]]]]) -> None:
    """Write all files or none."""
    for one, _, _ in planned:
        for path in (one.fixed, one.patch):
            if path.exists() or path.is_symlink():
                raise DataError(f"{path}: already exists and is not overwritten. Move or delete it first.")
    written: list[Path] = []
    try:
        for one, rows, patch in planned:
            for path, lines in ((one.patch, patch), (one.fixed, rows)):
                written.append(path)
                write_jsonl(path, lines)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise


def _identified(config: DataConfig) -> Iterator[tuple[str, Table, dict[int, str]]]:
    """(side, table, {row number from 0: example id}) for every table."""
    tables: list[list[Table]] = []
    sides: list[str] = []
    for side in SIDES:
        source = getattr(config, side)
        if not isinstance(source, float):
            tables.append(read(source, config.encoding, side))
            sides.append(side)
    plan = ColumnPlan.of([table for of in tables for table in of], config.columns)
    parsed = [
        [parse(_numbered(table), config, config.format, plan).examples for table in of] for of in tables
    ]
    named = with_ids([[example for examples in of for example in examples] for of in parsed])
    for side, of, parts, examples in zip(sides, tables, parsed, named, strict=True):
        at = 0
        for table, part in zip(of, parts, strict=True):
            yield side, table, {example.tags["line"]: example.id for example in examples[at : at + len(part)]}
            at += len(part)


def _numbered(table: Table) -> Table:
    """The table with row numbers in place of lines, as several rows of a JSON list may share a line."""
    return replace(table, rows=[replace(row, line=number) for number, row in enumerate(table.rows)])


def _edited(
    table: Table, ids: Mapping[int, str], edits: Mapping[int, Sequence[Edit]], config: DataConfig
) -> tuple[list[Mapping[str, Any]], list[dict[str, Any]]]:
    """The rows after the edits, and the lines of the patch. Dropped rows get no other edit."""
    rows: list[Mapping[str, Any]] = []
    patch: list[dict[str, Any]] = []
    for number, row in enumerate(table.rows):
        here = {
            "file": row.file or table.name,
            "line": row.line,
            "row": number + 1,
            "id": ids.get(number, ""),
        }
        todo = edits.get(number, ())
        if any(edit.kind == "drop" for edit in todo):
            patch.append({**here, "operation": "drop", "before": dict(row.values), "after": None})
            continue
        values = dict(row.values)
        for name in dict.fromkeys(edit.operation for edit in todo):
            after = _changes(replace(row, values=values), name, config)
            if after:
                before = {column: values[column] for column in after}
                values |= after
                patch.append({**here, "operation": name, "before": before, "after": after})
        rows.append(values)
    return rows, patch


def _changes(row: RawRow, name: str, config: DataConfig) -> dict[str, Any]:
    """The columns that a text operation changes, with their new values."""
    operation: Callable[[str], str] = TEXT[name]
    found = {}
    for column, value in row.values.items():
        canonical = config.columns.get(column, column)
        if canonical in _KEPT or column == config.group or (canonical == "label" and name == "mask_pii"):
            continue
        new = map_text(value, operation, _KEPT_INSIDE)
        if new != value:
            found[column] = new
    return found


def _name(source: str, side: str, taken: set[str]) -> str:
    """A unique name for the new files: the source's without extension, or a longer form if taken."""
    plain = source.replace("/", "-").replace("\\", "-")
    stem = plain.lower().removesuffix(".gz")
    ending = next((ending for ending in DATA_FILES if stem.endswith(ending)), "")
    short = plain[: len(stem) - len(ending)] if stem != ending else plain
    numbered = (f"{side}-{plain}-{number}" for number in count(2))
    names = chain((short, plain, f"{side}-{plain}"), numbered)
    name = next(name for name in names if name.lower() not in taken)
    taken.add(name.lower())
    return name
