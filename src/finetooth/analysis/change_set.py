"""Change sets: rows to add, correct or remove, written in the user's own format, for `data.add`.

A row has the columns of the user's file and three more: `finetooth_change` (add, correct or remove),
`finetooth_row` (the id of the row that is corrected or removed) and `finetooth_why` (the reason, which is
never read). An answer's cell that is empty is to be filled in, and a conversation that ends with the user's
turn is to be answered. `RowForm` is the inverse of the readers: what is written is read back first, and a row
that would not give the same example is left out and counted.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from finetooth.analysis.next_rows import OURS
from finetooth.config.task import DataConfig
from finetooth.data.change_sheet import CHANGE, ROW, WHY, Kind, guarded, read_guarded
from finetooth.data.examples import content
from finetooth.data.formats.columns import JOINED, ColumnPlan
from finetooth.data.formats.conversations import EARLIER, QUESTIONS
from finetooth.data.formats.parse import RESERVED, parse
from finetooth.data.formats.questions import ANSWER
from finetooth.data.formats.text_columns import PAIRS
from finetooth.data.read.files import read_content
from finetooth.data.read.names import clean_columns, clean_name
from finetooth.data.read.table import Table
from finetooth.rundir import jsonl_bytes
from finetooth.types import Answer, Example, Message

MARK = b"\xef\xbb\xbf"  # a byte-order mark: spreadsheet programs then read UTF-8
_ROLES = {"system": "system", "user": "human", "assistant": "gpt", "tool": "tool"}


@dataclass(frozen=True, slots=True)
class Change:
    """One row of a change set.

    example: the row; without a context where it is still to be written. answer: the new one; "" for one that
    is to be filled in. row: the id of the row that is corrected or removed.
    """

    kind: Kind
    example: Example
    answer: str
    why: str
    row: str = ""


@dataclass(frozen=True, slots=True)
class RowForm:
    """How examples are written as rows of a format, with the user's own names of columns.

    columns: of the user's file, in order; () where it is not known. mapping, group: data.columns and
    data.group. plan: of the user's files. cells: for several label columns, the cells of each label.
    """

    format: str
    config: DataConfig
    columns: tuple[str, ...] = ()
    plan: ColumnPlan | None = None
    cells: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, config: DataConfig, format: str, tables: Sequence[Table] = ()) -> RowForm:
        """The form of a task's rows. tables: the user's files, if they are still there."""
        plan = ColumnPlan.of(tables, config.columns)
        columns = tuple(dict.fromkeys(column for table in tables for column in table.columns))
        labels = plan.labels
        cells: dict[str, dict[str, Any]] = {}
        if labels is not None:
            for row in (row for table in tables for row in table.rows):
                label = labels.joined(row).values.get(labels.columns[0])
                if isinstance(label, str) and label:
                    cells.setdefault(label.strip(), {name: row.values.get(name) for name in labels.columns})
        return cls(format, config, columns, plan, cells)

    def row(self, example: Example, answer: str) -> dict[str, Any]:
        """The cells of an example by the user's names, with this answer; "" leaves its cell empty."""
        found = self._renamed(self._canonical(example, answer))
        tags = {name: value for name, value in example.tags.items() if name not in OURS}
        back = {taken: name for name, taken in RESERVED.items()}
        found |= {back.get(name, name): value for name, value in tags.items() if name not in found}
        if "group" in example.tags:
            found[self._group()] = example.tags["group"]
        if example.id and (id := self._one("id")) in self.columns:
            found[id] = example.id
        weight = next((turn.weight for turn in example.answers), 1.0)
        if weight != 1 and self.format in ("text", "qa", "labels", "alpaca"):
            found[self._one("weight")] = weight
        for name in (*(clean_name(one) for one in self.config.columns), *self.columns):
            found.setdefault(name, "")
        order = {name: at for at, name in enumerate(self.columns)}
        return dict(sorted(found.items(), key=lambda item: order.get(item[0], len(order))))

    def _canonical(self, example: Example, answer: str) -> dict[str, Any]:
        system = "\n\n".join(turn.content for turn in example.context if turn.role == "system")
        turns = [turn for turn in example.context if turn.role != "system"]
        question = turns[-1].content if turns else ""
        tools: dict[str, Any] = {"tools": list(example.tools)} if example.tools else {}
        if self.format == "text":
            return {"text": answer}
        if self.format in ("chat", "sharegpt"):
            turn = replace(example.answers[0], text=answer) if example.answers else Answer(answer)
            last = Message("assistant", turn.text, turn.weight, turn.more)
            asked = [*example.context, *([last] if answer else [])]  # the turn that is missing is to be added
            column = "messages" if self.format == "chat" or self._has("messages") else "conversations"
            return {column: [self._turn(one, column) for one in asked], **tools}
        if self.format in ("prompt", "preference") and (
            len(turns) > 1
            or any(turn.more for turn in turns)
            or any(turn.more for turn in example.answers)
            or example.tools
        ):
            return {**self._completions(example, answer, whole=True), **tools}
        texts: dict[str, Any] = {"system": system} if system else {}
        if len(turns) > 1:
            name = next((name for name in self.columns if name in EARLIER), "history")
            texts[name] = [{"role": turn.role, "content": turn.content} for turn in turns[:-1]]
        if self.format == "labels":
            return {"text": question, "label": answer, **texts}
        if self.format == "qa":
            asked_in, answered_in = self._pair()
            return {asked_in: question, answered_in: answer, **texts}
        if self.format == "alpaca":
            if system and not self._has("system"):
                return {"instruction": texts.pop("system"), "input": question, "output": answer, **texts}
            return {"instruction": question, "input": "", "output": answer, **texts}
        return {**self._completions(example, answer, whole=False), **texts}

    def _completions(self, example: Example, answer: str, whole: bool) -> dict[str, Any]:
        """Prompt and completion, or prompt, chosen and rejected. whole: as lists of messages."""
        prompt: Any = [self._turn(replace(turn, weight=1.0), "messages") for turn in example.context]
        if not whole:
            prompt = next((turn.content for turn in reversed(example.context) if turn.role == "user"), "")
        texts = {one.role: one for one in example.answers}
        names = ("chosen", "rejected") if self.format == "preference" else ("completion",)
        column = "prompt"
        if self.format == "preference":
            column = next((name for name in QUESTIONS if self._has(name)), "prompt")
        found: dict[str, Any] = {column: prompt}
        for name in names:
            one = texts.get("rejected" if name == "rejected" else "chosen" if name == "chosen" else "target")
            text = one.text if one is not None and name == "rejected" else answer
            plain = one is None or (not one.more and one.weight == 1)
            message = (
                Message("assistant", text)
                if one is None
                else Message("assistant", text, one.weight, one.more)
            )
            found[name] = text if plain or not text else [self._turn(message, "messages")]
        return found

    def _turn(self, turn: Message, column: str) -> dict[str, Any]:
        who, what = (
            ("role", "content") if column == "messages" and self.format != "sharegpt" else ("from", "value")
        )
        role = turn.role if who == "role" else _ROLES[turn.role]
        weight = {"weight": turn.weight} if turn.role == "assistant" and turn.weight != 1 else {}
        return {who: role, what: turn.content, **dict(turn.more), **weight}

    def _renamed(self, canonical: Mapping[str, Any]) -> dict[str, Any]:
        """The cells under the user's names: joined texts are cut up, and labels go to their columns."""
        found: dict[str, Any] = {}
        for role, value in canonical.items():
            names = [clean_name(name) for name, one in self.config.columns.items() if one == role]
            if role == "label" and len(names) > 1:
                found |= dict(self.cells.get(str(value), dict.fromkeys(names, "")))
            elif role in JOINED and len(names) > 1 and isinstance(value, str):
                found |= _cut(value, names)
            else:
                found[names[0] if names else role] = value
        return found

    def _one(self, role: str) -> str:
        return next((clean_name(name) for name, one in self.config.columns.items() if one == role), role)

    def _has(self, role: str) -> bool:
        return role in self.config.columns.values() or role in self.columns

    def _group(self) -> str:
        return self._one("group") if self.config.group is None else clean_name(self.config.group)

    def _pair(self) -> tuple[str, str]:
        return next((pair for pair in PAIRS if all(map(self._has, pair))), ("question", "answer"))


