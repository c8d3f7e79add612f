"""Reads a source (files, a list of dicts or a DataFrame) as tables of rows.

Nothing is guessed: a line that cannot be parsed is rejected with its line number, never read in part.
"""

from __future__ import annotations

import codecs
import gzip
import io
import re
import reprlib
import stat
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from finetooth.config.values import is_files, records
from finetooth.data.read.columnar import FORMAT_NAMES as COLUMNAR
from finetooth.data.read.columnar import read_columnar
from finetooth.data.read.delimited import decode, read_delimited
from finetooth.data.read.encodings import readings
from finetooth.data.read.json_files import LIST, json_lines, json_list
from finetooth.data.read.memory_limit import require_memory, require_plausible
from finetooth.data.read.names import clean_columns
from finetooth.data.read.sources import EXPECTED, find_files, kind_of
from finetooth.data.read.spreadsheet import read_spreadsheet
from finetooth.data.read.table import (
    SHOWN,
    TOO_DEEP,
    RawRow,
    RejectedRow,
    Table,
    columns_of,
    json_error,
    to_json_value,
)
from finetooth.errors import DataError

EXAMPLES = {
    ".jsonl": 'one JSON object per line, such as {"text": "...", "label": "..."}',
    ".json": LIST,
    ".csv": "a header line, such as text,label, and one row per line",
    ".tsv": "a header line, such as text and label with a tab between, and one row per line",
    ".txt": "documents separated by blank lines",
}
SHEETS = (".xls", ".ods")
WORKBOOK = ".xlsx"
SHEET = "a spreadsheet; save it as CSV (UTF-8) or .xlsx"
PAGE = "a web page, not data; download the file itself"
# File formats that are recognised by their first bytes although the name says something else.
SIGNATURES = (
    (
        b"PK\x03\x04",
        "a zip archive (unpack it) or a spreadsheet (name it .xlsx, or save it as CSV, UTF-8)",
    ),
    (b"\x1f\x8b", "compressed with gzip; give it a name that ends with .gz"),
    (b"PAR1\x15", "a Parquet file; give it a name that ends with .parquet"),
    (b"ARROW1\0\0", "an Arrow file; give it a name that ends with .arrow"),
    (b"\xd0\xcf\x11\xe0", SHEET),
    (b"%PDF", "a PDF; save its text"),
    (b"BZh91AY", "compressed with bzip2; unpack it"),
    (b"\xfd7zXZ", "compressed with xz; unpack it"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd; unpack it"),
    (b"SQLite format 3\0", "a SQLite database; export the table as CSV"),
    (b"version https", "a Git LFS pointer, not the file itself; fetch it with `git lfs pull`"),
    (b"<!DOCTYPE html", PAGE),
    (b"<!doctype html", PAGE),
    (b"<html", PAGE),
)
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is the beginning of this one
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
CHUNK = 2**24  # bytes decompressed at a time
BLANK = re.compile(rb"\n[ \t]*(?:\n[ \t]*)*\n")


def read(source: Any, encoding: str = "utf-8", side: str = "train") -> list[Table]:
    """The rows of a source: one table per file, or one for a list of dicts or a pandas DataFrame.

    source: the value of `data.train`. side: train, validation or test; selects files in a directory. Text
    files with one document each share a table. Raises DataError if something cannot be read or a table has
    no rows. Broken rows are in `rejected`; the caller decides whether there are too many.
    """
    if not isinstance(source, str | Path) and not is_files(source):
        tables = [from_memory(source)]
    else:
        files, notes = find_files(source, side)
        tables = [
            replace(read_file(file.path, file.name, encoding), weight=file.weight)
            for file in files
            if not file.document
        ]
        documents: dict[float, Table] = {}  # one table per loss weight
        for file in (file for file in files if file.document):
            table = documents.setdefault(file.weight, Table(file.name, [], ["text"], [], [], file.weight))
            try:
                one = read_file(file.path, file.name, encoding, document=True)
            except DataError as error:
                table.rejected.append(RejectedRow(file.name, 1, str(error), ""))
                continue
            table.rows.extend(replace(row, file=file.name) for row in one.rows)
            table.rejected.extend(one.rejected)
        tables += documents.values()
        tables[0].notes[:0] = notes
    empty = next((table for table in tables if not len(table)), None)
    if empty is not None:
        raise DataError(f"{empty.name}: no rows.")
    return [clean_columns(table) for table in tables]


def read_file(path: Path, name: str, encoding: str = "utf-8", document: bool = False) -> Table:
    """The rows of one file. name: what it is called in messages and tags.

    document: a .txt file is a single document; else blank lines separate its documents, or without blank
    lines each line is one. Raises DataError if the file as a whole cannot be read.
    """
    kind = kind_of(path)
    if not kind:
        sheet = f" It may be {SHEET}." if path.suffix.lower() in SHEETS else ""
        raise DataError(f"{path}: the extension {path.suffix or '(none)'} is not known. {EXPECTED}{sheet}")
    return read_content(path, name, kind, read_bytes(path), encoding, document)


def read_content(
    path: Path, name: str, kind: str, content: bytes, encoding: str = "utf-8", document: bool = False
) -> Table:
    """The rows in the decompressed bytes of a file; see `read_file`. kind: its extension."""
    if kind in COLUMNAR:
        return read_columnar(path, name, kind, content)
    if kind == WORKBOOK:
        return read_spreadsheet(path, name, content)
    known = next((what for start, what in SIGNATURES if content.startswith(start)), "")
    if known and not (kind == ".txt" and known == PAGE):
        raise DataError(f"{path}: the file is {known}.")
    content = _to_utf8(path, content, encoding)
    if not content.strip():
        raise DataError(f"{path}: the file is empty. Expected {EXAMPLES[kind]}.")
    if kind == ".txt":
        return _documents(name, content, document)
    if kind == ".json":
        return json_list(path, name, content)
    return json_lines(path, name, content) if kind == ".jsonl" else read_delimited(path, name, kind, content)


def encoding_of(path: Path, configured: str, some_broken: bool = False) -> str:
    """The encoding of a file that is given beside the task's own: UTF-8 where it is in it, as finetooth
    writes such files; otherwise `configured`, that of the task's files.

    ASCII alone is no sign of UTF-8: there are encodings of seven bits. Raises DataError for a CSV that should
    be UTF-8 and is not. some_broken: a few lines of it need not be, as they are rejected one by one.
    """
    content, kind = read_bytes(path), kind_of(path)
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        marked = any(content.startswith(mark) for mark, _ in BYTE_ORDER_MARKS)
        wanted = configured == "utf-8" and kind in (".csv", ".tsv") and not marked
        if wanted and not (some_broken and not readings(content)):
            raise DataError(
                f"{path}: not UTF-8. Save it again as CSV UTF-8, or as .xlsx, in the spreadsheet program."
            ) from None
        return configured
    json = kind in (".jsonl", ".json") and b"\x1b" not in content  # that begins a shift of ISO 2022
    seven_bits = content.isascii() and not json
    return configured if seven_bits or b"\0" in content else "utf-8"  # NUL: UTF-16 without a mark


def read_bytes(path: Path) -> bytes:
    """The bytes of a regular file, decompressed. A pipe is refused, as opening it would wait for a writer."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{path}: a pipe, socket or device. Save its content to a file first.")
        require_memory(path, status.st_size, "has")
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be opened: {error.strerror or error}.") from None
    if path.suffix.lower() != ".gz":
        return content
    chunks: list[bytes] = []
    size = 0
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            while chunk := file.read(CHUNK):
                chunks.append(chunk)
                size += len(chunk)
                require_plausible(path, size, len(content))  # a small file may unpack to any size
    except EOFError:
        raise DataError(f"{path}: the compressed file ends early. Copy or download it again.") from None
    except (OSError, zlib.error) as error:
        raise DataError(f"{path}: cannot be decompressed: {error}.") from None
    return b"".join(chunks)


def _to_utf8(path: Path, content: bytes, encoding: str) -> bytes:
    """The content as UTF-8 with line feeds. A byte-order mark overrides `encoding`.

    Bytes that are not UTF-8 are kept: `decode` reports them, and only their line is rejected.
    """
    mark, found = next(
        ((mark, name) for mark, name in BYTE_ORDER_MARKS if content.startswith(mark)), (b"", encoding)
    )
    if found == "utf-8":
        content = content.removeprefix(mark)
        start = content[:4096]
        even, odd = start[0::2].count(0), start[1::2].count(0)
        if max(even, odd) > 0.15 * len(start) and min(even, odd) < 0.03 * len(start):
            # In UTF-16, every other byte of most texts is NUL.
            name = "utf-16-le" if odd > even else "utf-16-be"
            raise DataError(
                f"{path}: looks like UTF-16 without a byte-order mark. Set `data.encoding: {name}`, "
                "or save it as UTF-8."
            )
        if found_readings := readings(content):
            ways = [
                f"{one.text()}. If that is right: `data.encoding: {one.encoding}`" for one in found_readings
            ]
            named = "\nOr as ".join(ways)
            raise DataError(f"{path}: not UTF-8. It reads well as {named}")
    else:
        try:
            content = content.decode(found).removeprefix("\ufeff").encode("utf-8", "surrogatepass")
        except UnicodeError as error:
            origin = "its byte-order mark" if mark else "data.encoding"
            raise DataError(f"{path}: not {found}, though {origin} says so: {error}.") from None
    content = content.replace(b"\r\n", b"\n")  # data/write/text.py splits lines alike
    return content if b"\n" in content else content.replace(b"\r", b"\n")


def _documents(name: str, content: bytes, whole: bool) -> Table:
    """Plain text: one document, or one per block between blank lines, or one per line without these."""
    rows: list[RawRow] = []
    rejected: list[RejectedRow] = []
    blocks = BLANK.search(content.strip(b"\n")) is not None
    gaps = [] if whole else [gap.span() for gap in (BLANK if blocks else re.compile(b"\n")).finditer(content)]
    at, line = 0, 1
    for end, following in [*gaps, (len(content), len(content))]:
        part = content[at:end]
        first = line + len(part) - len(part.lstrip(b"\n"))
        text, reason = decode(part.strip(b"\n"))
        if reason:
            rejected.append(RejectedRow(name, first, reason, text[:SHOWN]))
        elif text.strip():
            rows.append(RawRow(first, {"text": text}))
        line += content.count(b"\n", at, following)
        at = following
    how = "separated by blank lines" if blocks else "one per line, because there is no blank line"
    return Table(name, rows, ["text"], rejected, [] if whole else [f"{name}: {len(rows)} documents, {how}."])


def from_memory(source: Any) -> Table:
    """A list of dicts, or any object with pandas' to_dict; missing values (NaN) become None."""
    if hasattr(source, "to_dict") and not isinstance(source, Mapping):
        source = records(source)
    if not isinstance(source, Sequence):
        raise DataError(
            f"Rows must be a file, a list of dicts or a DataFrame, found {type(source).__name__}."
        )
    rows: list[RawRow] = []
    rejected: list[RejectedRow] = []
    for number, item in enumerate(source, 1):
        if not isinstance(item, Mapping):
            reason = f"a {type(item).__name__}; expected a dict"
            rejected.append(RejectedRow("rows", number, reason, reprlib.repr(item)))
            continue
        try:
            values = {str(name): to_json_value(value) for name, value in item.items()}
            reason = json_error(values)
        except RecursionError:
            reason = TOO_DEEP
        if reason:
            text = reprlib.repr(item).encode("utf-8", "replace").decode()
            rejected.append(RejectedRow("rows", number, reason, text))
        else:
            rows.append(RawRow(number, values))
    return Table("rows", rows, columns_of(rows), rejected)
