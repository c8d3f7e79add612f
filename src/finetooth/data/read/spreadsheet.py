"""Excel workbooks (.xlsx): one sheet with a header row, then one record per row."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from datetime import datetime, time
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

from finetooth.data.read.memory_limit import require_plausible
from finetooth.data.read.names import clean_name
from finetooth.data.read.table import RawRow, RejectedRow, Table, first_duplicate, json_error, to_json_value
from finetooth.errors import DataError

ENCRYPTED = b"\xd0\xcf\x11\xe0"


def read_spreadsheet(path: Path, name: str, content: bytes) -> Table:
    """The rows of a workbook's only sheet with cells; `line` is the row's number in the sheet.

    Of a formula, the value that was last computed is read. Dates are text as in ISO 8601. Raises DataError
    for a file that cannot be read, and for a workbook with several sheets.
    """
    title, rows = find_sheet(path, content)
    first = next(number for number, cells in rows if any(cell is not None for cell in cells))
    named = dict(rows)[first]
    width = max(column for column, cell in enumerate(named, 1) if cell is not None)
    header = [clean_name(str(_value(cell) or "")) or f"column {k}" for k, cell in enumerate(named[:width], 1)]
    duplicate = first_duplicate(header)
    if duplicate is not None:
        raise DataError(f"{path}: duplicate column {duplicate!r}. Rename one.")
    found: list[RawRow] = []
    rejected: list[RejectedRow] = []
    for number, cells in rows:
        if number <= first or all(cell is None for cell in cells):
            continue
        values = dict(zip(header, map(_value, cells), strict=False))
        beyond = next((k for k, cell in enumerate(cells[width:], width + 1) if cell is not None), None)
        reason = f"a value in column {beyond}, which has no name" if beyond else json_error(values)
        if reason:
            rejected.append(RejectedRow(name, number, reason, values))
        else:
            found.append(RawRow(number, values))
    notes = [f"{name}: sheet {title!r}."] if title != "Sheet1" else []
    return Table(name, found, header, rejected, notes)


def find_sheet(path: Path, content: bytes) -> tuple[str, list[tuple[int, tuple[Any, ...]]]]:
    """The title of the only sheet that has cells, and its rows with their numbers. Raises DataError."""
    import openpyxl
    from openpyxl.utils.exceptions import InvalidFileException

    if content.startswith(ENCRYPTED):
        raise DataError(
            f"{path}: protected by a password, or of an old version. Save it as .xlsx without one."
        )
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            require_plausible(path, sum(item.file_size for item in archive.infolist()), len(content))
        book = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True)
        sheets: dict[str, list[tuple[int, tuple[Any, ...]]]] = {}
        for sheet in book.worksheets:
            sheet.reset_dimensions()  # some programs write wrong ones
            rows = list(_rows(sheet))
            if any(cell is not None for _, cells in rows for cell in cells):
                sheets[sheet.title] = rows
        book.close()
    except (
        InvalidFileException,
        zipfile.BadZipFile,
        ParseError,
        KeyError,
        ValueError,
        TypeError,
        EOFError,
    ) as error:
        raise DataError(f"{path}: cannot be read as an Excel workbook: {str(error)[:200]}") from None
    if not sheets:
        raise DataError(f"{path}: the file is empty. Expected a header row, and one record per row.")
    if len(sheets) > 1:
        raise DataError(
            f"{path}: has {len(sheets)} sheets with cells: {', '.join(list(sheets)[:8])}. Save the one to "
            "read as a file of its own."
        )
    return next(iter(sheets.items()))


def _rows(sheet: Any) -> Iterator[tuple[int, tuple[Any, ...]]]:
    return enumerate(sheet.iter_rows(values_only=True), 1)


def _value(cell: Any) -> Any:
    """A cell as a JSON value. A day without a time is a date."""
    if isinstance(cell, datetime) and cell.time() == time(0):
        return cell.date().isoformat()
    return cell.isoformat(" ") if isinstance(cell, datetime) else to_json_value(cell)
