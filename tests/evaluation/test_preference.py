"""Evaluation by preference: which of two answers is taken, by whom, and what that is worth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from tokenizers_for_tests import save_tokenizer

from finetooth.data.render.renderer import Renderer
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.errors import GradeError
from finetooth.evaluation.preference import (
    ImplicitReward,
    LengthBaseline,
    PreferenceCandidate,
    full_answer_text,
    grade_preference,
    implicit_rewards,
)
from finetooth.evaluation.runner import evaluate
from finetooth.tree import Row
from finetooth.types import Answer, Example, Message


def example(id: str, chosen: str, rejected: str) -> Example:
    answers = (Answer(chosen, "chosen"), Answer(rejected, "rejected"))
    return Example(id, (Message("user", f"what of {id}?"),), answers)


EXAMPLES = [
    example("a", "long answer", "short"),
    example("b", "fine", "a longer one"),
    example("c", "one", "two"),
]


@pytest.fixture(scope="module")
def renderer(tmp_path_factory: pytest.TempPathFactory) -> Renderer:
    place = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(place, "chatml")
    return Renderer(Tokenizer.load(place))


def test_the_grader_knows_right_wrong_and_a_tie() -> None:
    found = [grade_preference(EXAMPLES[0], text).value for text in ("long answer", "short", "")]
    assert found == [1.0, 0.0, 0.5]
    assert "this is neither" in str(grade_preference(EXAMPLES[0], "another").error)


def test_answers_that_differ_in_their_calls_alone_are_told_apart() -> None:
    def calling(name: str, role: str) -> Answer:
        call = {"function": {"name": name, "arguments": {}}}
        return Answer("", role, more={"tool_calls": [call]})  # type: ignore[arg-type]

    both = Example("d", (Message("user", "go"),), (calling("left", "chosen"), calling("right", "rejected")))
    assert grade_preference(both, full_answer_text(both.answers[0])).value == 1
    assert grade_preference(both, full_answer_text(both.answers[1])).value == 0


def test_length_goes_the_way_that_is_right_more_often_in_training() -> None:
    for train, want in (([EXAMPLES[0]], [1, 0, 0.5]), ([EXAMPLES[1]], [0, 1, 0.5])):
        candidate = LengthBaseline(train)
        found = [grade_preference(EXAMPLES[a.index], a.text).value for a in candidate.predict(EXAMPLES)]
        assert found == want
        assert candidate.notes == [
            f"always prefers the {'longer' if train[0] is EXAMPLES[0] else 'shorter'} answer"
        ]


def test_the_answer_that_is_worth_more_is_taken_and_ties_count_half(renderer: Renderer) -> None:
    seen: list[Row] = []

    def worth(rows: Sequence[Row]) -> np.ndarray:
        seen.extend(rows)
        return np.array([2.0, 1.0, 1.0, 2.0, 3.0, 3.0])

    found = evaluate(
        EXAMPLES,
        [PreferenceCandidate("tuned", renderer, worth, 256)],
        grade_preference,
        "preference",
        "validation",
    )
    assert [record.score for record in found.records] == [1, 0, 0.5]
    assert found.summary["candidates"][0]["score"] == 0.5
    assert [record.text for record in found.records] == ["long answer", "a longer one", ""]
    assert [row.signals["chosen"] for row in seen] == [1, 0, 1, 0, 1, 0]
    text = renderer.tokenizer.decode(seen[3].tokens[seen[3].weight > 0])
    assert text.startswith("a longer one")


def test_numbers_that_are_not_finite_and_rows_that_are_too_long_are_refused(renderer: Renderer) -> None:
    with pytest.raises(GradeError, match="a reward is NaN"):
        list(
            PreferenceCandidate("tuned", renderer, lambda rows: np.full(len(rows), np.nan), 256).predict(
                EXAMPLES
            )
        )
    with pytest.raises(GradeError, match="longer than 8 tokens"):
        list(PreferenceCandidate("tuned", renderer, lambda rows: np.zeros(len(rows)), 8).predict(EXAMPLES))
    alone = Example("e", (Message("user", "?"),), (Answer("yes", "target"),))
    with pytest.raises(GradeError, match="no pair of a chosen and a rejected answer"):
        list(LengthBaseline([alone]).predict([alone]))


def test_what_an_answer_is_worth_by_each_rule() -> None:
    rows = [Row([5, 6, 7], [0, 1, 1]), Row([5, 6, 7, 8, 9], [0, 1, 1, 1, 1])]
    sums, start = [-4.0, -4.0], [-5.0, -2.0]
    assert implicit_rewards(ImplicitReward(reference=True, mean=False), sums, start, rows).tolist() == [1, -2]
    assert implicit_rewards(ImplicitReward(reference=True, mean=True), sums, start, rows).tolist() == [
        0.5,
        -0.5,
    ]
    assert implicit_rewards(ImplicitReward(reference=False, mean=True), sums, start, rows).tolist() == [
        -2,
        -1,
    ]


def test_a_pair_is_two_rows_of_one_unit_behind_one_prompt(renderer: Renderer) -> None:
    talk = (Message("user", "hi"), Message("assistant", "hello"), Message("user", "well?"))
    pair = renderer.pair(Example("x", talk, EXAMPLES[0].answers))
    assert [row.unit for row in pair] == [row.id for row in pair] == ["x", "x"]
    assert [row.signals["chosen"] for row in pair] == [1.0, 0.0]
    contexts = [row.tokens[row.weight == 0].tolist() for row in pair]
    assert contexts[0] == contexts[1]  # the turn in between is not scored
    answers = [renderer.tokenizer.decode(row.tokens[row.weight > 0]) for row in pair]
    assert [text.startswith(want) for text, want in zip(answers, ("long answer", "short"), strict=True)] == [
        True
    ] * 2
    assert all(row.tokens[-1] == renderer.stop_id for row in pair)
