"""data.columns applied to all files of a task alike, and questions about columns that would be left out."""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from finetooth.config.values import first_few
from finetooth.data.formats.label_columns import LabelColumns
from finetooth.data.formats.text_columns import PAIRS, InvalidRowError, parse_list, string
from finetooth.data.read.names import clean_name, similar_names
from finetooth.data.read.table import RawRow, Table
from finetooth.errors import ConfigError, DataError

CANONICAL = (
    *("id", "system", "context", "answer", "label", "text", "messages", "prompt", "completion"),
    *("conversations", "chosen", "rejected", "tools", "group", "weight"),
)
JOINED = ("text", "context", "prompt")  # roles that several columns can have: their texts are joined
OPTIONAL = ("id", "system", "weight", "group", "tools")  # may be missing in a file of several
# Columns that a format reads: next to plain text, one of nearly that name is a question to the user.
_READ = {*CANONICAL, "instruction", *(name for pair in PAIRS for name in pair)} - {"id"}
SHOWN_COLUMNS = 20
# Few different values that describe where a text is from, and not what it is.
_DESCRIBING = {
    *("source", "lang", "language", "split", "file", "filename", "dataset", "corpus", "license", "licence"),
    *("url", "domain", "author", "date", "year", "index", "meta", "metadata"),
}
_TURNS = ("role", "parent_id", "message_tree_id")  # of data with one turn per row, as oasst has it
# Names that YAML reads as they are, without quotes.
_PLAIN = re.compile(r"(?!(?:y|n|yes|no|on|off|true|false|null)$)[^\W\d][\w-]*", re.IGNORECASE)
FEW_VALUES = 200  # at most; each of them in SEEN rows on average, or more
SEEN = 3
SHORT = 60  # characters of a value that could be a label


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """How the columns of all files of a task are read.

    mapping: data.columns with clean names. present: the columns that any file has. labels: how several label
    columns become one label, if there are several.
    """

    mapping: Mapping[str, str]
    present: frozenset[str]
    labels: LabelColumns | None = None

    @classmethod
    def of(cls, tables: Sequence[Table], columns: Mapping[str, str]) -> ColumnPlan:
        """The plan for these files. columns: data.columns."""
        mapping = {clean_name(column): canonical for column, canonical in columns.items()}
        labels = [column for column, canonical in mapping.items() if canonical == "label"]
        return cls(
            mapping,
            frozenset(column for table in tables for column in table.columns),
            LabelColumns.of([row for table in tables for row in table.rows], labels)
            if len(labels) > 1
            else None,
        )

    def renamed(self, table: Table) -> tuple[list[RawRow], list[str]]:
        """The rows and columns of a file under their canonical names.

        Raises ConfigError or DataError for a mapping that cannot be applied.
        """
        for column, canonical in self.mapping.items():
            self._check(table, column, canonical)
        targets = list(self.mapping.values())
        single = (name for name in targets if name not in (*JOINED, "label"))
        duplicate = next((name for name in single if targets.count(name) > 1), None)
        if duplicate:
            raise ConfigError(
                f"data.columns: two columns are mapped to {duplicate}. Only {', '.join(JOINED)} and label "
                "accept several columns."
            )
        if not self.mapping:
            return table.rows, table.columns
        rows = [self.labels.joined(row) for row in table.rows] if self.labels else table.rows
        rows = [
            replace(row, values={self.mapping.get(name, name): value for name, value in row.values.items()})
            for row in joined_texts(rows, self.mapping)
        ]
        return rows, list(dict.fromkeys(self.mapping.get(name, name) for name in table.columns))

    def _check(self, table: Table, column: str, canonical: str) -> None:
        if canonical not in CANONICAL:
            swapped = ""
            if column in CANONICAL:
                swapped = f" Write it the other way round: {advice({canonical: column})}."
            elif near := difflib.get_close_matches(canonical, CANONICAL, 1):
                swapped = f" Perhaps you mean {advice({**self.mapping, column: near[0]})}."
            raise ConfigError(
                f"data.columns: {column}: {canonical}: the right-hand side must be one of "
                f"{', '.join(CANONICAL)}.{swapped}"
            )
        if column not in table.columns:
            if canonical in OPTIONAL and column in self.present:
                return
            raise DataError(
                f"data.columns: {table.name} has no column {column!r}. It has: {listed(table.columns)}."
                f"{self._corrected(table)}"
            )
        if canonical in table.columns and canonical not in self.mapping and canonical != column:
            raise DataError(
                f"data.columns: {column}: {canonical}, but {table.name} already has a column {canonical!r}. "
                "Map that one too, or rename it."
            )

    def _corrected(self, table: Table) -> str:
        """What to type instead: for each missing column the unused one of the nearest name, else one whose
        cells fit the role: few values for a label, the longest texts for anything else.
        """
        corrected = {column: column for column in self.mapping if column in table.columns}
        missing = [column for column in self.mapping if column not in corrected]
        labels = few_valued(table.columns, table.rows)
        length = {name: sum(len(str(row.values.get(name))) for row in table.rows) for name in table.columns}

        def unused() -> list[str]:
            return [name for name in table.columns if name not in corrected.values()]

        for column in missing:
            if near := difflib.get_close_matches(column, unused(), 1):
                corrected[column] = near[0]
        for column in missing:
            if column not in corrected:
                is_label = self.mapping[column] == "label"
                fitting = [name for name in unused() if (name in labels) == is_label] or unused()
                if not fitting:
                    return ""
                corrected[column] = fitting[0] if is_label else max(fitting, key=length.__getitem__)
        roles = {corrected[column]: canonical for column, canonical in self.mapping.items()}
        return f" Perhaps you mean {advice(roles)}."


