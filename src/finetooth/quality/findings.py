"""Findings of the data gate: their rows and safe edits, and the view of the data that rules inspect."""

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
EVIDENCE = 200  # maximum characters of a hit's evidence
LISTED = 5  # rows listed in a finding's message
Embed = Callable[[Sequence[str]], npt.NDArray[np.float32]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Hit:
    """One row that a finding is about.

    id, place, side: of the example. evidence: what is wrong, with personal data redacted; plain text of at
    most EVIDENCE characters, never HTML. other: id of the row it is paired with, if any.
    """

    id: str
    place: str
    side: str
    evidence: str
    other: str = ""

    @classmethod
    def of(cls, example: Example, side: str, evidence: str, other: str = "") -> Hit:
        """A hit on an example. Evidence is redacted before it is cut, so that no part of a value is left."""
        evidence = redact(evidence)
        cut = evidence if len(evidence) <= EVIDENCE else evidence[: EVIDENCE - 1] + "…"
        return cls(example.id, source_location(example), side, cut, other)


@dataclass(frozen=True, slots=True)
class Edit:
    """What `check --fix` does to a row: `drop` it, or apply a text operation of clean.TEXT.

    operation: the name of the text operation, "" for drop.
    """

    id: str
    kind: Literal["drop", "text"]
    operation: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one rule.

    rule: its id in kebab-case, as used by --allow. severity: block stops `run` before training, review needs
    a person to look, info is for information. summary: the finding in plain words, with counts. hits: all
    rows concerned, worst first. fix: advice in plain words. edits: changes made by --fix, safe ones only.
    facts: the underlying numbers, as plain JSON values.
    """

    rule: str
    severity: Severity
    summary: str
    hits: tuple[Hit, ...] = ()
    fix: str = ""
    edits: tuple[Edit, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def message(self) -> str:
        """Summary, first rows and advice as text that can stand alone."""
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
    """The data that rules inspect.

    sides: train, validation and test, after cleaning; few-shot examples are drawn from train. user_provided:
    sides given as separate files, not split by finetooth. format: as read. embed: texts -> (texts, D)
    embeddings of the base model, if available. progress: called with (done, total) by long rules. cache:
    results shared between rules, see `once`; a view made from another has its own.
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
        """The result of `compute`, cached under this name; later calls return the same object."""
        if name not in self.cache:
            self.cache[name] = compute()
        found: T = self.cache[name]
        return found

    def rows(self) -> Iterator[tuple[str, Example]]:
        """(side, row) of all rows, train first."""
        for side, examples in self.sides.items():
            for example in examples:
                yield side, example

    @property
    def labelled(self) -> bool:
        """Whether answers are labels."""
        return self.format == "labels"

    @property
    def several_labels(self) -> bool:
        """Whether a row can have several labels, which its answer joins."""
        return list(self.config.columns.values()).count("label") > 1


Rule = Callable[[View], Iterator[Finding]]


def blocking_findings(findings: Iterable[Finding], allowed: Sequence[str]) -> list[Finding]:
    """Blocking findings that are not allowed."""
    return [one for one in findings if one.severity == "block" and one.rule not in allowed]


def question(example: Example) -> str:
    """The question as one text: all non-system messages; for plain text, the text itself."""
    messages = [message.content for message in example.context if message.role != "system"]
    return "\n".join(messages) if example.context else example.target
