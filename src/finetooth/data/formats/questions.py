"""Rows without answers: what is asked of a model that was trained on rows of the same format.

A row is read by the very function that reads training rows, with a placeholder for the answer that it lacks,
so that its prompt cannot differ from theirs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from finetooth.data.formats.columns import CANONICAL, advice, has_turns, joined_text, listed
from finetooth.data.formats.conversations import EARLIER, QUESTIONS
from finetooth.data.formats.parse import FORMAT_READERS, WITH_TOOLS, with_earlier_turns
from finetooth.data.formats.text_columns import PAIRS, InvalidRowError, parse_list
from finetooth.data.read.locations import location, location_of
from finetooth.data.read.names import clean_name, similar_names
from finetooth.data.read.table import RawRow, Table
from finetooth.errors import DataError
from finetooth.privacy.masking import redact
from finetooth.types import Example

ANSWER = "?"  # a placeholder; it is never rendered
# Roles of columns that hold answers or belong to training: a question has none of them.
_NOT_ASKED = {"answer", "label", "completion", "chosen", "rejected", "group", "weight"}
# The columns of a question in each format, the first that a file has; and those of its answer.
_ASKED: dict[str, tuple[str, ...]] = {
    "labels": ("text",),
    "qa": tuple(dict.fromkeys(question for question, _ in PAIRS)),
    "prompt": ("prompt",),
    "alpaca": ("instruction",),
    "chat": ("messages",),
    "sharegpt": ("conversations", "messages"),
    "preference": (*QUESTIONS, "messages"),
}
ANSWERS: dict[str, tuple[str, ...]] = {
    "labels": ("label",),
    "qa": tuple(dict.fromkeys(answer for _, answer in PAIRS)),
    "prompt": ("completion",),
    "alpaca": ("output",),
    "preference": ("chosen", "rejected"),
}
# A model without a run: the formats by which a question of its file is read, in this order.
_ANY = ("chat", "sharegpt", "prompt", "alpaca", "labels", "qa")


@dataclass(frozen=True, slots=True)
class Question:
    """A row to be asked: its example, or the reason why there is none. place: RawRow.place.

    where: for messages, such as `row 5 (T-31)`.
    """

    place: int
    where: str
    example: Example | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Questions:
    """The rows of a file in order. has_system: whether any of them has a system message of its own."""

    rows: list[Question]
    has_system: bool


def read_questions(
    table: Table, format: str, columns: Mapping[str, str] | None = None, unread: Collection[str] = ()
) -> Questions:
    """The questions of a table, whatever answers it has or lacks.

    format: that of the training rows; auto for a model without a run. columns: their data.columns, of which
    those of answers are not used. unread: columns that training left out. A row that cannot be read is a
    Question with the reason. Raises DataError where the file lacks the column of the question.
    """
    mapping = {clean_name(name): role for name, role in (columns or {}).items() if role not in _NOT_ASKED}
    if format == "text":
        raise DataError(
            "The run was trained on plain text, whose rows have no question to answer. To talk to its "
            "model: finetooth chat RUN"
        )
    joined = _joined_columns(table, mapping)
    # A sheet that has the role's own name instead of the mapped column is read by that.
    mapping = {name: role for name, role in mapping.items() if name in table.columns}
    names = list(dict.fromkeys(mapping.get(name, name) for name in table.columns))
    for name, role in mapping.items():
        if role in table.columns and role != name and role not in mapping:
            raise DataError(
                f"{table.name}: the run reads {name!r} as {role}, and the file also has a column {role!r}. "
                "Remove or rename one of them."
            )
    asked = [name for name in names if name in mapping.values() or name not in unread]
    format, column = _question_column(table, format, asked, columns or {})
    found = [Question(row.place, location_of(row, table.name), None, row.reason) for row in table.rejected]
    for row in table.rows:
        for parts in joined:
            row = joined_text(row, parts)
        values = {mapping.get(name, name): value for name, value in row.values.items()}
        id = values.get("id")
        where = location_of(row, table.name, redact(id.strip()) if isinstance(id, str) else "")
        try:
            found.append(Question(row.place, where, _example(row, values, table, format, column)))
        except InvalidRowError as problem:
            found.append(Question(row.place, where, None, str(problem)))
    messages = [message for question in found if question.example for message in question.example.context]
    has_system = any(message.role == "system" for message in messages)
    return Questions(sorted(found, key=lambda question: question.place), has_system)


def _joined_columns(table: Table, mapping: Mapping[str, str]) -> list[list[str]]:
    """The columns whose texts are joined as one role's, for each such role that the file has.

    Raises DataError where the file has only some of them: the text would lack a part that training saw.
    """
    found: list[list[str]] = []
    for role in dict.fromkeys(mapping.values()):
        parts = [name for name, one in mapping.items() if one == role]
        missing = [name for name in parts if name not in table.columns]
        if len(parts) > 1 and missing and len(missing) < len(parts):
            raise DataError(
                f"{table.name} has no column {missing[0]!r}. The run reads {listed(parts)} together as "
                f"{role}. It has: {listed(table.columns)}. Give the column that name in the file."
            )
        if len(parts) > 1 and not missing:
            found.append(parts)
    return found


def _question_column(
    table: Table, format: str, names: Sequence[str], columns: Mapping[str, str]
) -> tuple[str, str]:
    """The format, and the column of the question. Raises DataError, with what to type, if there is none."""
    for known in _ANY if format == "auto" else (format,):
        present = [name for name in _ASKED[known] if name in names]
        # A file may hold answers to its questions: then its pair of columns is the one that training read.
        pairs = [pair for pair in PAIRS if known == "qa" and set(pair) <= set(names)]
        if pairs or (known == "qa" and "context" in columns.values() and "context" in names):
            present = [pairs[0][0] if pairs else "context"]
        if len(present) > 1 and known == "qa":
            raise DataError(
                f"{table.name}: the columns {listed(present)} may each be the question. Name it, for "
                f"example --columns {_typed({present[0]: 'context'})}"
            )
        if present:
            return ("chat" if present[0] == "messages" and known == "preference" else known), present[0]
        if known == "alpaca" and format == known and "input" in names:
            return "qa", "input"  # the instruction is then the system message of the run
    role = "text" if format in ("labels", "auto") else _ASKED[format][0]
    role = "context" if format == "qa" else role
    wanted = [name for name, one in columns.items() if one in (*_ASKED.get(format, ()), role)] or [role]
    near = similar_names(table.columns, [*wanted, *_ASKED.get(format, ())])
    example = next(iter(near), table.columns[0] if table.columns else "message")
    typed = f"Say which one it is, for example --columns {_typed({example: role})}"
    raise DataError(
        f"{table.name} has no column {wanted[0]!r}, which holds the question of each row. It has: "
        f"{listed(table.columns)}. {typed if role in CANONICAL else 'Give the column that name in the file.'}"
    )


def _typed(mapping: Mapping[str, str]) -> str:
    """The mapping as a flag's value, in quotes for the shell."""
    return f'"{advice(mapping).strip("`").partition(": ")[2]}"'


