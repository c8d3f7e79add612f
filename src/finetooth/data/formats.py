"""The shapes in which people keep examples, found from the column names or named, each read into an Example.

    format   columns                                    becomes
    text     text                                       plain text, all of it trained on
    qa       question, answer (or another pair below)   user -> assistant; `system` in front if there is one
    alpaca   instruction, output, input if any          system + user (instruction alone: user) -> assistant
    labels   text, label                                user -> the label
    chat     messages: [{role, content}, ...]           system?, user, assistant, ..., assistant

To add a format: one function that reads a row, one line in `_READERS` and one in `_matches`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetooth.config import DataConfig
from finetooth.data.read import RawRow, Rejected, Table
from finetooth.errors import ConfigError, DataError
from finetooth.types import Answer, Example, Message

CANONICAL = ("id", "system", "context", "answer", "label", "text", "messages", "group")
PAIRS = (
    ("context", "answer"),
    ("question", "answer"),
    ("prompt", "response"),
    ("prompt", "completion"),
    ("query", "response"),
    ("input", "output"),
)
NEEDS = {
    "text": "text",
    "qa": ", or ".join(" + ".join(pair) for pair in PAIRS),
    "alpaca": "instruction + output (and input)",
    "labels": "text + label",
    "chat": "messages",
}
RESERVED = {"file": "file_", "line": "line_"}  # tags of our own; the user's columns of that name move
MESSAGE_KEYS = {"role", "content"}


class Broken(ValueError):
    """Why one row cannot be an example."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """Examples of one source, without ids where the file gave none, and the rows that were set aside."""

    format: str
    examples: list[Example]
    rejected: list[Rejected]
    notes: list[str]
    total: int


def parse(table: Table, config: DataConfig, format: str = "auto") -> Parsed:
    """Examples of a table in the given format (auto: found from the columns).

    Raises DataError when the format cannot be told or lacks columns, ConfigError for a wrong data.columns.
    """
    rows, columns = _rename(table, config.columns)
    if not rows:
        return Parsed("unknown", [], list(table.rejected), list(table.notes), len(table))
    name, read = _choose(table.name, rows, columns, format)
    group = _group_column(table.name, config, columns)
    used = read | ({"id", group or "id"} if name in ("text", "chat") else {"id", "system", group or "id"})
    extra = [column for column in columns if column not in used]
    examples: list[Example] = []
    rejected = list(table.rejected)
    for row in rows:
        values = {column: value for column, value in row.values.items() if column in used}
        tags = {RESERVED.get(name, name): value for name, value in row.values.items() if name in extra}
        try:
            id = _string(values.pop("id", None), "id")
            tags["group"] = _string(row.values.get(group), group) if group else ""
            context, answer = _READERS[name](values)
        except Broken as problem:
            rejected.append(Rejected(table.name, row.line, str(problem), dict(row.values)))
            continue
        tags |= {"file": table.name, "line": row.line, "label": answer if name == "labels" else ""}
        tags = {name: value for name, value in tags.items() if value not in (None, "")}
        examples.append(Example(id, tuple(context), (Answer(answer),), tags))
    notes = list(table.notes)
    if extra:
        notes.append(f"{table.name}: not trained on, kept as tags: {', '.join(extra)}.")
    rejected.sort(key=lambda item: item.line)
    return Parsed(name, examples, rejected, notes, len(table))


def _rename(table: Table, mapping: Mapping[str, str]) -> tuple[list[RawRow], list[str]]:
    """The rows with data.columns applied: name in the file -> canonical name."""
    for column, canonical in mapping.items():
        if canonical not in CANONICAL:
            turned = f" Write it the other way round: {canonical}: {column}." if column in CANONICAL else ""
            raise ConfigError(
                f"data.columns: {column}: {canonical}: the right-hand side is one of "
                f"{', '.join(CANONICAL)}.{turned}"
            )
        if column not in table.columns:
            raise DataError(
                f"data.columns: {table.name} has no column {column!r}. It has: {_listed(table.columns)}."
            )
        if canonical in table.columns and canonical not in mapping and canonical != column:
            raise DataError(
                f"data.columns: {column}: {canonical}, but {table.name} has a column {canonical!r} already. "
                "Map that one too, or rename it."
            )
    targets = list(mapping.values())
    twice = next((name for name in targets if targets.count(name) > 1), None)
    if twice:
        raise ConfigError(f"data.columns: two columns are mapped to {twice}. Keep one.")
    if not mapping:
        return table.rows, table.columns
    rows = [
        RawRow(row.line, {mapping.get(name, name): value for name, value in row.values.items()})
        for row in table.rows
    ]
    return rows, [mapping.get(name, name) for name in table.columns]


def _group_column(where: str, config: DataConfig, columns: Sequence[str]) -> str | None:
    if config.group is None:
        return "group" if "group" in columns else None
    name = config.columns.get(config.group, config.group)
    if name not in columns:
        raise DataError(f"data.group: {where} has no column {config.group!r}. It has: {_listed(columns)}.")
    return name


def _matches(columns: set[str]) -> dict[str, list[set[str]]]:
    """Formats whose columns are there, each with the columns that it would read."""
    pairs = [set(pair) for pair in PAIRS if set(pair) <= columns]
    if "instruction" in columns:
        pairs = [pair for pair in pairs if pair != {"input", "output"}]
    found = {
        "chat": [{"messages"}] if "messages" in columns else [],
        "alpaca": [{"instruction", "input", "output"}] if {"instruction", "output"} <= columns else [],
        "labels": [{"text", "label"}] if {"text", "label"} <= columns else [],
        "qa": pairs,
        "text": [{"text"}] if "text" in columns else [],
    }
    return {name: sets for name, sets in found.items() if sets}


def _choose(where: str, rows: Sequence[RawRow], columns: Sequence[str], format: str) -> tuple[str, set[str]]:
    """The format, and the columns that it reads. A column counts when at least half of the rows have it."""
    common = {name for name in columns if 2 * sum(name in row.values for row in rows) >= len(rows)} or set(
        columns
    )
    found = _matches(common)
    if format != "auto":
        found = {name: sets for name, sets in found.items() if name == format}
        if not found:
            raise DataError(
                f"{where}: format {format} needs the columns {NEEDS[format]}; found {_listed(columns)}. "
                "Name them with data.columns, for example `data.columns: {utterance: text, intent: label}`."
            )
    elif len(found) > 1:
        found.pop("text", None)  # a text column beside a whole format is the rendered copy of the row
    if not found:
        needs = "\n".join(f"  {name}: {columns}" for name, columns in NEEDS.items())
        raise DataError(
            f"{where}: the columns {_listed(columns)} are of no known format. The formats need:\n{needs}\n"
            "Name them with data.columns, for example `data.columns: {utterance: text, intent: label}`."
        )
    choices = [(name, used) for name, sets in found.items() for used in sets]
    if len(choices) > 1:
        options = "; ".join(f"{name} ({' + '.join(sorted(used))})" for name, used in choices)
        raise DataError(
            f"{where}: the columns {_listed(columns)} can be read in more than one way: {options}. "
            "Say which with data.format, or name the columns with data.columns."
        )
    return choices[0][0], set(choices[0][1])


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(repr(column) for column in columns) or "(none)"


def _string(value: Any, column: str) -> str:
    """The text of a cell: numbers are written out, missing is ''. Broken for anything else."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, int | float):
        return str(value)
    raise Broken(f"{column} is a {type(value).__name__}, expected text")


