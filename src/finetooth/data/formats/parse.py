"""Data formats, given or detected from the column names: each row becomes an Example.

    format      columns                                    becomes
    text        text                                       plain text, all of it trained on
    qa          question, answer (or another pair)         user -> assistant
    prompt      prompt, completion: text or messages       the prompt's messages -> the completion's
    alpaca      instruction, output, input if any          system + user (no input: user) -> assistant
    labels      text, label (or several label columns)     user -> the label
    chat        messages: [{role, content}, ...]           system?, user, assistant, ..., assistant
    sharegpt    conversations: [{from, value}, ...]        the same
    preference  prompt, chosen, rejected                   the prompt -> a chosen and a rejected answer

A column `system` is the system message (not for plain text), `tools` may accompany conversations, and
`weight` is the loss weight of the row. A new format needs a function that parses a row, a line in `_READERS`
and one in `_matches`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from finetooth.config.task import DataConfig
from finetooth.config.values import first_few
from finetooth.data.formats.conversations import (
    QUESTIONS,
    read_chat,
    read_preference,
    read_prompt,
    read_sharegpt,
)
from finetooth.data.formats.text_columns import (
    PAIRS,
    InvalidRowError,
    ParsedRow,
    parse_weight,
    read_alpaca,
    read_labels,
    read_qa,
    read_text,
    string,
)
from finetooth.data.read.table import RawRow, RejectedRow, Table
from finetooth.errors import ConfigError, DataError
from finetooth.types import Example

CANONICAL = (
    *("id", "system", "context", "answer", "label", "text", "messages", "prompt", "completion"),
    *("conversations", "chosen", "rejected", "tools", "group", "weight"),
)
COMPLETION = ("prompt", "completion")
NEEDS = {
    "text": "text",
    "qa": ", or ".join(" + ".join(pair) for pair in PAIRS if pair != COMPLETION),
    "prompt": "prompt + completion",
    "alpaca": "instruction + output (and input)",
    "labels": "text + label",
    "chat": "messages",
    "sharegpt": "conversations",
    "preference": "chosen + rejected (and prompt)",
}
SHOWN_COLUMNS = 20
WITH_TOOLS = ("chat", "sharegpt", "prompt", "preference")
# Names of finetooth's own tags: other columns with such a name get an underscore.
RESERVED = {name: f"{name}_" for name in ("file", "line", "label", "group")}
FLAGS = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}


@dataclass(frozen=True, slots=True)
class ParsedTable:
    """Examples of one table, with ids only where the file has them, and the rejected rows."""

    format: str
    examples: list[Example]
    rejected: list[RejectedRow]
    notes: list[str]
    total: int
    name: str = "rows"


def parse(table: Table, config: DataConfig, format: str = "auto") -> ParsedTable:
    """Examples of a table in the given format (auto: detected from the columns).

    Raises DataError if the format is ambiguous, unknown or lacks columns, ConfigError for wrong data.columns.
    """
    rows, columns = _rename(table, config.columns)
    if not rows:
        return ParsedTable("unknown", [], list(table.rejected), list(table.notes), len(table), table.name)
    name, read = _choose_format(table.name, rows, columns, format)
    group = "group" if "group" in columns else None
    if config.group is not None:
        group = config.columns.get(config.group, config.group)
        if group not in columns:
            raise DataError(
                f"data.group: {table.name} has no column {config.group!r}. It has: {_listed(columns)}."
            )
    used = read | {"id", "weight", group or "id"} | ({"system"} if name != "text" else set())
    used |= {"tools"} if name in WITH_TOOLS else set()
    extra = [column for column in columns if column not in used]
    examples: list[Example] = []
    rejected = list(table.rejected)
    for row in rows:
        try:
            examples.append(_example(row, table, name, used, group))
        except InvalidRowError as problem:
            rejected.append(RejectedRow(row.file or table.name, row.line, str(problem), dict(row.values)))
    notes = list(table.notes)
    if extra:
        notes.append(f"{table.name}: not trained on, kept as tags: {first_few(extra, SHOWN_COLUMNS)}.")
    if "weight" in columns:
        notes.append(f"{table.name}: the column weight is the loss weight of each row.")
    rejected.sort(key=lambda item: item.line)
    return ParsedTable(name, examples, rejected, notes, len(table), table.name)


def _example(row: RawRow, table: Table, name: str, used: set[str], group: str | None) -> Example:
    """The example of a row; columns not in `used` become tags. Raises InvalidRowError."""
    values = {column: value for column, value in row.values.items() if column in used}
    tags = {RESERVED.get(key, key): value for key, value in row.values.items() if key not in used}
    id = string(values.pop("id", None), "id")
    weight = parse_weight(values.pop("weight", None), "weight") * table.weight
    if not weight:
        raise InvalidRowError("weight is 0, so there is nothing to train on")
    tags["group"] = string(row.values.get(group), group) if group else ""
    if name == "prompt" and str(tags.get("label_")).strip().casefold() == "false":
        raise InvalidRowError("label is false: the completion is marked as undesirable")
    parsed = _READERS[name](values)
    label = parsed.answers[0].text if name == "labels" else ""
    tags |= {"file": row.file or table.name, "line": row.line, "label": label}
    return Example(
        id,
        tuple(
            replace(message, weight=message.weight * weight) if message.role == "assistant" else message
            for message in parsed.context
        ),
        tuple(replace(answer, weight=answer.weight * weight) for answer in parsed.answers),
        {key: value for key, value in tags.items() if value not in (None, "")},
        parsed.tools,
    )


def _rename(table: Table, mapping: Mapping[str, str]) -> tuple[list[RawRow], list[str]]:
    """The rows with data.columns applied: name in the file -> canonical name."""
    for column, canonical in mapping.items():
        if canonical not in CANONICAL:
            swapped = f" Write it the other way round: {canonical}: {column}." if column in CANONICAL else ""
            raise ConfigError(
                f"data.columns: {column}: {canonical}: the right-hand side must be one of "
                f"{', '.join(CANONICAL)}.{swapped}"
            )
        if column not in table.columns:
            raise DataError(
                f"data.columns: {table.name} has no column {column!r}. It has: {_listed(table.columns)}."
            )
        if canonical in table.columns and canonical not in mapping and canonical != column:
            raise DataError(
                f"data.columns: {column}: {canonical}, but {table.name} already has a column {canonical!r}. "
                "Map that one too, or rename it."
            )
    targets = list(mapping.values())
    duplicate = next((name for name in targets if targets.count(name) > 1 and name != "label"), None)
    if duplicate:
        raise ConfigError(
            f"data.columns: two columns are mapped to {duplicate}. Only label accepts several columns."
        )
    if not mapping:
        return table.rows, table.columns
    labels = [column for column, canonical in mapping.items() if canonical == "label"]
    rows = _one_label(table.rows, labels) if len(labels) > 1 else table.rows
    rows = [
        replace(row, values={mapping.get(name, name): value for name, value in row.values.items()})
        for row in rows
    ]
    return rows, list(dict.fromkeys(mapping.get(name, name) for name in table.columns))


def _one_label(rows: Sequence[RawRow], columns: Sequence[str]) -> list[RawRow]:
    """The rows with several label columns joined into the first of them, in the order of data.columns.

    If all their values are 0, 1, true or false: the names of the columns that are set, else `none`; a missing
    value leaves the label empty. Otherwise the values that are present.
    """
    cells = [
        ["" if row.values.get(name) is None else str(row.values[name]).strip().casefold() for name in columns]
        for row in rows
    ]
    flags = all(cell in FLAGS for line in cells for cell in line if cell)
    joined = []
    for row, line in zip(rows, cells, strict=True):
        if flags:
            names = [name for name, cell in zip(columns, line, strict=True) if FLAGS.get(cell)]
            label: Any = (", ".join(names) or "none") if all(line) else ""
        else:
            label = [row.values[name] for name, cell in zip(columns, line, strict=True) if cell]
            with suppress(InvalidRowError):  # else the list stays, and reading the row reports it
                label = ", ".join(string(value, "label") for value in label)
        others = {name: value for name, value in row.values.items() if name not in columns}
        joined.append(replace(row, values=others | {columns[0]: label}))
    return joined


def _matches(columns: set[str], format: str) -> dict[str, list[set[str]]]:
    """Formats whose columns are present, each with the sets of columns that it could read."""
    pairs = [set(pair) for pair in PAIRS if set(pair) <= columns and (pair != COMPLETION or format == "qa")]
    if "instruction" in columns:
        pairs = [pair for pair in pairs if pair != {"input", "output"}]
    sharegpt = next((name for name in ("conversations", "messages") if name in columns), None)
    sharegpt = sharegpt if format == "sharegpt" or sharegpt == "conversations" else None
    question = next((name for name in QUESTIONS if name in columns), "prompt")
    found: dict[str, list[set[str]]] = {
        "chat": [{"messages"}] if "messages" in columns else [],
        "sharegpt": [{sharegpt}] if sharegpt else [],
        "preference": [{"chosen", "rejected", question}] if {"chosen", "rejected"} <= columns else [],
        "prompt": [set(COMPLETION)] if set(COMPLETION) <= columns else [],
        "alpaca": [{"instruction", "input", "output"}] if {"instruction", "output"} <= columns else [],
        "labels": [{"text", "label"}] if {"text", "label"} <= columns else [],
        "qa": pairs,
        "text": [{"text"}] if "text" in columns else [],
    }
    return {name: sets for name, sets in found.items() if sets}


def _choose_format(
    where: str, rows: Sequence[RawRow], columns: Sequence[str], format: str
) -> tuple[str, set[str]]:
    """The format and the columns that it reads. A column counts if at least half of the rows have it."""
    counts = Counter(name for row in rows for name in row.values)
    common = {name for name, count in counts.items() if 2 * count >= len(rows)} or set(columns)
    found = _matches(common, format)
    if format != "auto":
        found = {name: sets for name, sets in found.items() if name == format}
        if not found:
            raise DataError(
                f"{where}: format {format} needs the columns {NEEDS[format]}; found {_listed(columns)}. "
                "Map them with data.columns, for example `data.columns: {utterance: text, intent: label}`."
            )
    elif len(found) > 1:
        found.pop(
            "text", None
        )  # beside the columns of another format, `text` is the rendered copy of the row
    if not found:
        needs = "\n".join(f"  {name}: {columns}" for name, columns in NEEDS.items())
        raise DataError(
            f"{where}: the columns {_listed(columns)} are of no known format. The formats need:\n{needs}\n"
            "Map them with data.columns, for example `data.columns: {utterance: text, intent: label}`."
        )
    choices = [(name, used) for name, sets in found.items() for used in sets]
    if len(choices) > 1:
        options = "; ".join(f"{name} ({' + '.join(sorted(used))})" for name, used in choices)
        (name, one), (other, two), *_ = choices
        advice = "Set data.format, or map the columns with data.columns."
        if name == other and len(one - two) <= 1:
            part = min(one - two)
            advice = f"Map one column: `data.columns: {{{part}: system}}` puts it in front of the question."
        raise DataError(
            f"{where}: the columns {_listed(columns)} can be read in more than one way: {options}. {advice}"
        )
    return choices[0][0], set(choices[0][1])


def _listed(columns: Sequence[str]) -> str:
    return first_few([repr(column[:80]) for column in columns], SHOWN_COLUMNS) or "(none)"


_READERS: dict[str, Callable[[Mapping[str, Any]], ParsedRow]] = {
    "text": read_text,
    "qa": read_qa,
    "prompt": read_prompt,
    "alpaca": read_alpaca,
    "labels": read_labels,
    "chat": read_chat,
    "sharegpt": read_sharegpt,
    "preference": read_preference,
}