def joined_texts(rows: Sequence[RawRow], mapping: Mapping[str, str]) -> list[RawRow]:
    """The rows with the texts of several columns of one role (JOINED) in the first of them.

    mapping: data.columns. The text has a line `Column: its text` for each column that has one. A cell that is
    not text is left as the whole, and reading the row reports it.
    """
    result = list(rows)
    for role in JOINED:
        columns = [column for column, canonical in mapping.items() if canonical == role]
        if len(columns) > 1:
            result = [joined_text(row, columns) for row in result]
    return result


def joined_text(row: RawRow, columns: Sequence[str]) -> RawRow:
    """The row with one text in the first of the columns; see `joined_texts`."""
    others = {name: value for name, value in row.values.items() if name not in columns}
    lines = []
    for column in columns:
        try:
            text = string(row.values.get(column), column).strip()
        except InvalidRowError:
            return replace(row, values=others | {columns[0]: row.values[column]})
        lines += [f"{column}: {text}"] if text else []
    return replace(row, values=others | {columns[0]: "\n".join(lines)})


def listed(columns: Sequence[str]) -> str:
    """Names of columns in quotes, for messages."""
    return first_few([repr(column[:80]) for column in columns], SHOWN_COLUMNS) or "(none)"


def advice(mapping: Mapping[str, str]) -> str:
    """What to type for a mapping of columns."""
    names = {
        name: name if _PLAIN.fullmatch(name) else json.dumps(name, ensure_ascii=not name.isprintable())
        for name in mapping
    }
    pairs = ", ".join(f"{names[column]}: {canonical}" for column, canonical in mapping.items())
    return f"`data.columns: {{{pairs}}}`"


def nearest_column(key: str, name: str, columns: Iterable[str]) -> str:
    """What to add to a message about a column that is not there: the option with the nearest name, or ""."""
    near = difflib.get_close_matches(name, [*columns], 1)
    return f" Perhaps you mean `{key}: {near[0]}`." if near else ""


def require_clear(
    where: str, format: str, columns: Sequence[str], used: Iterable[str], rows: Sequence[RawRow]
) -> None:
    """Raise DataError for a column that would be left out although its name is nearly one that is read.

    columns: of the file. used: those that the format reads, if they are there. Next to plain text, also for a
    column of few different values, which looks like a label, and for rows that are single turns.
    """
    known = (_READ if format == "text" else set(used)) - {"id"}
    leave = f"; to leave it out, set data.format: {format}."
    read = set(used)
    extra = [column for column in columns if column not in read]
    for column, name in similar_names(columns, known).items():
        if column not in extra:
            continue
        if name == "label" and any(isinstance(row.values.get(column), list) for row in rows):
            raise DataError(
                f"{where}: the column {column!r} holds lists, and a row has one label. Write several labels "
                'as text, such as "a, b", in a column label, and set evaluate.grader: labels' + leave
            )
        raise DataError(
            f"{where}: the column {column!r} would be left out, and its name is nearly {name!r}. Map it: "
            f"{advice({column: name})}{leave}"
        )
    if format != "text":
        return
    turns = [column for column in _TURNS if column in extra]
    if len(turns) > 1 or _TURNS[-1] in turns:
        raise DataError(
            f"{where}: the rows are single turns of conversations ({', '.join(turns)}). Put the turns of "
            "each conversation in one row: messages: [{role, content}, ...]; to train on each as plain text, "
            "set data.format: text."
        )
    found = few_valued(extra, rows)
    if len(found) == 1 and len(extra) == 1:
        (column, values), *_ = found.items()
        raise DataError(
            f"{where}: the columns {listed(['text', column])} can be read in more than one way: "
            f"{column!r} has {values} different values and may be the label. Map it: "
            f"{advice({column: 'label'})}; for plain text, set data.format: text."
        )


def few_valued(columns: Sequence[str], rows: Sequence[RawRow]) -> dict[str, int]:
    """Columns with few different short values, as labels have, and how many; not those that describe."""
    values: dict[str, set[Any]] = {name: set() for name in columns if name.casefold() not in _DESCRIBING}
    counts: Counter[str] = Counter()
    for row in rows:
        for name in [name for name in row.values if name in values]:
            value = row.values[name]
            if value is None or value == "":
                continue
            if not isinstance(value, str | int | float) or len(str(value)) > SHORT:
                del values[name]
                continue
            counts[name] += 1
            values[name].add(value)
            if len(values[name]) > FEW_VALUES:
                del values[name]
    return {
        name: len(found)
        for name, found in values.items()
        if len(found) > 1 and SEEN * len(found) <= counts[name]
    }


def has_turns(value: Any) -> bool:
    """Whether a cell holds a list of texts, pairs or messages, as earlier turns are written."""
    entries = parse_list(value)
    return bool(entries) and all(isinstance(entry, str | list | tuple | Mapping) for entry in entries or ())