def _required(values: Mapping[str, Any], column: str) -> str:
    if column not in values:
        raise Broken(f"{column} is missing")
    text = _string(values[column], column)
    if not text.strip():
        raise Broken(f"{column} is empty")
    return text


def _conversation(system: str, question: str) -> list[Message]:
    """System and user message; the one that is not empty alone is the user's."""
    if system.strip() and question.strip():
        return [Message("system", system), Message("user", question)]
    return [Message("user", system if system.strip() else question)]


def _read_text(values: Mapping[str, Any]) -> tuple[list[Message], str]:
    return [], _required(values, "text")


def _read_qa(values: Mapping[str, Any]) -> tuple[list[Message], str]:
    pair = next((pair for pair in PAIRS if set(pair) <= set(values)), None)
    if pair is None:
        raise Broken("the question or the answer is missing")
    system = _string(values.get("system"), "system")
    question = _string(values[pair[0]], pair[0])
    if not (system + question).strip():
        raise Broken(f"{pair[0]} is empty")
    return _conversation(system, question), _required(values, pair[1])


def _read_alpaca(values: Mapping[str, Any]) -> tuple[list[Message], str]:
    instruction = _required(values, "instruction")
    given = _string(values.get("input"), "input")
    answer = _required(values, "output")
    system = _string(values.get("system"), "system")
    if system.strip():
        question = "\n\n".join(text for text in (instruction, given) if text.strip())
        return [Message("system", system), Message("user", question)], answer
    return _conversation(instruction, given), answer


def _read_labels(values: Mapping[str, Any]) -> tuple[list[Message], str]:
    text = _required(values, "text")
    system = _string(values.get("system"), "system")
    return _conversation(system, text), _required(values, "label").strip()


def _read_chat(values: Mapping[str, Any]) -> tuple[list[Message], str]:
    entries = values.get("messages")
    if not isinstance(entries, list) or not entries:
        raise Broken("messages is not a list of {role, content}")
    messages = [_message(number, entry) for number, entry in enumerate(entries, 1)]
    turns = messages[1:] if messages[0].role == "system" else messages
    for number, message in enumerate(turns, len(messages) - len(turns) + 1):
        expected = ("user", "assistant")[(number - 1 - (len(messages) - len(turns))) % 2]
        if message.role != expected:
            raise Broken(f"message {number} is of {message.role}, expected {expected}")
    if not turns or turns[-1].role != "assistant":
        raise Broken("the last message is not of the assistant, so there is nothing to learn")
    return messages[:-1], messages[-1].content


def _message(number: int, entry: Any) -> Message:
    if not isinstance(entry, Mapping) or not set(entry) >= MESSAGE_KEYS:
        raise Broken(f"message {number} is not an object with role and content")
    if entry["role"] not in ("system", "user", "assistant"):
        raise Broken(f"message {number} has the role {entry['role']!r}, expected system, user or assistant")
    if not isinstance(entry["content"], str) or not entry["content"].strip():
        raise Broken(f"message {number} has no text as its content")
    more = sorted(key for key, value in entry.items() if key not in MESSAGE_KEYS and value)
    if more:
        raise Broken(f"message {number} has the key {more[0]!r}, which would be dropped; remove it")
    return Message(entry["role"], entry["content"])


_READERS: dict[str, Callable[[Mapping[str, Any]], tuple[list[Message], str]]] = {
    "text": _read_text,
    "qa": _read_qa,
    "alpaca": _read_alpaca,
    "labels": _read_labels,
    "chat": _read_chat,
}
