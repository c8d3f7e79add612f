"""Change sets as sheets (.csv, .tsv, .xlsx): cells that spreadsheet programs show and do not evaluate.

A cell that begins with = + - or @ is a formula to Excel and LibreOffice, whatever quotes are around it in the
file, and rows of a pool are texts by others. Such a cell is written with an apostrophe before it, which
reading takes off. So that every text is read as it was, one that begins with apostrophes and goes on like a
formula gets another one. Only sheets with the column `finetooth_change` are read so: in a person's own file
an apostrophe is part of the text.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Literal

from finetooth.data.read.files import WORKBOOK
from finetooth.data.read.names import unseen
from finetooth.data.read.sources import kind_of
from finetooth.data.read.table import Table, first_duplicate
from finetooth.errors import DataError

Kind = Literal["add", "correct", "remove"]
KINDS: tuple[Kind, ...] = ("add", "correct", "remove")
CHANGE, ROW, WHY = "finetooth_change", "finetooth_row", "finetooth_why"
GUARD = "'"
SHEETS = (".csv", ".tsv", WORKBOOK)
_BEGINS = "=+-@＝＋－＠"  # full-width ones count where a program reads them as the others
_NUMBER = re.compile(r"-(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")  # as in JSON: shown as it is


def guarded(text: str) -> str:
    """The text of a cell as it is written: no program evaluates it."""
    return GUARD + text if _is_live(text.lstrip(GUARD)) else text


def unguarded(text: str) -> str:
    """The inverse of `guarded`; a text without a guard is returned as it is."""
    return text[1:] if text.startswith(GUARD) and _is_live(text.lstrip(GUARD)) else text


def read_guarded(table: Table) -> Table:
    """The table of a change set without the guards; any other table as it is.

    Raises DataError where two columns then have the same name.
    """
    if CHANGE not in table.columns or kind_of(Path(table.name)) not in SHEETS:
        return table
    names = {name: unguarded(name) for name in table.columns}
    if (duplicate := first_duplicate(names.values())) is not None:
        raise DataError(f"{table.name}: duplicate column {duplicate!r}. Rename one.")
    rows = [
        replace(
            row,
            values={
                names[name]: unguarded(value) if isinstance(value, str) else value
                for name, value in row.values.items()
            },
        )
        for row in table.rows
    ]
    return replace(table, rows=rows, columns=list(names.values()))


def _is_live(text: str) -> bool:
    """Whether a program may evaluate this cell. Tabs and line breaks may also end the cell before it."""
    if text.startswith(("\t", "\r", "\n")):
        return True
    first = next((character for character in text if not unseen(character)), "")
    return bool(first) and first in _BEGINS and not _NUMBER.fullmatch(text)
