"""Excel workbooks with columns added to their sheet; cells, formats and formulas stay, charts do not."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from finetooth.data.read.spreadsheet import find_sheet
from finetooth.data.write.text import Cells


def add_columns(path: Path, content: bytes, names: Sequence[str], cells: Mapping[int, Cells]) -> bytes:
    """The workbook with these columns behind all others. cells: those of each row, by its number."""
    import openpyxl
    from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

    title, rows = find_sheet(path, content)
    filled = [(number, row) for number, row in rows if any(cell is not None for cell in row)]
    last = max(column for _, row in filled for column, cell in enumerate(row, 1) if cell is not None)
    book = openpyxl.load_workbook(io.BytesIO(content), rich_text=True)
    sheet = book[title]
    for number, values in {filled[0][0]: names, **cells}.items():
        for column, value in enumerate(values, last + 1):
            if isinstance(value, str):
                text = ILLEGAL_CHARACTERS_RE.sub("\N{REPLACEMENT CHARACTER}", value)
                sheet.cell(number, column, text).data_type = "s"  # also where it looks like a formula
            elif value is not None:
                sheet.cell(number, column, value)
    target = io.BytesIO()
    book.save(target)
    return target.getvalue()
