"""The A/A rate: answers that depend on what else is asked are counted, and a steady model has none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from finetooth.evaluation.candidates import Prediction
from finetooth.runs import repeat
from finetooth.types import Answer, Example, Message, Record

ROWS = [Example(f"row-{n}", (Message("user", f"question {n}"),), (Answer("a"),)) for n in range(100)]
EMPTY: dict[str, Any] = {"error": None, "reason": None, "got": None, "want": None}
USED: dict[str, Any] = {"prompt_tokens": 1, "completion_tokens": 1, "stop": "stop"}


def record(row: Example, candidate: str, text: str) -> Record:
    return Record(id=row.id, candidate=candidate, text=text, score=1.0, **EMPTY, **USED)


class Asked:
    """Answers `steady`, and where the place in the batch decides, `moved` at the places below `moving`."""

    def __init__(self, moving: int) -> None:
        self.moving = moving
        self.seen: list[str] = []

    def predict(self, examples: Sequence[Example]) -> Iterator[Prediction]:
        self.seen = [example.id for example in examples]
        for index in reversed(range(len(examples))):  # in the order in which they finish
            yield Prediction(index, "moved" if index < self.moving else "steady", 1, 1)


@pytest.mark.parametrize("moving", [0, 3])
def test_changed_answers_are_counted(monkeypatch: pytest.MonkeyPatch, moving: int) -> None:
    asked = Asked(moving)
    monkeypatch.setattr(repeat, "candidate", lambda *_: asked)
    monkeypatch.setattr(repeat, "primary_grader", lambda _: "label")
    records = [
        record(row, name, text) for name, text in (("zero-shot", "x"), ("tuned", "steady")) for row in ROWS
    ]
    context: Any = SimpleNamespace(tuned=lambda: None)
    assert repeat.asked_again(context, ROWS, records) == {"rows": repeat.MOST, "changed": moving}
    assert asked.seen == [row.id for row in ROWS[::2][: repeat.MOST]][::-1]  # another order, other neighbours


def test_graders_of_likelihoods_answer_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeat, "primary_grader", lambda _: "perplexity")
    assert repeat.asked_again(SimpleNamespace(), ROWS, []) is None  # type: ignore[arg-type]
