"""Where a row stands, as the program shows it in which its user opens the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finetooth.data.read.sources import kind_of
from finetooth.data.read.table import RawRow, RejectedRow

SHEETS = (".csv", ".tsv", ".xlsx")


def location_in(file: str, line: Any, sheet_row: Any = 0) -> str:
    """`row 5` in a sheet, whose header is row 1 and where a row with line breaks counts once; else `line 7`.

    line, sheet_row: as in RawRow.
    """
    return f"row {sheet_row or line}" if kind_of(Path(file)) in SHEETS else f"line {line}"


def location(file: str, line: Any, sheet_row: Any = 0, id: str = "") -> str:
    """The same with the file, and with the row's own id where it has one: `T-31 (mails.csv, row 5)`."""
    place = f"{file}, {location_in(file, line, sheet_row)}"
    return f"{id} ({place})" if id else place


def rejected_location(row: RejectedRow) -> str:
    """The location of a row that was set aside."""
    return location(row.file, row.line, row.sheet_row, row.id)


def rejected_line(row: RejectedRow) -> dict[str, Any]:
    """The line of rejected.jsonl."""
    return {**row.to_json(), "place": rejected_location(row)}


def location_of(row: RawRow | RejectedRow, file: str, id: str = "") -> str:
    """The location of a row in its file, for a message that has named the file: `T-31 (row 5)`."""
    place = location_in(row.file or file, row.line, row.sheet_row)
    return f"{id} ({place})" if id else place
