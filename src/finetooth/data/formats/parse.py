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
`weight` is the loss weight of the row. A new format needs a function that parses a row, a line in
`FORMAT_READERS` and one in `_matches`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from finetooth.config.task import DataConfig
from finetooth.config.values import first_few
from finetooth.data.formats.column_roles import suggested_roles
from finetooth.data.formats.columns import (
    SHOWN_COLUMNS,
    ColumnPlan,
    advice,
    few_valued,
    has_turns,
    listed,
    nearest_column,
    require_clear,
)
from finetooth.data.formats.conversations import (
    EARLIER,
    QUESTIONS,
    earlier_turns,
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
from finetooth.data.read.names import clean_name
from finetooth.data.read.table import RawRow, RejectedRow, Table
from finetooth.data.split import ADDED, CLUSTER
from finetooth.errors import DataError
from finetooth.types import Example

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
WITH_TOOLS = ("chat", "sharegpt", "prompt", "preference")
# Names of finetooth's own tags: other columns with such a name get an underscore.
RESERVED = {name: f"{name}_" for name in ("file", "line", "sheet_row", "label", "group", CLUSTER, ADDED)}


@dataclass(frozen=True, slots=True)
class ParsedTable:
    """Examples of one table, with ids only where the file has them, and the rejected rows.

    maybe_labels: columns beside plain text that look like labels, with the number of their values.
    """

    format: str
    examples: list[Example]
    rejected: list[RejectedRow]
    notes: list[str]
    total: int
    name: str = "rows"
    maybe_labels: Mapping[str, int] = field(default_factory=dict)


def parse(
    table: Table, config: DataConfig, format: str = "auto", plan: ColumnPlan | None = None
) -> ParsedTable:
    """Examples of a table in the given format (auto: detected from the columns).

    plan: made from all files of the task; by default from this one. Raises DataError if the format is
    ambiguous, unknown or lacks columns, ConfigError for wrong data.columns.
    """
    plan = plan or ColumnPlan.of([table], config.columns)
    rows, columns = plan.renamed(table)
    if not rows:
        return ParsedTable("unknown", [], list(table.rejected), list(table.notes), len(table), table.name)
    name, read = _choose_format(table.name, rows, columns, format)
    group = "group" if "group" in columns else None
    if config.group is not None:
        group = plan.mapping.get(clean_name(config.group), clean_name(config.group))
        if group not in columns and clean_name(config.group) not in plan.present:
            raise DataError(
                f"data.group: {table.name} has no column {config.group!r}. It has: {listed(columns)}."
                f"{nearest_column('data.group', config.group, columns)}"
            )
    used = read | {"id", "weight", group or "id"} | ({"system"} if name != "text" else set())
    used |= {"tools"} if name in WITH_TOOLS else set()
    extra = [column for column in columns if column not in used]
    if format == "auto":
        require_clear(table.name, name, columns, used, rows)
    earlier = [one for one in extra if one in EARLIER and any(has_turns(row.values.get(one)) for row in rows)]
    extra = [column for column in extra if column not in earlier]
    examples: list[Example] = []
    rejected = list(table.rejected)
    for row in rows:
        try:
            examples.append(with_earlier_turns(_example(row, table, name, used, group), earlier, name))
        except InvalidRowError as problem:
            id = row.values.get("id")
            rejected.append(
                RejectedRow(
                    row.file or table.name,
                    row.line,
                    str(problem),
                    dict(row.values),
                    sheet_row=row.sheet_row,
                    id=id.strip() if isinstance(id, str) else "",
                )
            )
    notes = list(table.notes)
    if extra:
        notes.append(f"{table.name}: not trained on, kept as tags: {first_few(extra, SHOWN_COLUMNS)}.")
    if earlier:
        notes.append(
            f"{table.name}: earlier turns are read from {', '.join(earlier)}, and are not trained on."
        )
    if "weight" in columns:
        notes.append(f"{table.name}: the column weight is the loss weight of each row.")
    rejected.sort(key=lambda item: item.line)
    maybe = few_valued(extra, rows) if (name, format) == ("text", "auto") else {}
    return ParsedTable(name, examples, rejected, notes, len(table), table.name, maybe)


def with_earlier_turns(example: Example, columns: Sequence[str], name: str) -> Example:
    """The example with the turns in these tags in front of its question. Raises InvalidRowError."""
    tags = dict(example.tags)
    turns = [turn for column in columns for turn in earlier_turns(tags.pop(column, None), column)]
    if not turns:
        return replace(example, tags=tags) if columns else example
    system = [message for message in example.context if message.role == "system"]
    rest = example.context[len(system) :]
    if len(rest) != 1 or rest[0].role != "user":
        raise InvalidRowError(
            f"the turns in {' and '.join(columns)} would be dropped in the format {name}; put all turns in "
            "messages: [{role, content}, ...]"
        )
    return replace(example, context=(*system, *turns, *rest), tags=tags)


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
    parsed = FORMAT_READERS[name](values)
    label = parsed.answers[0].text if name == "labels" else ""
    tags |= {"file": row.file or table.name, "line": row.line, "label": label}
    tags |= {"sheet_row": row.sheet_row or ""}
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
                f"{where}: format {format} needs the columns {NEEDS[format]}; found {listed(columns)}. "
                f"Map them with data.columns, for example {advice(suggested_roles(columns, rows))}."
            )
    elif len(found) > 1:
        found.pop(
            "text", None
        )  # beside the columns of another format, `text` is the rendered copy of the row
    if not found:
        needs = "\n".join(f"  {name}: {columns}" for name, columns in NEEDS.items())
        raise DataError(
            f"{where}: the columns {listed(columns)} are of no known format. The formats need:\n{needs}\n"
            f"Map them with data.columns, for example {advice(suggested_roles(columns, rows))}."
        )
    choices = [(name, used) for name, sets in found.items() for used in sets]
    if len(choices) > 1:
        options = "; ".join(f"{name} ({' + '.join(sorted(used))})" for name, used in choices)
        (name, one), (other, two), *_ = choices
        hint = "Set data.format, or map the columns with data.columns."
        if name == other and len(one - two) <= 1:
            part = min(one - two)
            hint = f"Map one column: `data.columns: {{{part}: system}}` puts it in front of the question."
        raise DataError(
            f"{where}: the columns {listed(columns)} can be read in more than one way: {options}. {hint}"
        )
    return choices[0][0], set(choices[0][1])


FORMAT_READERS: dict[str, Callable[[Mapping[str, Any]], ParsedRow]] = {
    "text": read_text,
    "qa": read_qa,
    "prompt": read_prompt,
    "alpaca": read_alpaca,
    "labels": read_labels,
    "chat": read_chat,
    "sharegpt": read_sharegpt,
    "preference": read_preference,
}
