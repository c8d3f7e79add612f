"""JSON Lines and JSON lists. Rows keep their line numbers; anything else is rejected with a reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finetooth.data.read.delimited import BOM, decode
from finetooth.data.read.table import (
    SHOWN,
    TOO_DEEP,
    RawRow,
    RejectedRow,
    Table,
    columns_of,
    first_duplicate,
    json_error,
)
from finetooth.errors import DataError

LIST = 'a list of objects, such as [{"text": "...", "label": "..."}]'
_SPACE = " \t\n\r"
CONVERSATION_KEYS = ("messages", "conversations")  # an object with one of these is one row, not a list


def json_lines(path: Path, name: str, content: bytes) -> Table:
    """One object per line. content: UTF-8 with line feeds. Raises DataError for a JSON list."""
    lines = content.split(b"\n")
    filled = (line.strip() for line in lines if line.strip())
    first, second = next(filled), next(filled, None)
    if first == b"[" or (first.startswith(b"[{") and second is None):
        raise DataError(f"{path}: a JSON list, not one object per line. Give it a name that ends with .json.")
    decoder, duplicates = _decoder()
    rows: list[RawRow] = []
    rejected: list[RejectedRow] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        text, reason = decode(line)
        value: Any = {}
        if text.startswith(BOM):
            reason = reason or "starts with a byte-order mark, as in files put together; remove it"
        if not reason:
            try:
                value = decoder.decode(text)
                reason = _row_error(value, duplicates, "one JSON object per line")
            except RecursionError:
                reason = TOO_DEEP
            except ValueError as error:
                reason = f"not valid JSON: {_plainly(error)}"
            duplicates.clear()
        if reason:
            rejected.append(RejectedRow(name, number, reason, text[:SHOWN]))
        else:
            rows.append(RawRow(number, value))
    return Table(name, rows, columns_of(rows), rejected)


def json_list(path: Path, name: str, content: bytes) -> Table:
    """A list of objects, alone or in an object: under "data", else the only list of objects in it.

    Also a single conversation, and JSON Lines in a file named .json. Raises DataError for anything else, and
    for a syntax error, after which rows cannot be told apart.
    """
    text, error = decode(content)
    if error:
        raise DataError(f"{path}: {error}.")
    cursor = _Cursor(path, text)
    if cursor.find_rows():
        table = _items(cursor, name)
        if text.lstrip()[:1] == "[" and cursor.peek():
            raise cursor.expected("nothing after the list")
        return table
    if cursor.peek():
        return json_lines(path, name, content)
    values, line = cursor.single
    reason = _row_error(values, cursor.duplicates, "")
    rejected = [RejectedRow(name, line, reason, text[:SHOWN], 1)] if reason else []
    return Table(name, [] if reason else [RawRow(line, values, number=1)], list(values), rejected)


def item_spans(path: Path, text: str) -> list[tuple[int, int]] | None:
    """Where the rows that `json_list` reads begin and end in the text; None for JSON Lines."""
    cursor = _Cursor(path, text)
    if cursor.find_rows():
        return [(at, cursor.at) for _, at, _ in cursor.items()]
    if cursor.peek():
        return None
    end = len(text.rstrip(_SPACE))
    return [(len(text) - len(text.lstrip(_SPACE)), end)]


def _items(cursor: _Cursor, name: str) -> Table:
    rows: list[RawRow] = []
    rejected: list[RejectedRow] = []
    for number, (line, at, value) in enumerate(cursor.items(), 1):
        reason = _row_error(value, cursor.duplicates, "an object for each row")
        if reason:
            text = cursor.text[at : min(cursor.at, at + SHOWN)]
            rejected.append(RejectedRow(name, line, reason, text, number))
        else:
            rows.append(RawRow(line, value, number=number))
    return Table(name, rows, columns_of(rows), rejected)


def _row_error(value: Any, duplicates: list[str], expected: str) -> str:
    """Why a parsed value is not a row, '' if it is one. Clears `duplicates`."""
    duplicate = duplicates[0] if duplicates else None
    duplicates.clear()
    if isinstance(value, list):
        return f"a JSON list; expected {expected}"
    if not isinstance(value, dict):
        return f"a JSON {type(value).__name__}; expected {expected}"
    return json_error(value) if duplicate is None else f"duplicate key {duplicate!r}"


def _decoder() -> tuple[json.JSONDecoder, list[str]]:
    """A decoder, and the list to which it appends duplicate keys of an object."""
    duplicates: list[str] = []

    def to_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            duplicates.append(str(first_duplicate(name for name, _ in pairs)))
        return values

    return json.JSONDecoder(object_pairs_hook=to_dict), duplicates


class _Cursor:
    """Parses JSON text value by value, so that each row of a list keeps its line number."""

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.text, self.at = path, text, 0
        self.decoder, self.duplicates = _decoder()
        self._counted, self._line = 0, 1
        self.single: tuple[dict[str, Any], int] = ({}, 1)

    def find_rows(self) -> bool:
        """Go to the list of rows. False for a single row, then in `single`, and for JSON Lines.

        The cursor is then at the end, or before the second object. Raises DataError for anything else.
        """
        if self.peek() == "[":
            return True
        if self.peek() != "{":
            raise DataError(f"{self.path}: expected {LIST}, found {self.text.strip()[:40]!r}.")
        line = self.line()
        values, starts = self.members()
        self.single = values, line
        if self.peek() == "{":
            return False
        if self.peek():
            raise self.expected("nothing after the object")
        if set(values) & set(CONVERSATION_KEYS):
            return False
        lists = [
            key
            for key, value in values.items()
            if isinstance(value, list) and all(isinstance(item, dict) for item in value)
        ]
        if "data" not in lists and len(lists) != 1:
            keys = ", ".join(map(repr, list(values)[:8])) or "(none)"
            raise DataError(
                f"{self.path}: an object with the keys {keys}; expected {LIST}, alone or under the key "
                '"data". pandas writes that with orient="records".'
            )
        self.rewind(starts["data" if "data" in lists else lists[0]])
        return True

    def rewind(self, at: int) -> None:
        self.at = self._counted = at
        self._line = 1 + self.text.count("\n", 0, at)
        self.duplicates.clear()

    def line(self) -> int:
        self._line += self.text.count("\n", self._counted, self.at)
        self._counted = self.at
        return self._line

    def peek(self) -> str:
        """The next character that is not whitespace, '' at the end."""
        while self.at < len(self.text) and self.text[self.at] in _SPACE:
            self.at += 1
        return self.text[self.at : self.at + 1]

    def take(self, mark: str) -> bool:
        found = self.peek() == mark
        self.at += found
        return found

    def value(self) -> Any:
        self.peek()
        start = self.line()
        try:
            value, self.at = self.decoder.raw_decode(self.text, self.at)
        except RecursionError:
            raise DataError(f"{self.path}, line {start}: {TOO_DEEP}.") from None
        except ValueError as error:
            raise DataError(f"{self.path}: not valid JSON: {_plainly(error)}.") from None
        return value

    def items(self) -> Iterator[tuple[int, int, Any]]:
        """(line, offset, value) of each item of the list at the cursor."""
        self.take("[")
        while not self.take("]"):
            line, at = self.line(), self.at
            yield line, at, self.value()
            if not self.take(",") and self.peek() != "]":
                raise self.expected("`,` or `]`")

    def members(self) -> tuple[dict[str, Any], dict[str, int]]:
        """The members of the object at the cursor, and the offset of each value."""
        values: dict[str, Any] = {}
        starts: dict[str, int] = {}
        self.take("{")
        while not self.take("}"):
            key = self.value()
            if not isinstance(key, str) or not self.take(":"):
                raise self.expected("a key and `:`")
            self.peek()
            at = self.at
            if key in values:
                self.duplicates.append(key)
            values[key], starts[key] = self.value(), at
            if not self.take(",") and self.peek() != "}":
                raise self.expected("`,` or `}`")
        return values, starts

    def expected(self, what: str) -> DataError:
        found = repr(self.text[self.at : self.at + 1]) if self.at < len(self.text) else "the end of the file"
        return DataError(f"{self.path}, line {self.line()}: not valid JSON: expected {what}, found {found}.")


def _plainly(error: ValueError) -> str:
    text = str(error)
    return "a number has thousands of digits" if "integer string conversion" in text else text