def _example(row: RawRow, values: dict[str, Any], table: Table, format: str, column: str) -> Example:
    """The example of one row, with a placeholder as its answer. Raises InvalidRowError."""
    earlier = [name for name in EARLIER if name != column and has_turns(values.get(name))]
    used = {column, "system", *(("input",) if format == "alpaca" else ())}
    used |= {"tools"} if format in WITH_TOOLS else set()
    asked = {column: None} | {name: value for name, value in values.items() if name in used}
    if column in ("messages", "conversations"):
        asked[column] = _with_answer(asked[column], column)
    elif format == "qa":
        answer = next(answer for question, answer in PAIRS if question == column)
        asked[answer] = ANSWER
    else:
        asked |= dict.fromkeys(ANSWERS[format], ANSWER)
    if format == "preference":
        asked["rejected"] = f"{ANSWER}{ANSWER}"
    parsed = FORMAT_READERS[format](asked)
    tags = {name: values[name] for name in earlier}
    example = Example("", tuple(parsed.context), tuple(parsed.answers[:1]), tags, parsed.tools)
    where = location(row.file or table.name, row.line, row.sheet_row)
    return replace(with_earlier_turns(example, earlier, format), id=where)


def _with_answer(value: Any, column: str) -> Any:
    """The turns with an answer at their end; what a file's conversation ends with is what is asked for."""
    entries = parse_list(value)
    if not entries or not isinstance(entries[-1], Mapping):
        return value  # the reader says what is wrong with it
    speaker = entries[-1].get("role", entries[-1].get("from"))
    if speaker in ("assistant", "gpt", "chatgpt", "bot", "model"):
        entries = entries[:-1]
    last = {"from": "gpt", "value": ANSWER} if column == "conversations" else {}
    return [*entries, last or {"role": "assistant", "content": ANSWER}]