def _cut(text: str, names: Sequence[str]) -> dict[str, str]:
    """The parts of a text that joins columns as lines `Column: its text`; else all in the last one.

    Any cut that is joined again to the same text is right, as the row is read by joining.
    """
    found: dict[str, str] = dict.fromkeys(names, "")
    at = [
        (text.find(f"{name}: ") if text.startswith(f"{name}: ") else text.find(f"\n{name}: "), name)
        for name in names
    ]
    starts = [(start + (text[start] == "\n"), name) for start, name in at if start >= 0]
    for (start, name), (end, _) in zip(starts, [*starts[1:], (len(text) + 1, "")], strict=True):
        found[name] = text[start + len(name) + 2 : max(start, end - 1)]
    if not starts:
        found[names[-1]] = text
    return found


@dataclass(frozen=True, slots=True)
class ChangeSheet:
    """The rows of a change set as they are written. left_out: changes that this format cannot hold."""

    rows: list[dict[str, Any]]
    left_out: list[Change]

    def jsonl(self) -> bytes:
        """The rows as JSON Lines, in UTF-8."""
        return jsonl_bytes(self.rows)

    def csv(self) -> bytes:
        """The same as a sheet, every cell quoted and none a formula; lists and objects are JSON."""
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        columns = [name for name in columns if name not in (CHANGE, ROW, WHY)] + [CHANGE, ROW, WHY]
        text = io.StringIO()
        writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow(map(guarded, columns))
        writer.writerows([[guarded(_cell(row.get(name))) for name in columns] for row in self.rows])
        return MARK + text.getvalue().encode("utf-8", "replace")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def change_set(form: RowForm, changes: Sequence[Change]) -> ChangeSheet:
    """The rows of the changes, in order, without those that would not be read as the same example."""
    written = [
        {**form.row(one.example, one.answer), CHANGE: one.kind, ROW: one.row, WHY: one.why} for one in changes
    ]
    good = set(_faithful(form, changes))
    return ChangeSheet(
        [row for at, row in enumerate(written) if at in good],
        [one for at, one in enumerate(changes) if at not in good],
    )


