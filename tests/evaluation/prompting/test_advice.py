"""The recommendation on simulated records of all three outcomes, and the cost of an answer."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from finetooth.evaluation.candidates import Prediction
from finetooth.evaluation.prompting.advice import before_training, break_even, money, recommend
from finetooth.evaluation.prompting.instructions import read_instructions, variants
from finetooth.evaluation.summary import CandidateResult, Grades, summarise
from finetooth.types import Score

N = 300


def graded(name: str, right: Sequence[bool], tokens: int) -> CandidateResult:
    predictions = [Prediction(row, "x", tokens, 2) for row in range(len(right))]
    return CandidateResult(name, predictions, Grades([Score(float(one)) for one in right]))


def summary(prompt: float, tuned: float, seed: int, rows: int = N) -> dict[str, Any]:
    """An evaluation in which both arms find the same rows hard."""
    hard = np.random.default_rng(seed).random((3, rows))
    mixed = [np.where(hard[2] < 0.7, hard[0], hard[1]), hard[0]]
    return summarise(
        [
            graded("zero-shot", hard[0] < prompt - 0.1, 60),
            graded("prompt", mixed[0] < prompt, 400),
            graded("tuned", mixed[1] < tuned, 40),
        ],
        "label",
        "test",
    )


@pytest.mark.parametrize(
    ("prompt", "tuned", "expected"),
    [
        (0.98, 0.98, "prompting is enough"),  # a task that a few shots solve
        (0.70, 0.55, "prompting is enough"),
        (0.20, 0.90, "fine-tune"),  # arbitrary label codes
        (0.60, 0.75, "fine-tune"),
    ],
)
def test_clear_cases_are_told_right(prompt: float, tuned: float, expected: str) -> None:
    outcomes = [recommend(summary(prompt, tuned, seed)).outcome for seed in range(40)]
    assert outcomes.count(expected) >= 38


def test_few_rows_prove_nothing() -> None:
    outcomes = [recommend(summary(0.5, 0.55, seed, rows=40)).outcome for seed in range(40)]
    assert outcomes.count("not proven") >= 30


def test_equal_arms_are_hardly_ever_told_to_fine_tune() -> None:
    outcomes = [recommend(summary(0.5, 0.5, seed)).outcome for seed in range(120)]
    assert outcomes.count("fine-tune") <= 8


def test_the_words_have_the_numbers() -> None:
    result = summary(0.2, 0.9, 1)
    words = recommend(result).words
    by_name = {entry["name"]: entry for entry in result["candidates"]}
    assert words.startswith("Fine-tune: the best prompt (prompt)")
    for name in ("prompt", "tuned"):
        assert f"{100 * by_name[name]['score']:.1f}%" in words
    assert "An answer takes 42 tokens; the prompt's takes 402." in words
    paid = recommend(result, training_tokens=120_000)
    assert paid.break_even == 1_000 and "saved after 1,000 answers" in paid.words


def test_without_a_tuned_model_nothing_is_compared() -> None:
    alone = summarise([graded("zero-shot", [True] * 5, 3)], "label", "test")
    assert recommend(alone).outcome == "not proven"


@pytest.mark.parametrize(
    ("right", "of", "outcome"),
    [(98, 98, "prompting is enough"), (30, 100, "fine-tune"), (88, 100, "not proven")],
)
def test_before_training_the_confirmation_rows_decide(right: int, of: int, outcome: str) -> None:
    assert before_training([1.0] * right + [0.0] * (of - right), 4).outcome == outcome


def test_the_best_of_several_finalists_needs_more() -> None:
    """Of four prompts that are right in 90% one looks better, and is seldom said to solve the task."""
    draw = np.random.default_rng(0)
    best = [int(draw.binomial(200, 0.9, 4).max()) for _ in range(400)]
    said = {
        finalists: sum(
            before_training([1.0] * right + [0.0] * (200 - right), finalists).outcome == "prompting is enough"
            for right in best
        )
        for finalists in (1, 4)
    }
    assert said[4] <= 0.035 * 400 < 0.06 * 400 < said[1]


def test_cost_and_break_even() -> None:
    assert money(1_400, 20, 0.5, 2.0) == pytest.approx((700 + 40) / 1e6)
    assert break_even(1_000_000, 1_420, 140) == 2_344  # 3,000,000 tokens / 1,280 saved for each answer
    assert break_even(1_000_000, 140, 140) is None


def test_instructions_are_deterministic_and_of_the_file(tmp_path: Any) -> None:
    found = variants("Sort the mail.", ["a", "b"])
    assert found == variants("Sort the mail.", ["a", "b"]) and len(set(found)) == len(found) == 3
    assert sum("Sort the mail." in one for one in found) == 2
    (tmp_path / "list.yaml").write_text("- one\n- two: 2\n")
    (tmp_path / "list.txt").write_text("one\n\n two \none\n")
    assert read_instructions(tmp_path / "list.txt") == ["one", "two"]
    with pytest.raises(Exception, match="expected a list of instructions"):
        read_instructions(tmp_path / "list.yaml")
