"""Early stopping by what the model answers: graded at validations, best weights restored, resume exact."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from preflights_for_tests import trial
from rich.console import Console
from training_for_tests import fit, settings

from finetooth.errors import Interrupted
from finetooth.evaluation import graders
from finetooth.evaluation.candidates import ModelCandidate
from finetooth.evaluation.prompts import Prompt
from finetooth.model.api import Model
from finetooth.training.selection import AnswerValidator, better
from finetooth.training.step import evaluate_rows
from finetooth.types import Example, Sampling, Score

CONFIG = settings(
    adapter="none", learning_rate=4e-3, epochs=40, batch_size=5, micro_tokens=1024, validate_every=6
)
SHORT = CONFIG.model_copy(update={"epochs": 6.0})


def contrary(example: Example, text: str) -> Score:
    """Full marks for whatever is not the answer: the score falls where the loss does."""
    return Score(float(text != example.target))


def crashing(example: Example, text: str) -> Score:
    """No score for one row; the others as `exact` has them."""
    if example.id == "q0":
        raise ValueError("no opinion")
    return graders.exact(example, text)


class Run:
    """A training of ten questions that is validated on the same ten."""

    def __init__(self, place: Path, run: Path, grader: Any = graders.exact, scored: bool = True) -> None:
        self.run = run
        self.trial = trial(place, adapter="none")
        self.model: Model = self.trial.model
        candidate = ModelCandidate(
            "tuned", self.model, self.trial.training_renderer, Prompt("tuned"), Sampling(max_tokens=24)
        )
        self.answers = AnswerValidator(candidate, self.trial.examples, graders.guard(grader), scored)

    def fit(self, **options: Any) -> Any:
        rows = list(self.trial.rows)
        config = options.pop("config", CONFIG)
        return fit(self.model, self.run, config, rows, rows, answers=self.answers, **options)

    def lines(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.run / "train" / name).read_text().splitlines()]

    def valid(self) -> dict[int, tuple[float | None, float]]:
        lines = [line for line in self.lines("metrics.jsonl") if "valid_loss" in line]
        return {line["step"]: (line.get("valid_score"), line["valid_loss"]) for line in lines}


def test_higher_scores_win_and_the_loss_decides_ties() -> None:
    assert better(None, 1.0, None, None)
    assert better(0.5, 2.0, 0.4, 1.0) and not better(0.4, 1.0, 0.5, 2.0)
    assert better(0.5, 0.9, 0.5, 1.0) and not better(0.5, 1.0, 0.5, 1.0)
    assert better(None, 0.9, None, 1.0) and not better(None, 1.1, None, 1.0)
    assert better(None, 0.9, 0.5, 1.0)  # a score that could not be had: the loss alone


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Any]:
    """A run to its end, and its result. Nothing may change it."""
    place = tmp_path_factory.mktemp("finished")
    run = Run(place, place / "run")
    return run, run.fit()


def test_the_best_answers_are_kept(finished: tuple[Run, Any]) -> None:
    run, result = finished
    valid = run.valid()
    assert valid.pop(0)[0] == 0.0
    assert result.best_score == max(score for score, _ in valid.values()) > 0
    tied = {step: loss for step, (score, loss) in valid.items() if score == result.best_score}
    assert result.best_step == min(tied, key=lambda step: (tied[step], step))
    assert run.answers.evaluate().score == result.best_score
    assert (
        evaluate_rows(run.model, run.trial.rows, budget=1024)[0] == result.best_loss == tied[result.best_step]
    )


@pytest.mark.full
def test_the_score_decides_against_the_loss(tmp_path: Path) -> None:
    """Graded by a contrary grader the weights with the lowest loss are not the best."""
    run = Run(tmp_path, tmp_path / "run", contrary)
    result = run.fit()
    valid = run.valid()
    valid.pop(0)
    lowest = min(valid, key=lambda step: valid[step][1])
    assert valid[lowest][0] < 1.0 == result.best_score
    assert result.best_step != lowest
    assert run.answers.evaluate().score == 1.0


@pytest.mark.full
def test_patience_counts_scores(tmp_path: Path) -> None:
    run = Run(tmp_path, tmp_path / "run", contrary)
    result = run.fit(config=CONFIG.model_copy(update={"patience": 2, "epochs": 60.0}))
    assert result.stopped_early and result.steps == result.best_step + 2 * 6


def test_samples_are_the_same_three_rows_each_time(finished: tuple[Run, Any]) -> None:
    run, _ = finished
    samples = run.lines("samples.jsonl")
    assert [line["id"] for line in samples] == ["q0", "q1", "q2"] * len(run.valid())
    assert list(samples[0]) == ["step", "id", "text", "want", "score", "stop"]
    last = samples[-3:]
    assert [line["text"] == line["want"] for line in last] == [line["score"] == 1.0 for line in last]
    assert {line["score"] for line in samples} == {0.0, 1.0} and samples[0]["score"] == 0.0


def test_without_scores_the_loss_chooses_and_samples_are_still_shown(tmp_path: Path) -> None:
    run = Run(tmp_path, tmp_path / "run", scored=False)
    result = run.fit(config=SHORT)
    assert result.best_score is None and all(score is None for score, _ in run.valid().values())
    assert len(run.lines("samples.jsonl")) == 3 * len(run.valid())


def test_an_answer_on_which_the_grader_crashes_is_not_right(tmp_path: Path) -> None:
    run = Run(tmp_path, tmp_path / "run", crashing)
    result = run.fit(config=SHORT)
    assert run.lines("samples.jsonl")[0]["score"] is None
    assert result.best_score is not None and result.best_score * 10 == pytest.approx(
        round(result.best_score * 10)
    )
    assert result.best_score <= 0.9
    valid = [line for line in run.lines("metrics.jsonl") if "valid_loss" in line]
    assert {line["valid_errors"] for line in valid} == {1}


@pytest.mark.full
def test_few_graded_answers_do_not_win(tmp_path: Path) -> None:
    """A grader that fails on what is wrong: weights with one right answer have no full marks."""

    def demanding(example: Example, text: str) -> Score:
        if text != example.target:
            raise ValueError("cannot be read")
        return Score(1.0)

    run = Run(tmp_path, tmp_path / "run", demanding)
    result = run.fit(config=CONFIG.model_copy(update={"epochs": 20.0}))
    for step, (score, _) in run.valid().items():
        line = next(
            line for line in run.lines("metrics.jsonl") if line["step"] == step and "valid_loss" in line
        )
        assert score == pytest.approx((10 - line.get("valid_errors", 0)) / 10)
    assert result.best_score == max(score for score, _ in list(run.valid().values())[1:])


@pytest.mark.full
@pytest.mark.parametrize("step", [6, 31])
def test_resume_is_exact(finished: tuple[Run, Any], tmp_path: Path, step: int) -> None:
    """Law 6, with answers: weights, choice, lines and samples are those of an uninterrupted run."""
    straight, want = finished
    broken, again = (Run(tmp_path, tmp_path / "run") for _ in range(2))
    calls = iter(range(1, 100))
    with pytest.raises(Interrupted):
        broken.fit(stop=lambda: next(calls) == step)
    assert again.fit() == want
    assert again.model.digest() == straight.model.digest()
    assert again.valid() == straight.valid()
    for name in ("samples.jsonl", "row_losses.jsonl"):
        assert again.lines(name) == straight.lines(name)


def test_answers_change_no_weight(tmp_path: Path) -> None:
    asked, plain = (Run(tmp_path, tmp_path / name) for name in ("asked", "plain"))
    asked.fit(config=SHORT)
    assert len(asked.valid()) > 2 and all(score is not None for score, _ in asked.valid().values())
    rows = list(plain.trial.rows)
    fit(plain.model, plain.run, SHORT, rows, rows, console=Console(quiet=True))
    want = [line["loss"] for line in plain.lines("metrics.jsonl") if "loss" in line]
    assert [line["loss"] for line in asked.lines("metrics.jsonl") if "loss" in line] == want
