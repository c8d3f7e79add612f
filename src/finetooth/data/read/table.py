"""Result of reading: rows with their line numbers, rejected rows, and the table of both."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from finetooth.privacy.masking import redact, redact_json

SHOWN = 500  # characters of a broken line kept in rejected.jsonl
MARGIN = 100  # a row must be writable as JSON when nested this much deeper, from any depth of the call stack
TOO_DEEP = "nested too deeply"


@dataclass(frozen=True, slots=True)
class RawRow:
    """Named values of one row. line: where it starts in its file, from 1 (in a list: index + 1).

    file: set only if it differs from the table's name, in a table of several documents. number: among the
    rows of its file, from 1, only where several may stand on one line. sheet_row: the row that a spreadsheet
    program shows it in, only where that is not the line, because of line breaks in cells above it.
    """

    line: int
    values: Mapping[str, Any]
    file: str = ""
    number: int = 0
    sheet_row: int = 0

    @property
    def place(self) -> int:
        """What tells the rows of a file apart, and orders them."""
        return self.number or self.line


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that was set aside: a line of rejected.jsonl.

    number, sheet_row: as in RawRow. id: its own, or "".
    """

    file: str
    line: int
    reason: str
    row: Any
    number: int = 0
    sheet_row: int = 0
    id: str = ""

    @property
    def place(self) -> int:
        """As in RawRow."""
        return self.number or self.line

    def redacted(self) -> RejectedRow:
        """A copy with personal data and secrets redacted."""
        return replace(self, reason=redact(self.reason), row=redact_json(self.row), id=redact(self.id))

    def to_json(self) -> dict[str, Any]:
        """The line of rejected.jsonl."""
        return {"file": self.file, "line": self.line, "reason": self.reason, "row": self.row}


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of one file. columns: in order of appearance. notes: for the user. weight: loss weight of all
    its rows.
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
    """The column names of all rows, in order of appearance."""
    return list(dict.fromkeys(name for row in rows for name in row.values))


def first_duplicate(names: Iterable[str]) -> str | None:
    """The first name that occurs more than once, else None."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def json_error(values: Any) -> str:
    """Why a row cannot be written as JSON, '' if it can: NaN, infinity, depth, bytes, surrogates."""
    for _ in range(MARGIN):
        values = [values]
    try:
        json.dumps(values, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except UnicodeEncodeError:
        return "contains an unpaired surrogate, which is not text"
    except RecursionError:
        return TOO_DEEP
    except ValueError:
        return "contains NaN or infinity"
    except TypeError:
        return "contains binary data, which is not text"
    return ""


def to_json_value(value: Any) -> Any:
    """A Python value as plain JSON values: numpy scalars and arrays, NaN (None), dates, text in bytes."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value  # reported by `json_error`
    if isinstance(value, Mapping):
        return {str(name): to_json_value(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [to_json_value(inner) for inner in value]
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if kind and getattr(value, "shape", None):
        return [to_json_value(inner) for inner in value]
    if kind == "f":  # float16, float32 and longer ones print fewer digits than the same number in float64
        return to_json_value(float(str(value)))
    if kind not in ("M", "m", "c", "V") and hasattr(value, "tolist"):
        return to_json_value(value.tolist())
    text = str(value)
    return None if text in ("NaT", "<NA>") else text
