"""Change sets (data.add): rows to add to the training rows, corrected rows, and training rows to remove.

A change set is a data file in the user's own columns, with three more:

    finetooth_change   add, correct or remove; without this column every row is added
    finetooth_row      id of the row that is corrected or removed
    finetooth_why      the reason, for people; never read

In a sheet with these columns, cells that would be formulas have a guard (data/change_sheet.py).

A row without an answer is not filled in yet, and is left out. No change moves a row to another side:
additions go to the training rows only, and the sealed test stays as it is.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from finetooth.config import cleaning
from finetooth.config.task import DataConfig, Task
from finetooth.config.values import first_few, format_count_of, plural
from finetooth.data.change_sheet import CHANGE, KINDS, ROW, WHY, Kind, read_guarded
from finetooth.data.examples import content, normalised_context, with_ids
from finetooth.data.formats.columns import ColumnPlan
from finetooth.data.formats.parse import parse
from finetooth.data.formats.text_columns import string
from finetooth.data.read.files import encoding_of, read_file
from finetooth.data.read.locations import location_of, rejected_location
from finetooth.data.read.names import REPEATED, clean_columns
from finetooth.data.read.sources import find_files
from finetooth.data.read.table import RawRow, Table
from finetooth.data.split import ADDED, SIDES, Sides
from finetooth.errors import DataError
from finetooth.privacy.masking import redact
from finetooth.quality.repair.clean import CleaningStep, clean, merge_steps
from finetooth.types import Example

# Roles of the cells that a person fills in, and the reasons for which a row without them is refused.
ANSWERS = {"answer", "response", "completion", "output", "label", "chosen", "rejected"}
NO_ANSWER = {f"{role} is {what}" for role in ANSWERS for what in ("empty", "missing")}
NO_TURN = "the last message is not from the assistant"


@dataclass(frozen=True, slots=True)
class RowChange:
    """One change. row: id of the row that is corrected or removed. example: the row as it becomes.

    place: where it stands, for messages. values: its cells, with those of finetooth's own columns.
    """

    kind: Kind
    row: str
    place: str
    values: Mapping[str, Any]
    example: Example | None = None


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """The changes of one file that are filled in, and how many rows of how many are not."""

    name: str
    changes: tuple[RowChange, ...]
    waiting: int
    total: int

    def of(self, kind: Kind) -> list[RowChange]:
        """The changes of one kind, in order."""
        return [one for one in self.changes if one.kind == kind]

    def words(self) -> list[str]:
        """What it does, and what it leaves out, in sentences."""
        done = {"add": "added", "correct": "corrected", "remove": "removed"}
        counts = [f"{len(found)} {done[kind]}" for kind in KINDS if (found := self.of(kind))]
        lines = [f"{self.name}: rows {', '.join(counts)}."] if counts else []
        if self.waiting:
            lines.append(
                f"{format_count_of(self.waiting, self.total, 'row')} of {self.name} "
                f"{plural(self.waiting, 'has no answer yet and is', 'have no answer yet and are')} left out."
            )
        return lines


@dataclass(frozen=True, slots=True)
class ChangedSides:
    """The sides after the changes, what data.clean did to added rows, and notes for the user."""

    sides: Sides
    steps: list[CleaningStep]
    notes: list[str]


def read_change_sets(
    files: Sequence[str], config: DataConfig, plan: ColumnPlan, format: str
) -> list[ChangeSet]:
    """The change sets in these files, in order, read as the task's own files are.

    plan, format: of the task's files. Raises DataError for a file or a row that cannot be read.
    """
    sources, _ = find_files(files, "add")
    config = config.model_copy(update={"format": format})
    found = []
    for source in sources:
        encoding = encoding_of(source.path, config.encoding)
        table = read_guarded(clean_columns(read_file(source.path, source.name, encoding)))
        found.append(_change_set(table, config, plan))
    return found


def applied(task: Task, plan: ColumnPlan, format: str, sides: Sides) -> ChangedSides:
    """The sides with the change sets of data.add applied in order; the same sides without any.

    Added rows get ids that no other row has; corrected rows keep theirs, with their tags. Added and reworded
    training rows have the tag ADDED, by which the gate compares them with held-out rows. data.clean applies
    to added and corrected rows as to others, except `balance`, which comes later. Raises DataError for a
    change of a row that is not there or stays as it is.
    """
    config = task.data
    if not config.add:
        return ChangedSides(sides, [], [])
    sets = _identified(read_change_sets(config.add, config, plan, format), sides)
    operations = cleaning.operations(config.clean)
    texts = [one for one in operations if one.name not in ("dedupe", "balance")]
    home = {row.id: side for side in SIDES for row in sides[side]}
    rows = {row.id: row for side in ("train", "validation") for row in sides[side]}
    gone: dict[str, str] = {}  # removed rows: by which change set
    steps: list[Sequence[CleaningStep]] = []
    added: list[str] = []
    for one in sets:
        new = clean([change.example for change in one.of("add") if change.example], texts, task.seed)
        steps.append(new.steps)
        for row in new.examples:
            rows[row.id], home[row.id] = row, "train"
            added.append(row.id)
        _require_possible(one, home, gone)
        for change in one.of("correct"):
            row = _corrected(rows[change.row], change, texts, task.seed)
            if home[row.id] == "train" and normalised_context(row) != normalised_context(rows[row.id]):
                row = replace(row, tags={ADDED: one.name, **row.tags})
            rows[row.id] = row
        gone |= {change.row: one.name for change in one.of("remove")}
    train = [rows[id] for id in (*(row.id for row in sides["train"]), *added) if id not in gone]
    for copies in (one for one in operations if one.name == "dedupe"):
        result = clean(train, [copies], task.seed)
        dropped = len(result.dropped)
        steps.append([CleaningStep(copies.name, len(added) - dropped, dropped, 0)])
        train = result.examples
    validation = [rows[row.id] for row in sides["validation"]]
    notes = [*(words for one in sets for words in one.words()), *_new_labels(sets, sides)]
    return ChangedSides(sides | {"train": train, "validation": validation}, merge_steps(steps), notes)


def _new_labels(sets: Sequence[ChangeSet], sides: Sides) -> Iterator[str]:
    """A note for each label that a change set brings and no open row has: often it is a slip."""
    open = [*sides["train"], *sides["validation"]]
    known = {row.tags["label"] for row in open if "label" in row.tags}
    if not known:
        return
    for change in (change for one in sets for change in one.changes if change.example):
        label = change.example.tags.get("label") if change.example else None
        if label is None or label in known:
            continue
        near = difflib.get_close_matches(str(label), sorted(map(str, known)), 1, 0.8)
        known.add(label)
        hint = f" Did you mean {redact(near[0])!r}?" if near else ""
        yield f"{change.place}: the label {redact(str(label))[:60]!r} is new: no other row has it.{hint}"


# --- reading ---


def _change_set(table: Table, config: DataConfig, plan: ColumnPlan) -> ChangeSet:
    """The change set in a table. Raises DataError for the first row that cannot be read."""
    if broken := [row for row in table.rejected if row.reason != REPEATED]:
        raise DataError(f"{rejected_location(broken[0].redacted())}: {broken[0].redacted().reason}.")
    known = CHANGE in table.columns
    columns = [name for name in table.columns if name not in (CHANGE, ROW, WHY)]
    changes: list[RowChange] = []
    waiting = 0
    rows = [row for row in table.rows if any(map(_filled, row.values.values()))]  # spreadsheets leave some
    for row in rows:
        place = f"{table.name}, {location_of(row, table.name)}"
        kind, id = _kind(row, place, known), _cell(row.values.get(ROW), place)
        if kind != "add" and not id:
            raise DataError(f"{place}: {kind} without the id of a row in {ROW}.")
        if kind == "remove":
            changes.append(RowChange(kind, id, place, row.values))
            continue
        example = _example(row, table, columns, place, config, plan)
        if example is None:
            waiting += 1
        else:
            changes.append(RowChange(kind, id if kind == "correct" else "", place, row.values, example))
    return ChangeSet(table.name, tuple(_once(changes)), waiting, len(rows))


def _kind(row: RawRow, place: str, known: bool) -> Kind:
    """What a row does. A row that someone has written below the others is added."""
    text = _cell(row.values.get(CHANGE), place).casefold() if known else "add"
    kind = next((kind for kind in KINDS if kind == text), None)
    if kind is None and not text and not _filled(row.values.get(ROW)):
        return "add"
    if kind is None:
        near = difflib.get_close_matches(text, KINDS, 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise DataError(f"{place}: {CHANGE} is {text[:40]!r}, expected {', '.join(KINDS)}.{hint}")
    return kind


def _cell(value: Any, place: str) -> str:
    """The text of one of finetooth's own cells, without spaces around it."""
    try:
        return string(value, "the cell").strip()
    except ValueError as error:
        raise DataError(f"{place}: {error}.") from None


