"""The text of a file, which can be written back byte for byte."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from finetooth.data.read.files import BYTE_ORDER_MARKS

_WITHOUT_MARK = {"utf-16": ("utf-16-le", "utf-16-be"), "utf-32": ("utf-32-le", "utf-32-be")}


@dataclass(frozen=True, slots=True)
class Text:
    """A file's text. mark: its byte-order mark. encoding: of the rest. Bytes that are no text are kept."""

    text: str
    encoding: str
    mark: bytes = b""

    @classmethod
    def of(cls, content: bytes, encoding: str) -> Text:
        """The text of a file that the readers have read with this encoding."""
        mark, found = next(
            ((mark, name) for mark, name in BYTE_ORDER_MARKS if content.startswith(mark)), (b"", encoding)
        )
        if mark and found in _WITHOUT_MARK:
            found = _WITHOUT_MARK[found][mark[0] in (0, 0xFE)]
        return cls(content.removeprefix(mark).decode(found, "surrogateescape"), found, mark)

    def lines(self) -> tuple[list[str], list[str]]:
        """The lines, numbered as the readers number them, and what ends each of them."""
        end = "\n" if "\n" in self.text else "\r"
        lines = self.text.split(end)
        ends = [end] * (len(lines) - 1) + [""]
        for number, line in enumerate(lines):
            if end == "\n" and line.endswith("\r") and ends[number]:
                lines[number], ends[number] = line[:-1], "\r\n"
        return lines, ends

    def encode(self, text: str) -> bytes:
        """The bytes of another text in this file's place."""
        return self.mark + text.encode(self.encoding, "surrogateescape")

    def writable(self, text: str) -> str:
        """The text with `?` for what the encoding cannot write."""
        return text.encode(self.encoding, "replace").decode(self.encoding)

    def json(self, value: Any) -> str:
        """The value as JSON, with escapes where the encoding cannot write a character."""
        text = json.dumps(value, ensure_ascii=False)
        return text if self.writable(text) == text else json.dumps(value)


Cells = Sequence[Any]  # one value for each added column: text, a number, or None