def _faithful(form: RowForm, changes: Sequence[Change]) -> Iterator[int]:
    """The positions of changes whose row, filled in, is read as the example, from either file."""
    placeholder = next(iter(form.cells), ANSWER)  # of several label columns a label that they can hold
    filled = [replace(one, answer=one.answer or one.example.target or placeholder) for one in changes]
    asked = [at for at, one in enumerate(filled) if one.example.context or form.format == "text"]
    yield from (at for at in range(len(changes)) if at not in set(asked))  # still to be written by a person
    rows = [form.row(filled[at].example, filled[at].answer) for at in asked]
    unique = [{**row, ROW: str(at)} for at, row in zip(asked, rows, strict=True)]
    if not unique:
        return
    sheets = ChangeSheet(unique, [])
    same: list[set[int]] = []
    for name, written in (("next.jsonl", sheets.jsonl()), ("next.csv", sheets.csv())):
        table = read_guarded(clean_columns(read_content(Path(name), name, Path(name).suffix, written)))
        config = form.config.model_copy(update={"encoding": "utf-8"})
        plan = replace(form.plan, present=frozenset(table.columns)) if form.plan is not None else None
        read = parse(table, config, form.format, plan).examples
        expected = {at: content(with_answer(filled[at].example, filled[at].answer)) for at in asked}
        same.append({int(one.tags[ROW]) for one in read if content(one) == expected[int(one.tags[ROW])]})
    yield from sorted(same[0] & same[1])


def with_answer(example: Example, answer: str) -> Example:
    """The example with another expected answer, in place of its first target or chosen one."""
    at = next((k for k, one in enumerate(example.answers) if one.role in ("target", "chosen")), None)
    if at is None:
        return replace(example, answers=(Answer(answer), *example.answers))
    answers = [replace(one, text=answer) if k == at else one for k, one in enumerate(example.answers)]
    return replace(example, answers=tuple(answers))
