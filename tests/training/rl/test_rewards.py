"""Rewards: several graders by weight, and the tricks that a reward must not fall for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from finetooth.errors import GradeError
from finetooth.evaluation import graders
from finetooth.training.rl import rewards
from finetooth.types import Answer, Example, Message, Score


def example(question: str, answer: str, **tags: Any) -> Example:
    return Example(question, (Message("user", question),), (Answer(answer),), tags)


SUMS = [example(f"What is {n} and {n + 1}?", f"It is {2 * n + 1}") for n in range(60)]
SENTIMENT = [example(f"opinion number {n}", ("good", "bad", "mixed")[n % 3]) for n in range(60)]


def test_the_reward_is_the_mean_by_weight() -> None:
    reward = rewards.build_reward({"exact": 3, "contains": 1}, "qa", None)
    assert reward(SUMS[1], "It is 3").value == 1.0
    assert reward(SUMS[1], "It is 3, I think").value == 0.25
    assert "exact 0, contains 1" in reward(SUMS[1], "It is 3, I think").reason
    assert reward(SUMS[1], "no").value == 0.0


@pytest.mark.parametrize(
    "given",
    [
        "number",
        {"name": "number", "tolerance": 1},
        {"type": "string_check", "input": "{{sample.output_text}}", "reference": "3", "operation": "like"},
        ["number"],
        [{"grader": "number", "weight": 0.5}],
        [{"grader": {"name": "number", "tolerance": 0}}, "contains"],
        {"number": 0.1, "contains": 7},
    ],
)
def test_the_ways_to_write_one(given: Any) -> None:
    assert rewards.build_reward(given, "qa", None)(SUMS[1], "It is 3").value == 1.0


@pytest.mark.parametrize(
    "given",
    [
        {},
        [],
        {"exact": 0},
        {"exact": -1},
        {"exact": True},
        {"exact": "much"},
        [{"grader": "exact", "weight": []}],
        3,
    ],
)
def test_what_is_no_reward(given: Any) -> None:
    with pytest.raises(GradeError, match=r"train\.reward: expected a grader"):
        rewards.build_reward(given, "qa", None)


def test_an_unknown_grader_is_told_under_the_key_of_the_reward() -> None:
    with pytest.raises(GradeError, match=r"^train\.reward: 'exacct' is unknown"):
        rewards.build_reward("exacct", "qa", None)
    with pytest.raises(GradeError, match="cannot be a reward"):
        rewards.build_reward("perplexity", "qa", None)


def test_a_crash_of_one_grader_is_an_error_of_the_whole() -> None:
    def crashes(row: Example, text: str) -> bool:
        raise ZeroDivisionError("planted")

    parts = (("exact", graders.BUILT_IN["exact"], 1.0), ("mine", graders.guard(crashes), 1.0))
    found = rewards.Reward(parts)(SUMS[0], SUMS[0].target)
    assert found.value is None
    assert found.error == "mine: ZeroDivisionError: planted"


# Whether it can be fooled


def fooled(
    function: Callable[[Example, str], Any], rows: list[Example] = SUMS
) -> tuple[list[str], list[str]]:
    return rewards.audit_reward(graders.guard(function), rows)


@pytest.mark.parametrize("name", ["exact", "f1", "label", "number", "rouge"])
def test_sound_rewards_pass(name: str) -> None:
    wrong, _ = fooled(graders.BUILT_IN[name], SENTIMENT if name == "label" else SUMS)
    assert wrong == []


HACKABLE: dict[str, tuple[Callable[[Example, str], Any], str]] = {
    "long answers": (lambda row, text: min(1.0, len(text) / 8), "one repeated word"),
    "whatever has the words of the question": (
        lambda row, text: all(word in text for word in row.context[-1].content.split()) or text == row.target,
        "a copy of the question",
    ),
    "nothing said is nothing wrong": (
        lambda row, text: all(word in row.target.split() for word in text.split()),
        "an empty answer",
    ),
    "anything": (lambda row, text: 1.0, "an empty answer"),
}


@pytest.mark.parametrize("name", HACKABLE)
def test_a_hackable_reward_is_flagged(name: str) -> None:
    function, trick = HACKABLE[name]
    wrong, _ = fooled(function)
    assert any(fault.startswith(f"{trick} gets the full reward in") for fault in wrong), wrong


@pytest.mark.parametrize(
    ("wrong_value", "said"),
    [
        (-1.0, "returned -1.0, expected a number from 0 to 1"),
        (None, "returned NoneType"),
        (2, "returned 2.0"),
    ],
)
def test_a_reward_without_a_number_for_wrong_answers_is_flagged(wrong_value: Any, said: str) -> None:
    wrong, _ = fooled(graders.guard(lambda row, text: 1.0 if text == row.target else wrong_value))
    empty, *_ = [fault for fault in wrong if fault.startswith("an empty answer gets no reward in")]
    assert said in empty


def test_all_labels_at_once_are_flagged() -> None:
    wrong, doubts = fooled(graders.BUILT_IN["contains"], SENTIMENT)
    assert [fault.split(" gets")[0] for fault in wrong] == ["a list of all answers"]
    assert "the expected answer repeated three times" in doubts[0]


def test_a_question_that_holds_the_answer_is_flagged() -> None:
    rows = [example(f"The lamp in room {n} is red. What colour is it?", f"red {n}"[:3]) for n in range(30)]
    wrong, _ = fooled(graders.BUILT_IN["contains"], rows)
    assert any(fault.startswith("a copy of the question gets the full reward in 30 of 30") for fault in wrong)


def test_copying_is_no_trick_where_the_copy_is_right() -> None:
    rows = [example(f"word {n}", f"word {n}") for n in range(30)]
    assert fooled(graders.BUILT_IN["exact"], rows) == ([], [])


def test_expected_answers_without_full_marks_are_flagged() -> None:
    wrong, _ = fooled(lambda row, text: Score(0.9, "too short") if text == row.target else 0.0)
    assert wrong[0].startswith("50 of 50 expected answers do not get the full reward") or wrong[0].startswith(
        "30 of"
    )
    assert "0.9 (too short)" in wrong[0]
    wrong, _ = fooled(lambda row, text: 1 / 0)
    assert "the error ZeroDivisionError" in wrong[0]


def test_rows_without_an_expected_answer_are_tried_with_tricks_alone() -> None:
    rows = [Example(str(n), (Message("user", f"Write about {n}"),), ()) for n in range(20)]
    assert fooled(lambda row, text: float(row.id in text.split()) * (len(text.split()) == 1), rows) == (
        [],
        [],
    )
    assert fooled(lambda row, text: 1.0, rows)[0]
