"""A CSV or TSV file with columns added: what is in it stays as it is, to the byte."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finetooth.data.read.delimited import BOM, MAX_FIELD, Layout
from finetooth.data.write.text import Cells, Text


def add_columns(path: Path, kind: str, text: Text, names: Sequence[str], cells: Mapping[int, Cells]) -> str:
    """The file's text with these columns at the end. cells: those of each row, by its first line.

    New cells are quoted where they have to be, or everywhere in a file that quotes its whole header. A line
    that is no row of the table is put, as it is, into the first cell of one.
    """
    limit = csv.field_size_limit(MAX_FIELD)
    try:
        return _added(path, kind, text, names, cells)
    finally:
        csv.field_size_limit(limit)


def _added(path: Path, kind: str, text: Text, names: Sequence[str], cells: Mapping[int, Cells]) -> str:
    lines, ends = text.lines()
    plain = [line.replace("\0", " ").removeprefix(BOM) for line in lines]  # as the reader has them
    layout = Layout.of(path, plain, kind)
    separator = f"{layout.separator} " if layout.spaced else layout.separator
    header = "\n".join(plain[layout.first - 1 : layout.last])
    quoted = header == separator.join(map(_quoted, layout.header))

    def added(values: Cells) -> str:
        return "".join(separator + _cell(text, value, layout.separator, quoted) for value in values)

    lines[layout.last - 1] += added(names)
    for (first, last), fields, _ in layout.records(plain):
        if first not in cells:
            continue
        if not fields:  # a line that could not be parsed
            lines[first - 1] = _quoted(lines[first - 1]) + separator * (len(layout.header) - 1)
        lines[last - 1] += added(cells[first])
    return "".join(line + end for line, end in zip(lines, ends, strict=True))


def _quoted(field: str) -> str:
    return f'"{field.replace(chr(34), chr(34) * 2)}"'


def _cell(text: Text, value: Any, separator: str, quoted: bool) -> str:
    """A value as a field: quoted where the separator, a quote, a line break or outer space stands in it."""
    field = text.writable("" if value is None else f"{value:g}" if isinstance(value, float) else str(value))
    needed = field != field.strip() or any(mark in field for mark in (separator, '"', "\n", "\r"))
    return _quoted(field) if quoted or needed else field
