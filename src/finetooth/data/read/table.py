"""What reading makes: rows with their place, rows that were set aside, and the table that holds both."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from finetooth.privacy.masking import redact, redact_json

SHOWN = 500  # characters of a broken line that rejected.jsonl keeps
MARGIN = 100  # levels: what can be nested so much deeper than the row can be written from anywhere


@dataclass(frozen=True, slots=True)
class RawRow:
    """Named values of one row. line: where it starts in its file, from 1 (of a list: index + 1).

    file: where it is not the table's name, in a table of several documents.
    """

    line: int
    values: Mapping[str, Any]
    file: str = ""


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that was set aside: a line of rejected.jsonl."""

    file: str
    line: int
    reason: str
    row: Any

    def redacted(self) -> RejectedRow:
        """The same with personal data and secrets hidden: to be shown."""
        return replace(self, reason=redact(self.reason), row=redact_json(self.row))

    def to_json(self) -> dict[str, Any]:
        """The line of rejected.jsonl."""
        return {"file": self.file, "line": self.line, "reason": self.reason, "row": self.row}


@dataclass(frozen=True, slots=True)
class Table:
    """What one file holds. columns: in order of appearance; notes: what the user should know.

    weight: loss weight of all its rows.
    """

    name: str
    rows: list[RawRow]
    columns: list[str]
    rejected: list[RejectedRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    weight: float = 1.0

    def __len__(self) -> int:
        return len(self.rows) + len(self.rejected)


def columns_of(rows: Sequence[RawRow]) -> list[str]:
    """The names of all rows, in order of appearance."""
    return list(dict.fromkeys(name for row in rows for name in row.values))


def repeated(names: Iterable[str]) -> str | None:
    """The first of the names that is there more than once."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def json_error(values: Any) -> str:
    """Why a row cannot be written as JSON again ('' when it can): NaN, infinity, half a surrogate pair."""
    for _ in range(MARGIN):
        values = [values]
    try:
        json.dumps(values, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except UnicodeEncodeError:
        return "holds half of a surrogate pair, which is not text"
    except RecursionError:
        return "nested too deep"
    except ValueError:
        return "holds NaN or an infinite number"
    except TypeError:
        return "holds binary data, which is not text"
    return ""


def to_json_value(value: Any) -> Any:
    """Plain JSON values of what Python hands over: numpy scalars and arrays, NaN, dates, text in bytes."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value  # `json_error` names it
    if isinstance(value, Mapping):
        return {str(name): to_json_value(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [to_json_value(inner) for inner in value]
    if hasattr(value, "tolist"):
        return to_json_value(value.tolist())
    text = str(value)
    return None if text in ("NaT", "<NA>") else text
