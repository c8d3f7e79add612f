"""CSV and TSV files: a header, then one record per row. A broken record costs only its own line."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from finetooth.data.read.names import clean_name
from finetooth.data.read.table import SHOWN, RawRow, RejectedRow, Table, first_duplicate
from finetooth.errors import DataError

MAX_FIELD = 2**31 - 1  # the csv module's default limit of 128 KiB is too small for documents
MAX_WASTED_LINES = 50  # lines per record once stray quotes have made the parser read many lines in vain
SAMPLED_RECORDS = 200
BOM = "\ufeff"
USUAL = {
    "id",
    "text",
    "label",
    "question",
    "answer",
    "prompt",
    "completion",
    "response",
    "messages",
    "system",
}
SEPARATORS = {".csv": ",", ".tsv": "\t"}
SEPARATOR_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs"}
# The first line of a file that Excel is to split at this character.
HINT = re.compile(r"[\"']?sep=(\t|\\t|[^\w\s\"'])[\"']? *", re.IGNORECASE)
# What a spreadsheet may leave in a cell: a formula that was not computed, or an error code.
FORMULA = re.compile(r"=[A-Za-z@+(-].*|#(?:REF!|NAME\?|VALUE!|DIV/0!|N/A|NULL!|NUM!)", re.DOTALL)

Record = tuple[tuple[int, int], list[str], str]


def decode(line: bytes) -> tuple[str, str]:
    """The text of a line, and what is wrong with its bytes ('' if nothing is)."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        bad = f"0x{line[error.start]:02x} at byte {error.start + 1}"
        return line.decode("utf-8", "replace").replace("\0", " "), f"not UTF-8 ({bad})"
    return text.replace("\0", " "), "contains a NUL byte" if "\0" in text else ""


def read_delimited(path: Path, name: str, kind: str, content: bytes) -> Table:
    """The table of a .csv or .tsv file. content: UTF-8 with line feeds.

    Raises DataError if the header cannot be read.
    """
    limit = csv.field_size_limit(MAX_FIELD)
    try:
        return _table(path, name, kind, content)
    finally:
        csv.field_size_limit(limit)


@dataclass(frozen=True, slots=True)
class Layout:
    """How a file is written. header: its names as they are. last: the header's last line, from 1; its first
    is `first`. spaced: a space follows every separator, and quotes begin after it. error: why the header
    cannot be read.
    """

    separator: str
    spaced: bool
    first: int
    last: int
    header: list[str]
    error: str

    @classmethod
    def of(cls, path: Path, lines: Sequence[str], kind: str) -> Layout:
        """The layout of a .csv or .tsv file. Raises DataError if its separator cannot be told."""
        hint = HINT.fullmatch(lines[0])
        above = 1 if hint else 0  # lines before the header
        separator = hint[1].replace("\\t", "\t") if hint else _separator(path, lines, SEPARATORS[kind])
        if not any(map(str.strip, lines[above:])):
            raise DataError(f"{path}: no header and no rows below {lines[0]!r}.")
        (first, last), header, error = next(records(lines, separator, above))
        # Where a space follows every separator of the header, quotes begin after it: `"text", "label"`.
        spaced = len(header) > 1 and all(column.startswith(" ") for column in header[1:])
        if spaced:
            (first, last), header, error = next(records(lines, separator, above, spaced=True))
        return cls(separator, spaced, first, last, header, error)

    def records(self, lines: Sequence[str]) -> Iterator[Record]:
        """The records behind the header; see `records`."""
        return records(lines, self.separator, self.last, len(self.header), self.spaced)


def _table(path: Path, name: str, kind: str, content: bytes) -> Table:  # long: header, rows, notes
    decoded = [decode(line) for line in content.split(b"\n")]
    marked = sum(text.startswith(BOM) for text, _ in decoded)
    lines = [text.removeprefix(BOM) for text, _ in decoded]
    if lines[0].lstrip().startswith(('{"', "[{")):
        raise DataError(f"{path}: looks like JSON. Give it a name that ends with .jsonl or .json.")
    layout = Layout.of(path, lines, kind)
    first, last, header = layout.first, layout.last, layout.header
    error = next((bad for _, bad in decoded[first - 1 : last] if bad), "") or layout.error
    if error:
        raise DataError(f"{path}, line {first}: the header cannot be read: {error}.")
    _check_header(path, header, layout.separator)
    # A sheet that used to be wider leaves columns without a name.
    header = [clean_name(column) or f"column {k}" for k, column in enumerate(header, 1)]
    duplicate = first_duplicate(header)
    if duplicate is not None:
        raise DataError(f"{path}: duplicate column {duplicate!r}. Rename one.")
    rows: list[RawRow] = []
    rejected: list[RejectedRow] = []
    spans: list[tuple[int, int]] = []  # (lines, row of the sheet)
    hidden = last - first + bool(HINT.fullmatch(lines[0]))  # lines so far that are no row of a spreadsheet
    for (start, end), fields, error in layout.records(lines):
        above, hidden = hidden, hidden + end - start
        reason = next((bad for _, bad in decoded[start - 1 : end] if bad), "") or error
        if fields and clean_name(fields[0]) in header and _is_another_header(fields, header):
            raise DataError(
                f"{path}, row {start - above}: the header again, with its columns in another order: files "
                "were put together. Split the file there, and name both files in data.train."
            )
        if reason:
            rejected.append(
                RejectedRow(name, start, reason, lines[start - 1][:SHOWN], sheet_row=start - above)
            )
            continue
        values = dict(zip(header, fields, strict=True))
        rows.append(RawRow(start, values, sheet_row=start - above if above else 0))
        if end > start:
            spans.append((end - start + 1, start - above))
    notes = []
    if marked:
        notes.append(f"{name}: byte-order marks at the start of {marked} later lines are removed.")
    if spans:
        most, row = max(spans, key=lambda span: span[0])
        notes.append(
            f"{name}: {len(spans)} rows have line breaks inside quotes; the longest, row {row}, has "
            f"{most} lines."
        )
    formulas = [(one, cell) for one in rows for cell in one.values.values() if FORMULA.fullmatch(cell)]
    if formulas:
        one, cell = formulas[0]
        notes.append(
            f"{name}: {len(formulas)} cells look like spreadsheet formulas or errors and are kept as text; "
            f"the first is {cell[:60]!r} in row {one.sheet_row or one.line}."
        )
    return Table(name, rows, header, rejected, notes)


