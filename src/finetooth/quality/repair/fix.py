"""`check --fix`: the user's rows with edits done, in new files, each with a patch: what each row was before.

The files that the user has are read and never written. What an edit is about is found by reading the files
again: ids are given to rows in the same way each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from finetooth.config.task import DataConfig
from finetooth.config.values import DATA_FILES
from finetooth.data.examples import with_ids
from finetooth.data.formats.parse import parse
from finetooth.data.read.files import read
from finetooth.data.read.table import RawRow, Table
from finetooth.data.split import SIDES
from finetooth.errors import DataError
from finetooth.quality.findings import Edit
from finetooth.quality.repair.clean import TEXT, map_text
from finetooth.rundir import write_jsonl

# Columns that say which rows belong together; a changed text there would move rows.
_KEPT = ("id", "group", "weight")
_KEPT_INSIDE = ("role", "from", "id", "tool_call_id", "type", "name")  # keys of messages and of calls


@dataclass(frozen=True, slots=True)
class FixedFile:
    """A file that was fixed. source: the file's name; fixed, patch: what was written; dropped, changed: rows;
    left_out: rows of the source that could not be read, which the new file has not.
    """

    source: str
    side: str
    fixed: Path
    patch: Path
    dropped: int
    changed: int
    left_out: int


def fix(config: DataConfig, edits: Sequence[Edit], folder: Path) -> list[FixedFile]:
    """Write NAME.fixed.jsonl and NAME.patch.jsonl into a folder for each file that an edit is about.

    The new file is JSONL in UTF-8 (data.encoding no longer applies) with the rows' own keys in their order. A
    line of the patch is a change: file, line, row (its number in the source, from 1), id, operation, before,
    after; after is null for a dropped row. The patch holds the values as they were, personal data
    too. Raises DataError when an edit is of no row, or rather than overwrite a file; then nothing is written.
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
            f"There is no row {next(iter(wanted))!r} in the data: it was changed since the check."
        )
    _write(planned)
    return [fixed for fixed, _, _ in planned]


def _write(planned: Sequence[tuple[FixedFile, list[Mapping[str, Any]], list[dict[str, Any]]]]) -> None:
    """All of the files, or none."""
    for one, _, _ in planned:
        for path in (one.fixed, one.patch):
            if path.exists() or path.is_symlink():
                raise DataError(f"{path}: is there already, and is not overwritten. Move it or delete it.")
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
    """Every table with its side and the ids of its rows' examples, by the number of the row from 0."""
    tables: list[list[Table]] = []
    sides: list[str] = []
    for side in SIDES:
        source = getattr(config, side)
        if not isinstance(source, float):
            tables.append(read(source, config.encoding, side))
            sides.append(side)
    parsed = [[parse(_numbered(table), config, config.format).examples for table in of] for of in tables]
    named = with_ids([[example for examples in of for example in examples] for of in parsed])
    for side, of, parts, examples in zip(sides, tables, parsed, named, strict=True):
        at = 0
        for table, part in zip(of, parts, strict=True):
            yield side, table, {example.tags["line"]: example.id for example in examples[at : at + len(part)]}
            at += len(part)


def _numbered(table: Table) -> Table:
    """The table with the rows' numbers for lines: several rows of a JSON list may be on one line."""
    return replace(table, rows=[replace(row, line=number) for number, row in enumerate(table.rows)])


def _edited(
    table: Table, ids: Mapping[int, str], edits: Mapping[int, Sequence[Edit]], config: DataConfig
) -> tuple[list[Mapping[str, Any]], list[dict[str, Any]]]:
    """The rows after the edits, and the lines of the patch. A row that is dropped is not changed as well."""
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
    """The columns that a text operation changes, with what it makes of them."""
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
    """A name for the new files: the source's without its ending; with more where two would be the same."""
    plain = source.replace("/", "-").replace("\\", "-")
    stem = plain.lower().removesuffix(".gz")
    ending = next((ending for ending in DATA_FILES if stem.endswith(ending)), "")
    short = plain[: len(stem) - len(ending)] if stem != ending else plain
    name = next(name for name in (short, plain, f"{side}-{plain}") if name.lower() not in taken)
    taken.add(name.lower())
    return name
