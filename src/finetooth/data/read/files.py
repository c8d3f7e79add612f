"""The contents of one file as a table, for every kind of file; whatever cannot be read says why, once."""

from __future__ import annotations

import codecs
import gzip
import io
import re
import stat
import zlib
from pathlib import Path

from finetooth.config.values import DATA_FILES
from finetooth.data.read.columnar import SPOKEN as COLUMNAR
from finetooth.data.read.columnar import read_columnar
from finetooth.data.read.delimited import decode, read_delimited
from finetooth.data.read.json_files import LIST, json_lines, json_list
from finetooth.data.read.memory_limit import require_memory
from finetooth.data.read.table import SHOWN, RawRow, RejectedRow, Table
from finetooth.errors import DataError

EXPECTED = f"Expected a {', '.join(DATA_FILES[:-1])} or {DATA_FILES[-1]} file, or one of them with .gz."
EXAMPLES = {
    ".jsonl": 'one JSON object a line, such as {"text": "...", "label": "..."}',
    ".json": LIST,
    ".csv": "a header line, such as text,label, and a row a line",
    ".tsv": "a header line, such as text and label with a tab between, and a row a line",
    ".txt": "documents with a blank line between them",
}
SHEETS = (".xlsx", ".xls", ".ods")
SHEET = "a spreadsheet; save it as CSV (UTF-8)"
PAGE = "a web page, not data; download the file itself"
# What files are whose name says something else, by their first bytes.
SIGNATURES = (
    (b"PK\x03\x04", f"a zip archive: unpack it, or {SHEET}"),
    (b"\x1f\x8b", "compressed with gzip; give it a name that ends with .gz"),
    (b"PAR1\x15", "a Parquet file; give it a name that ends with .parquet"),
    (b"ARROW1\0\0", "an Arrow file; give it a name that ends with .arrow"),
    (b"\xd0\xcf\x11\xe0", SHEET),
    (b"%PDF", "a PDF; save its text"),
    (b"BZh91AY", "compressed with bzip2; unpack it"),
    (b"\xfd7zXZ", "compressed with xz; unpack it"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd; unpack it"),
    (b"SQLite format 3\0", "a SQLite database; export the table as CSV"),
    (b"version https", "a pointer of Git LFS, not the file itself; fetch it with `git lfs pull`"),
    (b"<!DOCTYPE html", PAGE),
    (b"<!doctype html", PAGE),
    (b"<html", PAGE),
)
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # starts with the mark of UTF-16, so it is asked for first
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
PIECE = 2**24  # bytes that are unpacked at once
BLANK = re.compile(rb"\n[ \t]*(?:\n[ \t]*)*\n")


def kind_of(path: Path) -> str:
    """The ending that says how a file is read, without .gz and in lower case; '' for any other."""
    name = path.name.lower().removesuffix(".gz")
    return next((ending for ending in DATA_FILES if name.endswith(ending)), "")


def read_file(path: Path, name: str, encoding: str = "utf-8", document: bool = False) -> Table:
    """The rows of one file. name: what it is called in messages and tags.

    document: a .txt file is one document; else its documents are what blank lines separate, or without a
    blank line, its lines. Raises DataError when the file cannot be read at all.
    """
    kind = kind_of(path)
    if not kind:
        sheet = f" It may be {SHEET}." if path.suffix.lower() in SHEETS else ""
        raise DataError(f"{path}: the extension {path.suffix or '(none)'} is not known. {EXPECTED}{sheet}")
    content = _bytes(path)
    if kind in COLUMNAR:
        return read_columnar(path, name, kind, content)
    known = next((what for start, what in SIGNATURES if content.startswith(start)), "")
    if known and not (kind == ".txt" and known == PAGE):
        raise DataError(f"{path}: the file is {known}.")
    content = _utf8(path, content, encoding)
    if not content.strip():
        raise DataError(f"{path}: the file is empty. Expected {EXAMPLES[kind]}.")
    if kind == ".txt":
        return _documents(name, content, document)
    if kind == ".json":
        return json_list(path, name, content)
    return json_lines(path, name, content) if kind == ".jsonl" else read_delimited(path, name, kind, content)


def _bytes(path: Path) -> bytes:
    """The bytes of a regular file, decompressed. Opening a pipe would wait for its writer, so none is."""
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise DataError(f"{path}: a pipe, socket or device. Save its content to a file first.")
        require_memory(path, about.st_size, "holds")
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be opened: {error.strerror or error}.") from None
    if path.suffix.lower() != ".gz":
        return content
    try:
        return _unpacked(path, content)
    except EOFError:
        raise DataError(f"{path}: the compressed file ends early. Copy or download it again.") from None
    except (OSError, zlib.error) as error:
        raise DataError(f"{path}: cannot be decompressed: {error}.") from None


def _unpacked(path: Path, content: bytes) -> bytes:
    """What a gzip file holds, taken out piece by piece: a small file may hold more than fits into memory."""
    pieces: list[bytes] = []
    size = 0
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
        while piece := file.read(PIECE):
            pieces.append(piece)
            size += len(piece)
            require_memory(path, size, "unpacks to")
    return b"".join(pieces)


def _utf8(path: Path, content: bytes, encoding: str) -> bytes:
    """The content as UTF-8 with line feeds. A byte-order mark decides, else `encoding`.

    Bytes that are not UTF-8 stay: they cost their own line, which `decode` names.
    """
    mark, found = next(((mark, name) for mark, name in MARKS if content.startswith(mark)), (b"", encoding))
    if found == "utf-8":
        content = content.removeprefix(mark)
        _refuse_wide(path, content)
    else:
        try:
            content = content.decode(found).removeprefix("\ufeff").encode("utf-8", "surrogatepass")
        except UnicodeError as error:
            said = "its byte-order mark" if mark else "data.encoding"
            raise DataError(f"{path}: not {found}, though {said} says so: {error}.") from None
    content = content.replace(b"\r\n", b"\n")
    return content if b"\n" in content else content.replace(b"\r", b"\n")


def _refuse_wide(path: Path, content: bytes) -> None:
    """UTF-16 without a mark: every other byte of most texts is NUL."""
    start = content[:4096]
    even, odd = start[0::2].count(0), start[1::2].count(0)
    if max(even, odd) > 0.15 * len(start) and min(even, odd) < 0.03 * len(start):
        name = "utf-16-le" if odd > even else "utf-16-be"
        raise DataError(
            f"{path}: looks like UTF-16 without a byte-order mark. Say so with `data.encoding: {name}`, "
            "or save it as UTF-8."
        )


def _documents(name: str, content: bytes, whole: bool) -> Table:
    """Plain text: one document, or one for each block between blank lines, or one a line without those."""
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
    how = "separated by blank lines" if blocks else "one a line, as there is no blank line"
    return Table(name, rows, ["text"], rejected, [] if whole else [f"{name}: {len(rows)} documents, {how}."])