def _separator(path: Path, lines: Sequence[str], separator: str) -> str:
    """The separator of a .csv file: a comma, or a semicolon, as spreadsheets write in many locales.

    Where the header has both, the rows decide, then usual names of columns. Raises DataError if none does.
    """
    if separator != ",":
        return separator
    headers: dict[str, list[str]] = {}
    for mark in ",;":
        _, header, error = next(records(lines, mark))
        headers[mark] = header if not error else []
    if min(map(len, headers.values())) <= 1:
        return ";" if len(headers[";"]) > 1 else ","
    fits: dict[str, float] = {}
    for mark, header in headers.items():
        found = list(islice(records(lines, mark), 1, 1 + SAMPLED_RECORDS))
        fits[mark] = sum(not error and len(fields) == len(header) for _, fields, error in found)
        fits[mark] /= max(len(found), 1)
    known = {mark: sum(clean_name(name) in USUAL for name in header) for mark, header in headers.items()}
    for one in (fits, known):
        if one[","] != one[";"]:
            return max(one, key=lambda mark: one[mark])
    if re.search(r",\s", lines[0]) and not re.search(r";\s", lines[0]):
        return ";"  # the commas are part of a name, as in `text, original;label`
    raise DataError(
        f"{path}: the header {lines[0][:SHOWN]!r} can be split at commas and at semicolons, and the rows fit "
        "both. Put names that hold one of them in quotes."
    )


def _is_another_header(fields: list[str], header: list[str]) -> bool:
    """Whether these are the names of the header in another order."""
    names = [clean_name(field) for field in fields]
    return names != header and sorted(names) == sorted(header)


def _check_header(path: Path, header: list[str], separator: str) -> None:
    """Raise DataError for a header that another character separates."""
    others = (mark for mark in (",", ";", "\t", "|") if mark != separator)
    other = next((mark for mark in others if len(header) == 1 and mark in header[0]), None)
    if other:
        rename = f", or name it {path.with_suffix('.tsv').name}" if (separator, other) == (",", "\t") else ""
        raise DataError(
            f"{path}: the header {header[0][:SHOWN]!r} is separated by {other!r}. Save the file separated by "
            f"{SEPARATOR_NAMES.get(separator, repr(separator))}{rename}."
        )


class _LineFeed:
    """Iterator over lines for csv.reader that ends when a record is not complete after `limit` lines.

    at: number of lines read; done: number of lines that belong to complete records.
    """

    def __init__(self, lines: Sequence[str], done: int, limit: int) -> None:
        self.lines, self.at, self.done, self.limit = lines, done, done, limit

    def __iter__(self) -> _LineFeed:
        return self

    def __next__(self) -> str:
        if self.at >= min(len(self.lines), self.done + self.limit):
            raise StopIteration
        self.at += 1
        return f"{self.lines[self.at - 1]}\n"


def records(
    lines: Sequence[str], separator: str, first: int = 0, width: int | None = None, spaced: bool = False
) -> Iterator[Record]:
    """((first line, last line), fields, error) of each record after the first `first` lines.

    After a record that cannot be parsed, or does not have `width` fields, parsing resumes at its second line,
    so that a stray quote does not swallow what follows. In a TSV file a stray quote is a plain character, as
    most programs that write TSV do not quote. After many lines wasted by stray quotes, records may only be
    short, so that the run time stays linear in the file size. spaced: spaces after a separator are not read.
    """
    wasted = 0
    while first < len(lines):
        feed = _LineFeed(lines, first, len(lines) if wasted < 4 * len(lines) + 10_000 else MAX_WASTED_LINES)
        error = ""
        try:
            for fields in csv.reader(feed, strict=True, delimiter=separator, skipinitialspace=spaced):
                if fields and width is not None:
                    span = lines[feed.done : feed.at]
                    multiline_tsv = separator == "\t" and width > 1 and len(span) > 1
                    if len(fields) != width:
                        error = f"{len(fields)} fields where the header has {width}"
                    elif multiline_tsv and all(line.count(separator) == width - 1 for line in span):
                        error = "stray quotes: each line is a row of its own"
                if error:
                    break
                if fields:
                    yield (feed.done + 1, feed.at), fields, ""
                feed.done = feed.at
        except csv.Error as problem:
            error = f"a stray quote: {problem}"
        if not error:
            return
        wasted += feed.at - feed.done
        first = feed.done + 1
        literal = lines[first - 1].split(separator) if separator == "\t" else []
        valid = bool(literal) and len(literal) == width
        yield (first, first), literal if valid else [], "" if valid else error
