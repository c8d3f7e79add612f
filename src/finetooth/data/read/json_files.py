"""JSON lines and JSON lists: every row keeps its line; what is no row is set aside with its reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finetooth.data.read.delimited import decode
from finetooth.data.read.table import SHOWN, RawRow, RejectedRow, Table, columns_of, json_error, repeated
from finetooth.errors import DataError

LIST = 'a list of objects, such as [{"text": "...", "label": "..."}]'
ONE_ROW = ("messages", "conversations")  # an object with one of these is a conversation, not a list of rows


def _parser() -> tuple[json.JSONDecoder, list[str]]:
    """A decoder, and the list into which it puts keys that an object gives twice."""
    twice: list[str] = []

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            twice.append(str(repeated(name for name, _ in pairs)))
        return values

    return json.JSONDecoder(object_pairs_hook=unique), twice


def _row_trouble(value: Any, twice: list[str], expected: str) -> str:
    """Why a parsed value is no row, '' when it is one. Empties `twice`."""
    repeated = twice[0] if twice else None
    twice.clear()
    if isinstance(value, list):
        return f"a JSON list; expected {expected}"
    if not isinstance(value, dict):
        return f"a JSON {type(value).__name__}; expected {expected}"
    return json_error(value) if repeated is None else f"the key {repeated!r} is given twice"


def json_lines(path: Path, name: str, content: bytes) -> Table:
    """One object a line; content: UTF-8 with line feeds. DataError for a list over many lines."""
    lines = content.split(b"\n")
    filled = (line.strip() for line in lines if line.strip())
    first, second = next(filled), next(filled, None)
    if first == b"[" or (first.startswith(b"[{") and second is None):
        raise DataError(f"{path}: one JSON list, not one object a line. Give it a name that ends with .json.")
    parser, twice = _parser()
    rows: list[RawRow] = []
    rejected: list[RejectedRow] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        text, reason = decode(line)
        value: Any = {}
        if not reason:
            try:
                value = parser.decode(text)
                reason = _row_trouble(value, twice, "one JSON object a line")
            except RecursionError:
                reason = "nested too deep"
            except ValueError as error:
                reason = f"not valid JSON: {error}"
            twice.clear()
        if reason:
            rejected.append(RejectedRow(name, number, reason, text[:SHOWN]))
        else:
            rows.append(RawRow(number, value))
    return Table(name, rows, columns_of(rows), rejected)


def json_list(path: Path, name: str, content: bytes) -> Table:
    """A list of objects, alone or in an object: under "data", else the only list of objects in it.

    Also a single conversation, and JSON lines under the name of JSON. DataError for anything else, and where
    the text stops being JSON: what follows cannot be told apart any more.
    """
    text, wrong = decode(content)
    if wrong:
        raise DataError(f"{path}: {wrong}.")
    cursor = _Cursor(path, text)
    if cursor.peek() == "{":
        line = cursor.line()
        values, starts = cursor.members()
        if cursor.peek() == "{":
            return json_lines(path, name, content)
        if cursor.peek():
            raise cursor.expected("nothing after the object")
        if not set(values) & set(ONE_ROW):
            cursor.rewind(_the_list(path, values, starts))
            return _items(cursor, name)
        reason = _row_trouble(values, cursor.twice, "")
        rejected = [RejectedRow(name, line, reason, text[:SHOWN])] if reason else []
        return Table(name, [] if reason else [RawRow(line, values)], list(values), rejected)
    if cursor.peek() != "[":
        raise DataError(f"{path}: expected {LIST}, found {text.strip()[:40]!r}.")
    table = _items(cursor, name)
    if cursor.peek():
        raise cursor.expected("nothing after the list")
    return table


def _items(cursor: _Cursor, name: str) -> Table:
    rows: list[RawRow] = []
    rejected: list[RejectedRow] = []
    for line, at, value in cursor.items():
        reason = _row_trouble(value, cursor.twice, "an object for each row")
        if reason:
            rejected.append(RejectedRow(name, line, reason, cursor.text[at : min(cursor.at, at + SHOWN)]))
        else:
            rows.append(RawRow(line, value))
    return Table(name, rows, columns_of(rows), rejected)


def _the_list(path: Path, values: dict[str, Any], starts: dict[str, int]) -> int:
    """Where the list of rows starts in an object with these members."""
    lists = [
        key
        for key, value in values.items()
        if isinstance(value, list) and all(isinstance(item, dict) for item in value)
    ]
    if "data" in lists or len(lists) == 1:
        return starts["data" if "data" in lists else lists[0]]
    raise DataError(
        f"{path}: an object with the keys {', '.join(map(repr, list(values)[:8])) or '(none)'}; expected "
        f'{LIST}, alone or under the key "data". pandas writes that with orient="records".'
    )


class _Cursor:
    """Walks over JSON text value by value, so that each row of a list keeps its line."""

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.text, self.at = path, text, 0
        self.parser, self.twice = _parser()
        self._counted, self._line = 0, 1

    def rewind(self, at: int) -> None:
        self.at = self._counted = at
        self._line = 1 + self.text.count("\n", 0, at)
        self.twice.clear()

    def line(self) -> int:
        self._line += self.text.count("\n", self._counted, self.at)
        self._counted = self.at
        return self._line

    def peek(self) -> str:
        """The next character that is not white space, '' at the end."""
        while self.text[self.at : self.at + 1] in (" ", "\t", "\n", "\r"):
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
            value, self.at = self.parser.raw_decode(self.text, self.at)
        except RecursionError:
            raise DataError(f"{self.path}, line {start}: nested too deep.") from None
        except ValueError as error:
            raise DataError(f"{self.path}: not valid JSON: {error}.") from None
        return value

    def items(self) -> Iterator[tuple[int, int, Any]]:
        """(line, offset, value) of each item of the list that starts here."""
        self.take("[")
        while not self.take("]"):
            line, at = self.line(), self.at
            yield line, at, self.value()
            if not self.take(",") and self.peek() != "]":
                raise self.expected("`,` or `]`")

    def members(self) -> tuple[dict[str, Any], dict[str, int]]:
        """The members of the object that starts here, and the offset of each value."""
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
                self.twice.append(key)
            values[key], starts[key] = self.value(), at
            if not self.take(",") and self.peek() != "}":
                raise self.expected("`,` or `}`")
        return values, starts

    def expected(self, what: str) -> DataError:
        found = repr(self.text[self.at : self.at + 1]) if self.at < len(self.text) else "the end of the file"
        return DataError(f"{self.path}, line {self.line()}: not valid JSON: expected {what}, found {found}.")
