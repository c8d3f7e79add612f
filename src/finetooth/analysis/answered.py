"""A row with the tuned model's answer to it: what error analysis looks at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from finetooth.evaluation.summary import TUNED
from finetooth.types import Example

HALF = 0.5  # an answer with less than half marks is wrong


@dataclass(frozen=True, slots=True)
class AnsweredRow:
    """One row and the answer to it. score: in [0, 1]; None where the grader failed.

    stop: `stop`, `string`, or `length` for an answer that was cut off. reason: of the grade. got, want: as
    the grader compared them. confidence: the calibrated one in a chosen label. chosen: the answer was chosen
    from a label set, and not written.
    """

    example: Example
    text: str
    score: float | None
    stop: str = "stop"
    reason: str = ""
    got: str = ""
    want: str = ""
    confidence: float | None = None
    completion_tokens: int = 0
    chosen: bool = False

    @property
    def id(self) -> str:
        """The row's id."""
        return self.example.id

    @property
    def wrong(self) -> bool:
        """Whether the answer has less than half marks. An answer that was not graded is not wrong."""
        return self.score is not None and self.score < HALF


def answered_rows(
    examples: Iterable[Example], records: Iterable[Mapping[str, Any]], candidate: str = TUNED
) -> Iterator[AnsweredRow]:
    """The rows that a candidate has answered, in the order of its records.

    records: lines of records.jsonl. Records of rows that are not among the examples are left out.
    """
    by_id = {example.id: example for example in examples}
    for line in records:
        if line["candidate"] != candidate or line["id"] not in by_id:
            continue
        yield AnsweredRow(
            by_id[line["id"]],
            line["text"],
            line["score"],
            line["stop"],
            line["reason"],
            line["got"],
            line["want"],
            line.get("confidence"),
            line["completion_tokens"],
            chosen="lenient" not in line,
        )
