"""Files, lists of dicts and DataFrames become rows of named values. What is broken is set aside, with why.

Nothing is guessed: a line that does not parse is a broken row with its line number, never half a row.
"""

from __future__ import annotations

import csv
import json
import math
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetooth.errors import DataError

EXTENSIONS = (".jsonl", ".csv")
LONGEST_FIELD = 2**31 - 1  # the csv module's default refuses a field of 128 KiB; documents are longer
SHOWN = 500  # characters of a broken line that rejected.jsonl keeps
EXAMPLES = {
    ".jsonl": 'one JSON object a line, such as {"text": "...", "label": "..."}',
    ".csv": "a header line, such as text,label, and a row a line",
}


@dataclass(frozen=True, slots=True)
class RawRow:
    """Named values of one row. line: where it starts in its file, from 1 (of a list: index + 1)."""

    line: int
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that was set aside: a line of rejected.jsonl."""

    file: str
    line: int
    reason: str
    row: Any

    def to_json(self) -> dict[str, Any]:
        """The line of rejected.jsonl."""
        return {"file": self.file, "line": self.line, "reason": self.reason, "row": self.row}


@dataclass(frozen=True, slots=True)
class Table:
    """What a source holds. columns: in order of appearance; notes: what the user should know."""

    name: str
    rows: list[RawRow]
    columns: list[str]
    rejected: list[Rejected] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows) + len(self.rejected)


def read(source: Any) -> Table:
    """The rows of a .jsonl or .csv file, a list of dicts or a pandas DataFrame.

    Raises DataError when there is no such file, it is not one of these, or it has no rows at all. Broken rows
    are in `rejected`; whether there are too many is for the caller to say.
    """
    if not isinstance(source, str | Path):
        table = _from_memory(source)
    else:
        path = Path(source)
        content = _bytes(path)
        table = _jsonl(path.name, content) if path.suffix.lower() == ".jsonl" else _csv(path, content)
    if not len(table):
        raise DataError(f"{table.name}: no rows.")
    return table


def _bytes(path: Path) -> bytes:
    expected = f"Expected a {' or '.join(EXTENSIONS)} file."
    if path.is_dir():
        raise DataError(f"{path}: a directory. {expected}")
    if not path.exists():
        near = sorted(item.name for item in path.parent.glob("*") if item.suffix.lower() in EXTENSIONS)
        there = f" In {path.parent or '.'} there are: {', '.join(near[:5])}." if near else ""
        raise DataError(f"{path}: no such file. {expected}{there}")
    if path.suffix.lower() not in EXTENSIONS:
        raise DataError(f"{path}: the extension {path.suffix or '(none)'} is not known. {expected}")
    content = path.read_bytes()
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path}: saved as UTF-16. Save it as UTF-8.")
    content = content.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
    if b"\n" not in content:
        content = content.replace(b"\r", b"\n")
    if not content.strip():
        raise DataError(f"{path}: the file is empty. Expected {EXAMPLES[path.suffix.lower()]}.")
    return content


def _decode(line: bytes) -> tuple[str, str]:
    """The text of a line, and what is wrong with its bytes ('' when nothing is)."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        bad = f"0x{line[error.start]:02x} at byte {error.start + 1}"
        return line.decode("utf-8", "replace").replace("\0", " "), f"not UTF-8 ({bad})"
    return text.replace("\0", " "), "holds a NUL byte" if "\0" in text else ""


def _trouble(values: Any) -> str:
    """Why a row cannot be written as JSON again ('' when it can): NaN, infinity, half a surrogate pair."""
    try:
        json.dumps(values, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except UnicodeEncodeError:
        return "holds half of a surrogate pair, which is not text"
    except RecursionError:
        return "nested too deep"
    except ValueError:
        return "holds NaN or an infinite number"
    return ""


def _parse(text: str) -> tuple[dict[str, Any], str]:
    """The object of one JSON line, and why it is none ('' when it is one)."""
    try:
        value = json.loads(text)
    except RecursionError:
        return {}, "nested too deep"
    except ValueError as error:
        return {}, f"not valid JSON: {error}"
    if isinstance(value, list):
        return {}, "a JSON list; expected one JSON object a line"
    if not isinstance(value, dict):
        return {}, f"a JSON {type(value).__name__}; expected one JSON object a line"
    return value, _trouble(value)


def _jsonl(name: str, content: bytes) -> Table:
    rows: list[RawRow] = []
    rejected: list[Rejected] = []
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        text, reason = _decode(line)
        value, reason = _parse(text) if not reason else ({}, reason)
        if reason:
            rejected.append(Rejected(name, number, reason, text[:SHOWN]))
        else:
            rows.append(RawRow(number, value))
    return Table(name, rows, _columns(rows), rejected)


def _columns(rows: Sequence[RawRow]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row.values))


