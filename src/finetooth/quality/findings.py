"""What a rule says about the data: a finding, the rows it is about, and what would mend them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from finetooth.config.task import DataConfig
from finetooth.data.examples import source_location
from finetooth.privacy.masking import redact
from finetooth.types import Example

Severity = Literal["block", "review", "info"]
SEVERITIES: tuple[Severity, ...] = ("block", "review", "info")
EVIDENCE = 200  # characters of evidence a hit keeps
LISTED = 5  # rows that a finding's message names
Embed = Callable[[Sequence[str]], npt.NDArray[np.float32]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Hit:
    """One row that a finding is about.

    id, place, side: of the example. evidence: what is wrong in it, personal data masked; plain text of at
    most EVIDENCE characters, never HTML. other: the id of the row that it is paired with, if any.
    """

    id: str
    place: str
    side: str
    evidence: str
    other: str = ""

    @classmethod
    def of(cls, example: Example, side: str, evidence: str, other: str = "") -> Hit:
        """A hit of an example. Personal data is veiled before long evidence is cut: no half of it stays."""
        evidence = redact(evidence)
        cut = evidence if len(evidence) <= EVIDENCE else evidence[: EVIDENCE - 1] + "…"
        return cls(example.id, source_location(example), side, cut, other)


@dataclass(frozen=True, slots=True)
class Edit:
    """What `check --fix` would do to one row: `drop` it, or run a text operation of clean.TEXT over it.

    operation: the name of the text operation, "" for drop.
    """

    id: str
    kind: Literal["drop", "text"]
    operation: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one rule found.

    rule: its id, in kebab-case: what --allow names. severity: block stops `run` before any training, review
    wants a person's eye, info is worth knowing. summary: it in plain words, with the counts. hits: every
    row it is about, worst first. fix: what to do, in words. edits: what --fix would do, safe ones alone.
    facts: numbers behind it, plain JSON values.
    """

    rule: str
    severity: Severity
    summary: str
    hits: tuple[Hit, ...] = ()
    fix: str = ""
    edits: tuple[Edit, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def message(self) -> str:
        """What it says, its first rows, and what to do: for a person who sees nothing else."""
        rows = [f"  {hit.side} {hit.place}: {hit.evidence}" for hit in self.hits[:LISTED]]
        rows += [f"  and {len(self.hits) - LISTED:,} more"] if len(self.hits) > LISTED else []
        return "\n".join([self.summary, *rows, *([self.fix] if self.fix else [])])

    def to_json(self) -> dict[str, Any]:
        """A line of findings.jsonl."""
        return {
            "rule": self.rule,
            "severity": self.severity,
            "says": self.summary,
            "rows": [
                {"id": hit.id, "place": hit.place, "side": hit.side, "evidence": hit.evidence}
                | ({"other": hit.other} if hit.other else {})
                for hit in self.hits
            ],
            "fix": self.fix,
            "edits": [{"id": edit.id, "kind": edit.kind, "operation": edit.operation} for edit in self.edits],
            "facts": dict(self.facts),
        }


@dataclass(frozen=True, slots=True)
class View:
    """What the rules look at.

    sides: train, validation and test, after cleaning; few-shot examples are drawn from train. user_provided:
    the sides that the user brought as files of their own (their split is not finetooth's). format: as read.
    embed: texts -> (texts, D) vectors of the base model, where a command hands one in. progress: told how far
    a long rule is, (done, of all). cache: what rules share, see `once`; a view made from another has its own.
    """

    sides: Mapping[str, Sequence[Example]]
    format: str
    config: DataConfig
    seed: int = 0
    user_provided: frozenset[str] = frozenset()
    embed: Embed | None = None
    progress: Callable[[int, int], None] = lambda done, total: None
    cache: dict[str, Any] = field(default_factory=dict, init=False, compare=False, repr=False)

    def once(self, name: str, compute: Callable[[], T]) -> T:
        """What `compute` gives, the first time; the same object from then on, whoever asks for this name."""
        if name not in self.cache:
            self.cache[name] = compute()
        found: T = self.cache[name]
        return found

    def rows(self) -> Iterator[tuple[str, Example]]:
        """All rows with their sides, train first."""
        for side, examples in self.sides.items():
            for example in examples:
                yield side, example

    @property
    def labelled(self) -> bool:
        """Whether every answer is one of a set of labels."""
        return self.format == "labels"


Rule = Callable[[View], Iterator[Finding]]


def blocking_findings(findings: Iterable[Finding], allowed: Sequence[str]) -> list[Finding]:
    """The blocks that are not allowed."""
    return [one for one in findings if one.severity == "block" and one.rule not in allowed]


def question(example: Example) -> str:
    """What is asked, as one text: the messages but those of the system; of plain text, the text itself."""
    said = [message.content for message in example.context if message.role != "system"]
    return "\n".join(said) if example.context else example.target
