"""A file whose rows can be written again with columns added, in its own format, order and encoding."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from finetooth.data.read.columnar import FORMAT_NAMES as COLUMNAR
from finetooth.data.read.files import WORKBOOK, read_bytes, read_content
from finetooth.data.read.names import clean_columns
from finetooth.data.read.sources import EXPECTED, kind_of
from finetooth.data.read.table import Table
from finetooth.data.write import columnar, delimited, json_files, spreadsheet
from finetooth.data.write.text import Cells, Text
from finetooth.errors import DataError

STDIN = "-"
GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Sheet:
    """The bytes of one file, decompressed, and its rows. kind: the extension that says how it is read."""

    path: Path
    kind: str
    content: bytes
    encoding: str
    table: Table

    @classmethod
    def read(cls, path: Path, encoding: str = "utf-8") -> Sheet:
        """The sheet of a file. A .txt file becomes a sheet of one column, `text`. Raises DataError."""
        if path.is_dir():
            raise DataError(f"{path}: a folder. Name one file at a time.")
        if not path.exists():
            raise DataError(f"{path}: no such file. {EXPECTED}")
        kind = kind_of(path)
        if not kind:
            raise DataError(f"{path}: the extension {path.suffix or '(none)'} is not known. {EXPECTED}")
        return cls._of(path, kind, read_bytes(path), encoding)

    @classmethod
    def of_stream(cls, content: bytes, encoding: str = "utf-8") -> Sheet:
        """The sheet of what was piped in: JSON Lines if it begins with {, a JSON list with [, else CSV.

        TSV, if the first line has a tab and neither a comma nor a semicolon. Parquet, Arrow, .xlsx and gzip
        are recognised. Raises DataError.
        """
        if content.startswith(GZIP):
            content = gzip.decompress(content)
        start = Text.of(content[:4096], encoding).text.lstrip() if encoding == "utf-8" else ""
        first = start.split("\n")[0]
        marks = {".parquet": b"PAR1", ".arrow": b"ARROW1", WORKBOOK: b"PK\x03\x04"}
        kind = next((kind for kind, mark in marks.items() if content.startswith(mark)), "")
        kind = kind or {"{": ".jsonl", "[": ".json"}.get(start[:1], "")
        kind = kind or (".tsv" if "\t" in first and not any(mark in first for mark in ",;") else ".csv")
        return cls._of(Path(f"stdin{kind}"), kind, content, encoding)

    @classmethod
    def _of(cls, path: Path, kind: str, content: bytes, encoding: str) -> Sheet:
        table = clean_columns(read_content(path, path.name, kind, content, encoding))
        if not len(table):
            raise DataError(f"{path}: no rows.")
        if kind == ".txt":
            written = io.StringIO()
            writer = csv.writer(written, lineterminator="\n")
            writer.writerows([["text"], *([row.values["text"]] for row in table.rows)])
            return cls._of(path, ".csv", written.getvalue().encode(), "utf-8")
        return cls(path, kind, content, encoding, table)

    @property
    def extension(self) -> str:
        """What the name of a file of this format ends with; .gz included where the input was compressed."""
        return self.kind + (".gz" if self.path.suffix.lower() == ".gz" else "")

    @property
    def digest(self) -> str:
        """A digest of the content and its encoding."""
        return hashlib.sha256(f"{self.kind} {self.encoding} ".encode() + self.content).hexdigest()

    def can_write(self, text: str) -> bool:
        """Whether the encoding has every character of a text; JSON has escapes for others."""
        if self.kind not in (".csv", ".tsv"):
            return True
        text_file = Text.of(self.content[:4], self.encoding)
        return text_file.writable(text) == text

    def with_columns(self, names: Sequence[str], cells: Mapping[int, Cells]) -> bytes:
        """The file's bytes with these columns added. cells: a value for each of them, by `RawRow.place`."""
        if self.kind in COLUMNAR:
            return columnar.add_columns(self.kind, self.content, names, cells)
        if self.kind == WORKBOOK:
            return spreadsheet.add_columns(self.path, self.content, names, cells)
        text = Text.of(self.content, self.encoding)
        if self.kind == ".json":
            return text.encode(json_files.add_to_items(self.path, text, names, cells))
        if self.kind == ".jsonl":
            return text.encode(json_files.add_to_lines(text, names, cells))
        return text.encode(delimited.add_columns(self.path, self.kind, text, names, cells))


def free_names(columns: Sequence[str], names: Sequence[str]) -> list[str]:
    """A name for each added column: its own, or where that is taken `predicted_NAME`, `predicted_NAME_2`."""
    found: list[str] = []
    for name in names:
        tried, number = name, 1
        while tried in columns:
            tried = f"predicted_{name}" + (f"_{number}" if number > 1 else "")
            number += 1
        found.append(tried)
    return found
