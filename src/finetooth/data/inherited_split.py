"""Rows of a run that another goes on from: each stays on its side, so no test row was ever trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from finetooth.data.examples import normalised_context
from finetooth.data.split import SIDES
from finetooth.types import Example

Sides = dict[str, list[Example]]


@dataclass(frozen=True, slots=True)
class ParentRun:
    """The run that training goes on from. format, labels: of its test rows. sides: train, validation, test.

    before: the rows of the runs that this one went on from itself, by side; {} without any.
    """

    name: str
    format: str
    labels: tuple[str, ...]
    sides: Mapping[str, Sequence[Example]]
    before: Mapping[str, Sequence[Example]] = field(default_factory=dict)

    def rows(self, side: str) -> list[Example]:
        """All rows that this run or one before it had on a side."""
        return [*self.before.get(side, ()), *self.sides[side]]


@dataclass(frozen=True, slots=True)
class InheritedSplit:
    """The sides of a run's own rows. sealed: whether the test is the parent_run run's rows as they are."""

    sides: Sides
    notes: list[str]
    sealed: bool = False


def inherit_split(
    examples: Sequence[Example], sides: Sides, parent_run: ParentRun, shares: Mapping[str, float]
) -> InheritedSplit:
    """Every row that the parent_run run has too stays on its side there; the others stay as they were split.

    examples: all that was split, in order. Rows are the same that ask the same. Where all that are here were
    trained on, as pairs made of a run are, the test is the parent_run run's own, and a part of the rows is
    for validation. shares: of validation and test that were asked for, 0 for a side without or with own
    files.
    """
    home = {normalised_context(row): side for side in reversed(SIDES) for row in parent_run.rows(side)}
    drawn = {row.id: side for side, rows in sides.items() for row in rows}
    side_of = {row.id: home.get(normalised_context(row)) for row in examples}
    known = sum(side is not None for side in side_of.values())
    if not known:
        return InheritedSplit(sides, [])
    found: Sides = {side: [] for side in SIDES}
    for row in examples:
        found[side_of[row.id] or drawn[row.id]].append(row)
    notes = [f"{known} of {len(examples)} rows are also in {parent_run.name} and stay on their side there."]
    if not found["validation"] and shares["validation"]:
        found["validation"] = [row for row in found["train"] if drawn[row.id] == "validation"]
        found["train"] = [row for row in found["train"] if drawn[row.id] != "validation"]
        notes.append(
            f"the {len(found['validation'])} validation rows ask what {parent_run.name} was trained on."
        )
    taken = not found["test"] and bool(shares["test"]) and bool(parent_run.sides["test"])
    if taken:
        found["test"] = list(parent_run.sides["test"])
        notes.append(f"the test is that of {parent_run.name}: {len(found['test'])} rows.")
    return InheritedSplit(found, notes, taken)
