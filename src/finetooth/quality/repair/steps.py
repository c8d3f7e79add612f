"""Results of data cleaning by operation: counts and example changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from finetooth.types import Example

SHOWN = 5  # example changes per operation


@dataclass(frozen=True, slots=True)
class Change:
    """A text before and after an operation, with personal data and secrets masked."""

    id: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class CleaningStep:
    """Result of one operation: rows kept (including changed ones), dropped and changed, with examples."""

    operation: str
    kept: int
    dropped: int
    changed: int
    examples: tuple[Change, ...] = ()
    note: str = ""

    def plus(self, other: CleaningStep) -> CleaningStep:
        """The combined result for this source and another."""
        return CleaningStep(
            self.operation,
            self.kept + other.kept,
            self.dropped + other.dropped,
            self.changed + other.changed,
            (*self.examples, *other.examples)[:SHOWN],
            " ".join(filter(None, (self.note, other.note))),
        )

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "operation": self.operation,
            "kept": self.kept,
            "dropped": self.dropped,
            "changed": self.changed,
            "examples": [{"id": one.id, "before": one.before, "after": one.after} for one in self.examples],
            "note": self.note,
        }


@dataclass(frozen=True, slots=True)
class CleaningResult:
    """The remaining rows in order, the result of each operation, and why each dropped row was, by id."""

    examples: list[Example]
    steps: tuple[CleaningStep, ...] = ()
    dropped: Mapping[str, str] = field(default_factory=dict)


def merge_steps(sources: Sequence[Sequence[CleaningStep]]) -> list[CleaningStep]:
    """The result of each operation summed over several sources, in the order of the first."""
    steps: dict[str, CleaningStep] = {}
    for step in (step for steps in sources for step in steps):
        old = steps.get(step.operation)
        steps[step.operation] = step if old is None else old.plus(step)
    return list(steps.values())