def _csv(path: Path, content: bytes) -> Table:
    """A CSV file, comma-separated, with a header. A record that does not parse costs its first line only."""
    limit = csv.field_size_limit(LONGEST_FIELD)
    try:
        return _csv_table(path, content)
    finally:
        csv.field_size_limit(limit)


def _csv_table(path: Path, content: bytes) -> Table:
    decoded = [_decode(line) for line in content.split(b"\n")]
    lines = [text for text, _ in decoded]
    records = _records(lines)
    header_at, header, wrong = next(records)
    if wrong:
        raise DataError(f"{path}, line {header_at[0]}: the header cannot be read: {wrong}.")
    _check_header(path, header)
    rows: list[RawRow] = []
    rejected: list[Rejected] = []
    spans: list[tuple[int, int]] = []
    for (start, end), fields, wrong in _records(lines, header_at[1], len(header)):
        reason = next((bad for _, bad in decoded[start - 1 : end] if bad), "") or wrong
        if reason:
            rejected.append(Rejected(path.name, start, reason, lines[start - 1][:SHOWN]))
            continue
        rows.append(RawRow(start, dict(zip(header, fields, strict=True))))
        if end > start:
            spans.append((start, end))
    notes = []
    if spans:
        start, end = max(spans, key=lambda span: span[1] - span[0])
        notes.append(
            f"{path.name}: {len(spans)} rows have line breaks inside quotes; "
            f"the longest is lines {start}-{end}."
        )
    return Table(path.name, rows, header, rejected, notes)


def _check_header(path: Path, header: list[str]) -> None:
    other = next((mark for mark in (";", "\t", "|") if len(header) == 1 and mark in header[0]), None)
    if other:
        raise DataError(
            f"{path}: the header {header[0]!r} is separated by {other!r}. Save the file separated by commas."
        )
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{path}: the column {twice!r} is there twice. Rename one.")


def _records(
    lines: Sequence[str], first: int = 0, width: int | None = None
) -> Iterator[tuple[tuple[int, int], list[str], str]]:
    """((first line, last line), fields, what is wrong) of each record after the first `first` lines.

    After a record that does not parse, or has not `width` fields, reading goes on at its second line, so that
    a stray quote does not swallow what follows.
    """
    while first < len(lines):
        reader = csv.reader((f"{lines[index]}\n" for index in range(first, len(lines))), strict=True)
        done = 0
        wrong = ""
        try:
            for fields in reader:
                if fields and width is not None and len(fields) != width:
                    wrong = f"{len(fields)} fields where the header has {width}"
                    break
                if fields:
                    yield (first + done + 1, first + reader.line_num), fields, ""
                done = reader.line_num
        except csv.Error as error:
            wrong = f"a stray quote: {error}"
        if not wrong:
            return
        first += done + 1
        yield (first, first), [], wrong


def _from_memory(source: Any) -> Table:
    """A list of dicts, or anything with pandas' to_dict; missing values (NaN) become None."""
    if hasattr(source, "to_dict") and not isinstance(source, Mapping):
        source = source.to_dict("records")
    if not isinstance(source, Sequence):
        raise DataError(
            f"Rows must be a file, a list of dicts or a DataFrame, found {type(source).__name__}."
        )
    rows: list[RawRow] = []
    rejected: list[Rejected] = []
    for number, item in enumerate(source, 1):
        if not isinstance(item, Mapping):
            reason = f"a {type(item).__name__}; expected a dict"
            rejected.append(Rejected("rows", number, reason, reprlib.repr(item)))
            continue
        try:
            values = {str(name): _plain(value) for name, value in item.items()}
            reason = _trouble(values)
        except RecursionError:
            reason = "nested too deep"
        if reason:
            text = reprlib.repr(item).encode("utf-8", "replace").decode()
            rejected.append(Rejected("rows", number, reason, text))
        else:
            rows.append(RawRow(number, values))
    return Table("rows", rows, _columns(rows), rejected)


def _plain(value: Any) -> Any:
    """Plain JSON values of what Python hands over: numpy scalars and arrays, NaN, dates."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    text = str(value)
    return None if text in ("NaT", "<NA>") else text
