"""What cleaning did, operation by operation: counts, and a few changes to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from finetooth.types import Example

SHOWN = 5  # changes that each operation shows


@dataclass(frozen=True, slots=True)
class Change:
    """A text before and after an operation, personal data and secrets hidden in both."""

    id: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class CleaningStep:
    """What one operation did: rows that it kept (changed ones among them) and dropped, and examples."""

    operation: str
    kept: int
    dropped: int
    changed: int
    examples: tuple[Change, ...] = ()
    note: str = ""

    def plus(self, other: CleaningStep) -> CleaningStep:
        """The same operation on this source and another."""
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
    """The rows that are left, in their order; what each operation did; why each dropped row went, by id."""

    examples: list[Example]
    steps: tuple[CleaningStep, ...] = ()
    dropped: Mapping[str, str] = field(default_factory=dict)


def merge_steps(sources: Sequence[Sequence[CleaningStep]]) -> list[CleaningStep]:
    """What each operation did over several sources, in the order of the first."""
    steps: dict[str, CleaningStep] = {}
    for step in (step for steps in sources for step in steps):
        old = steps.get(step.operation)
        steps[step.operation] = step if old is None else old.plus(step)
    return list(steps.values())
