"""Rows that flip between two answers, and those that cannot be compared."""

from __future__ import annotations

from finetooth.analysis.answered import AnsweredRow
from finetooth.analysis.flips import flips
from finetooth.types import Answer, Example, Message


def row(id: str, score: float | None, question: str = "q", want: str = "a") -> AnsweredRow:
    return AnsweredRow(Example(id, (Message("user", question),), (Answer(want),)), "text", score)


def test_the_four_kinds_and_their_counts() -> None:
    before = [row("f", 0.0), row("b", 1.0), row("w", 0.0), row("r", 1.0), row("w2", 0.49)]
    now = [row("w", 0.2), row("f", 0.5), row("b", 0.4), row("r", 1.0), row("w2", 0.0)]
    found = flips(before, now)
    assert found.kind == {
        "f": "fixed", "b": "broken", "w": "still wrong", "r": "still right", "w2": "still wrong"
    }  # fmt: skip
    assert list(found.kind) == ["w", "f", "b", "r", "w2"]
    assert found.counts == {"fixed": 1, "broken": 1, "still wrong": 2, "still right": 1}
    assert found.left_out == 0


def test_rows_that_are_not_the_same_are_left_out_and_counted() -> None:
    before = [row("same", 1.0), row("asked", 1.0), row("wanted", 1.0), row("failed", None), row("gone", 1.0)]
    now = [row("same", 1.0), row("asked", 1.0, question="other"), row("wanted", 1.0, want="b")]
    now += [row("failed", 1.0), row("new", 0.0)]
    found = flips(before, now)
    assert found.kind == {"same": "still right"}
    assert found.left_out == 5


def test_a_row_with_another_tool_call_is_another_row() -> None:
    def calling(city: str) -> AnsweredRow:
        call = {"tool_calls": [{"function": {"name": "weather", "arguments": {"city": city}}}]}
        return AnsweredRow(Example("id", (Message("user", "q"),), (Answer("", more=call),)), "text", 1.0)

    assert flips([calling("Graz")], [calling("Graz")]).left_out == 0
    assert flips([calling("Graz")], [calling("Linz")]).left_out == 1


def test_nothing_in_common() -> None:
    assert flips([], []).counts == {"fixed": 0, "broken": 0, "still wrong": 0, "still right": 0}