def _filled(value: Any) -> bool:
    return bool(str(value).strip()) if value is not None else False


def _example(
    row: RawRow, table: Table, columns: Sequence[str], place: str, config: DataConfig, plan: ColumnPlan
) -> Example | None:
    """The row as the task's format reads it; None if it has no answer yet. Raises DataError."""
    cells = [name for name in columns if plan.mapping.get(name, name) in ANSWERS]
    if cells and not any(_filled(row.values.get(name)) for name in cells):
        return None
    values = {name: row.values.get(name) for name in columns}
    alone = Table(table.name, [replace(row, values=values)], list(columns), weight=table.weight)
    parsed = parse(alone, config, config.format, plan)
    if parsed.rejected:
        reason = parsed.rejected[0].redacted().reason
        if reason in NO_ANSWER or NO_TURN in reason:
            return None
        raise DataError(f"{place}: {reason}. Fill it in, or delete the row.")
    (example,) = parsed.examples
    if not any(answer.text.strip() or answer.more for answer in example.answers):
        return None
    return example


def _once(changes: Sequence[RowChange]) -> Iterator[RowChange]:
    """The changes, each once. Raises DataError for one row that is changed in two ways."""
    first: dict[str, RowChange] = {}
    for change in changes:
        known = first.setdefault(change.row, change) if change.kind != "add" else change
        if known is change:
            yield change
        elif _said(known) != _said(change):
            raise DataError(
                f"{change.place}: the row {change.row} is changed in another way in {known.place}. Keep one."
            )


