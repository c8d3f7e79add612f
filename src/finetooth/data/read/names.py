"""Names of columns: without characters that cannot be seen, and compared as people read them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from finetooth.data.read.locations import location_in
from finetooth.data.read.sources import kind_of
from finetooth.data.read.table import RawRow, RejectedRow, Table, columns_of
from finetooth.data.unicode_forms import normal_form

REPEATED = "repeats the header"


def unseen(character: str) -> bool:
    """Whether a character shows nothing: white space, zero-width and other format characters, controls."""
    return character.isspace() or unicodedata.category(character) in ("Cf", "Cc")


def clean_name(name: str) -> str:
    """The name without the unseen characters at both ends; they are no part of it."""
    start, end = 0, len(name)
    while start < end and unseen(name[start]):
        start += 1
    while start < end and unseen(name[end - 1]):
        end -= 1
    return name[start:end]


def visible(text: str) -> str:
    """The text as it looks: without unseen characters, with one space for every run of white space."""
    return " ".join("".join(c for c in text if c.isspace() or not unseen(c)).split())


def folded_name(name: str) -> str:
    """A key that is the same for names that differ in case, plural, white space, `_` or unseen characters."""
    letters = "".join(c for c in normal_form("NFKC", name).casefold() if c.isalnum())
    if len(letters) > 4 and letters.endswith("ies"):
        return f"{letters[:-3]}y"
    return letters.removesuffix("s") if len(letters) > 3 else letters


def similar_names(columns: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Columns that have the same `folded_name` as a known name that is not a column itself -> that name."""
    columns = list(columns)
    keys = {folded_name(name): name for name in known if name not in columns}
    return {name: keys[folded_name(name)] for name in columns if folded_name(name) in keys}


def clean_columns(table: Table) -> Table:
    """The table with clean names, and without rows that repeat the header, as in files put together."""
    names = {name: clean_name(name) or name for name in table.columns}
    single = kind_of(Path(table.name)) in (".csv", ".tsv")
    renamed = any(name != clean for name, clean in names.items())
    rows: list[RawRow] = []
    rejected = list(table.rejected)
    repeated = 0
    for row in table.rows:
        values = (
            {names.get(name, name): value for name, value in row.values.items()} if renamed else row.values
        )
        reason = ""
        if len(values) < len(row.values):
            reason = "two columns have the same name but for white space or characters that cannot be seen"
        elif _is_header(values, single):
            reason, repeated = REPEATED, repeated + 1
        if reason:
            rejected.append(
                RejectedRow(
                    row.file or table.name, row.line, reason, dict(row.values), row.number, row.sheet_row
                )
            )
        else:
            rows.append(replace(row, values=values) if renamed else row)
    if len(rejected) == len(table.rejected) and not renamed:
        return table
    notes = list(table.notes)
    if repeated:
        one = next(row for row in rejected if row.reason == REPEATED)
        first = location_in(one.file, one.line, one.sheet_row)
        rows_set_aside = (
            f"{first} repeats the header and is"
            if repeated == 1
            else f"{repeated} rows repeat the header (the first: {first}) and are"
        )
        notes.append(f"{table.name}: {rows_set_aside} set aside, as in files put together.")
    columns = list(dict.fromkeys(names.values())) if rows else columns_of(rows) or list(names.values())
    return replace(table, rows=rows, columns=columns, rejected=rejected, notes=notes)


def _is_header(values: Mapping[str, Any], single: bool) -> bool:
    """Whether every cell is the name of its column.

    single: also of one column. Only a file with a header can repeat it; elsewhere the name may be a word.
    """
    return len(values) > (0 if single else 1) and all(
        isinstance(value, str) and clean_name(value) == name for name, value in values.items()
    )
