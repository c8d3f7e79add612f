"""CSV and TSV: a header, then a record a row. One that does not parse costs its own line and no other."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from finetooth.data.read.table import SHOWN, RawRow, RejectedRow, Table, repeated
from finetooth.errors import DataError

LONGEST_FIELD = 2**31 - 1  # the csv module's default refuses a field of 128 KiB; documents are longer
SHORT = 50  # lines of a record, where quotes have led astray before
SEPARATORS = {".csv": ",", ".tsv": "\t"}
SPOKEN = {",": "commas", ";": "semicolons", "\t": "tabs"}
# What a spreadsheet leaves in a cell: a formula that was not computed, or the name of its error.
FORMULA = re.compile(r"=[A-Za-z@+(-].*|#(?:REF!|NAME\?|VALUE!|DIV/0!|N/A|NULL!|NUM!)", re.DOTALL)

Record = tuple[tuple[int, int], list[str], str]


def decode(line: bytes) -> tuple[str, str]:
    """The text of a line, and what is wrong with its bytes ('' when nothing is)."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        bad = f"0x{line[error.start]:02x} at byte {error.start + 1}"
        return line.decode("utf-8", "replace").replace("\0", " "), f"not UTF-8 ({bad})"
    return text.replace("\0", " "), "holds a NUL byte" if "\0" in text else ""


def read_delimited(path: Path, name: str, kind: str, content: bytes) -> Table:
    """The table of a file of this kind (.csv or .tsv); content: UTF-8 with line feeds.

    Raises DataError when the header cannot be read.
    """
    limit = csv.field_size_limit(LONGEST_FIELD)
    try:
        return _table(path, name, SEPARATORS[kind], content)
    finally:
        csv.field_size_limit(limit)


def _table(path: Path, name: str, separator: str, content: bytes) -> Table:
    decoded = [decode(line) for line in content.split(b"\n")]
    lines = [text for text, _ in decoded]
    (first, last), header, wrong = next(_records(lines, separator))
    if separator == "," and len(header) == 1 and ";" in header[0] and not wrong:
        separator = ";"  # spreadsheets write it where the comma stands in numbers
        (first, last), header, wrong = next(_records(lines, separator))
    wrong = next((bad for _, bad in decoded[first - 1 : last] if bad), "") or wrong
    if wrong:
        raise DataError(f"{path}, line {first}: the header cannot be read: {wrong}.")
    _check_header(path, header, separator)
    # A sheet that was once wider leaves columns without a name.
    header = [name if name.strip() else f"column {k}" for k, name in enumerate(header, 1)]
    twice = repeated(header)
    if twice is not None:
        raise DataError(f"{path}: the column {twice!r} is there twice. Rename one.")
    rows: list[RawRow] = []
    rejected: list[RejectedRow] = []
    spans: list[tuple[int, int]] = []
    for (start, end), fields, wrong in _records(lines, separator, last, len(header)):
        reason = next((bad for _, bad in decoded[start - 1 : end] if bad), "") or wrong
        if reason:
            rejected.append(RejectedRow(name, start, reason, lines[start - 1][:SHOWN]))
            continue
        rows.append(RawRow(start, dict(zip(header, fields, strict=True))))
        if end > start:
            spans.append((start, end))
    return Table(name, rows, header, rejected, _notes(name, rows, spans))


def _notes(name: str, rows: Sequence[RawRow], spans: Sequence[tuple[int, int]]) -> list[str]:
    notes = []
    if spans:
        start, end = max(spans, key=lambda span: span[1] - span[0])
        notes.append(
            f"{name}: {len(spans)} rows have line breaks inside quotes; the longest is lines {start}-{end}."
        )
    formulas = [(row.line, cell) for row in rows for cell in row.values.values() if FORMULA.fullmatch(cell)]
    if formulas:
        line, cell = formulas[0]
        notes.append(
            f"{name}: {len(formulas)} cells look like formulas or errors of a spreadsheet and are kept as "
            f"text; the first is {cell[:60]!r} in line {line}."
        )
    return notes


def _check_header(path: Path, header: list[str], separator: str) -> None:
    if header[0].lstrip().startswith(('{"', "[{")):
        raise DataError(f"{path}: looks like JSON. Give it a name that ends with .jsonl or .json.")
    others = (mark for mark in (",", ";", "\t", "|") if mark != separator)
    other = next((mark for mark in others if len(header) == 1 and mark in header[0]), None)
    if other:
        rename = f", or name it {path.with_suffix('.tsv').name}" if (separator, other) == (",", "\t") else ""
        raise DataError(
            f"{path}: the header {header[0][:SHOWN]!r} is separated by {other!r}. Save the file separated by "
            f"{SPOKEN[separator]}{rename}."
        )


class _Ahead:
    """The lines from `done` on. Of a record that is not whole after `reach` lines, no more are handed out.

    at: how many lines of the file are handed out; done: how many of them belong to whole records.
    """

    def __init__(self, lines: Sequence[str], done: int, reach: int) -> None:
        self.lines, self.at, self.done, self.reach = lines, done, done, reach

    def __iter__(self) -> _Ahead:
        return self

    def __next__(self) -> str:
        if self.at >= min(len(self.lines), self.done + self.reach):
            raise StopIteration
        self.at += 1
        return f"{self.lines[self.at - 1]}\n"


def _records(
    lines: Sequence[str], separator: str, first: int = 0, width: int | None = None
) -> Iterator[Record]:
    """((first line, last line), fields, what is wrong) of each record after the first `first` lines.

    After a record that does not parse, or has not `width` fields, reading goes on at its second line, so that
    a stray quote does not swallow what follows. Between tabs a stray quote is only a character: most programs
    that write them do not quote. Where quotes have led astray over many lines, records may only be short, so
    that the time stays in proportion to the file.
    """
    wasted = 0
    while first < len(lines):
        ahead = _Ahead(lines, first, len(lines) if wasted < 4 * len(lines) + 10_000 else SHORT)
        wrong = ""
        try:
            for fields in csv.reader(ahead, strict=True, delimiter=separator):
                if fields and width is not None:
                    wrong = _misfit(fields, lines[ahead.done : ahead.at], separator, width)
                if wrong:
                    break
                if fields:
                    yield (ahead.done + 1, ahead.at), fields, ""
                ahead.done = ahead.at
        except csv.Error as error:
            wrong = f"a stray quote: {error}"
        if not wrong:
            return
        wasted += ahead.at - ahead.done
        first = ahead.done + 1
        literal = lines[first - 1].split(separator) if separator == "\t" else []
        kept = bool(literal) and len(literal) == width
        yield (first, first), literal if kept else [], "" if kept else wrong


def _misfit(fields: Sequence[str], lines: Sequence[str], separator: str, width: int) -> str:
    """Why what was read of these lines is not one record of `width` fields; "" when it is."""
    if len(fields) != width:
        return f"{len(fields)} fields where the header has {width}"
    alone = separator == "\t" and width > 1 and len(lines) > 1
    if alone and all(line.count(separator) == width - 1 for line in lines):
        return "stray quotes: each line is a row of its own"
    return ""