def _said(change: RowChange) -> tuple[str, str]:
    return change.kind, "" if change.example is None else content(change.example)


# --- applying ---


def _identified(sets: Sequence[ChangeSet], sides: Sides) -> list[ChangeSet]:
    """The change sets, their added rows with ids of their own. They depend on nothing that comes after."""
    known = [row for side in SIDES for row in sides[side]]
    new = [[change.example for change in one.of("add") if change.example] for one in sets]
    found = []
    for one, rows in zip(sets, with_ids([known, *new])[1:], strict=True):
        named = iter(rows)
        changes = []
        for change in one.changes:
            if change.kind == "add":
                row = next(named)
                change = replace(change, example=replace(row, tags={**row.tags, ADDED: one.name}))
            changes.append(change)
        found.append(replace(one, changes=tuple(changes)))
    return found


def _require_possible(one: ChangeSet, home: Mapping[str, str], gone: Mapping[str, str]) -> None:
    """Raise DataError for a change of a row that does not exist, or that stays as it is."""
    for change in (*one.of("correct"), *one.of("remove")):
        side, what = home.get(change.row), f"{change.place}: {change.kind} {change.row}:"
        if side == "test":
            raise DataError(f"{what} it is a row of the sealed test, which stays as it is. Delete this line.")
        if change.row in gone:
            raise DataError(f"{what} {gone[change.row]} has removed this row already. Delete this line.")
        if side is None:
            open = [id for id, where in home.items() if where != "test" and id not in gone]
            near = difflib.get_close_matches(change.row, open, 1)
            hint = f" Did you mean {near[0]}?" if near else f" Ids are, for example, {first_few(open, 2)}."
            raise DataError(f"{what} no training or validation row has this id.{hint}")
        if change.kind == "remove" and side != "train":
            raise DataError(
                f"{what} it is a validation row. Runs are compared on these, so only training rows are "
                "removed; to correct it, write correct and the right answer."
            )


def _corrected(row: Example, change: RowChange, texts: Sequence[Any], seed: int) -> Example:
    """The row with the content of the correction, cleaned; its id and tags stay, except for its label."""
    assert change.example is not None, "a correction that is not filled in was left out"
    tags = dict(row.tags)
    if "label" in change.example.tags:
        tags["label"] = change.example.tags["label"]
    result = clean([replace(change.example, id=row.id, tags=tags)], texts, seed)
    if result.dropped:
        raise DataError(f"{change.place}: {result.dropped[row.id]} (data.clean).")
    return result.examples[0]
