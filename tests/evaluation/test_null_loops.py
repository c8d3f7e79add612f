"""Ten iterations without any improvement: how often the ledger lets one of them be called better."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from finetooth.data.examples import to_json
from finetooth.evaluation import ledger
from finetooth.evaluation.candidates import Prediction
from finetooth.evaluation.looks import Look
from finetooth.evaluation.proof import level, record_look, withdraw_better
from finetooth.evaluation.summary import CandidateResult, Grades, summarise
from finetooth.rundir import write_jsonl
from finetooth.types import Answer, Example, Message, Score

ITERATIONS, ROWS = 10, 200


def iterations(path: Path, declared: int) -> list[Look]:
    """The looks of ten runs, each of which opens the test."""
    taken = []
    for number in range(ITERATIONS):
        run = path / f"run-{number}"
        row = Example("one", (Message("user", "q"),), (Answer("a"),))
        write_jsonl(run / "data" / "sealed.jsonl", [to_json(row)])
        ledger.seal(run, lambda: 0.0, None, path)
        look = ledger.take_look(run, f"weights {number}", lambda: 0.0, declared)
        assert look is not None
        taken.append(look)
    return taken


def right(draw: np.random.Generator, loops: int) -> tuple[np.ndarray, np.ndarray]:
    """Whether the prompt and the models of ten iterations are right, [loops, 1 or 10, rows]; all at 70%.

    Two of five rows are answered by chance, anew by each, so that two of them differ on 27% of the rows.
    """
    easy = draw.random((loops, 1, ROWS)) < 0.7
    chance = draw.random((loops, ITERATIONS + 1, ROWS)) < 0.4
    every = np.where(chance, draw.random((loops, ITERATIONS + 1, ROWS)) < 0.7, easy)
    return every[:, :1], every[:, 1:]


@pytest.mark.parametrize("declared", [1, 2, 3, 10])
def test_a_false_better_is_no_more_frequent_than_by_one_look(declared: int, tmp_path: Path) -> None:
    prompt, models = right(np.random.default_rng(declared), 2_000)
    gained, lost = ((models > prompt).sum(-1), (models < prompt).sum(-1))  # [loops, iterations]
    fewer, both = np.minimum(gained, lost), gained + lost
    p = 2 * stats.binom.cdf(fewer, both, 0.5) - stats.binom.pmf(fewer, both, 0.5)  # mid-p McNemar
    looks = iterations(tmp_path, declared)
    assert [look.number for look in looks] == [*range(1, 11)]
    level_T = np.array([0.0 if look.is_beyond else level(look) for look in looks])
    assert level_T.sum() == pytest.approx(0.05)
    better = (gained > lost) & (p < level_T)
    rate = better.any(1).mean()
    assert 0.005 < rate <= 0.035, rate
    uncounted = ((gained > lost) & (p < 0.05)).any(1).mean()
    assert uncounted > 0.10, "what ten looks that nobody counts would give"


def summary(
    prompt: Sequence[bool], tuned: Sequence[bool], alpha: float, margin: float | None = None
) -> dict[str, Any]:
    def result(name: str, right: Sequence[bool]) -> CandidateResult:
        predictions = [Prediction(row, "", 1, 1) for row in range(len(right))]
        return CandidateResult(name, predictions, Grades([Score(float(value)) for value in right]))

    candidates = [result("zero-shot", prompt), result("tuned", tuned)]
    return summarise(candidates, "exact", "test", alpha=alpha, margin=margin)


def test_a_look_beyond_the_declared_ones_is_never_better(tmp_path: Path) -> None:
    """However much better the model is."""
    verdicts, words = [], []
    for look in iterations(tmp_path, 3):
        made = summary([False] * ROWS, [True] * ROWS, level(look))
        record_look(made, look)
        assert (made["look"], made["looks"], made["alpha"]) == (look.number, 3, pytest.approx(0.05 / 3))
        verdicts.append(made["comparison"]["verdict"])
        words.append(made["words"])
    assert verdicts == 3 * ["better"] + 7 * ["not proven"]
    assert "This was look 2 at the sealed test, of 3 declared; each is tested at the level .0167." in words[1]
    assert words[3].startswith("Not proven: this is look 4 at the sealed test and 3 looks were declared")
    assert "better" not in words[3].lower()


@pytest.mark.parametrize("worse", [False, True])
def test_what_is_withdrawn_is_better_alone(worse: bool) -> None:
    prompt, tuned = ([worse] * ROWS, [not worse] * ROWS)
    made = summary(prompt, tuned, 0.05, margin=0.02)
    assert made["non_inferior"]["prompts"] is not worse
    withdraw_better(made, "these rows prove nothing")
    assert made["comparison"]["verdict"] == ("worse" if worse else "not proven")
    assert made["comparison"].get("withdrawn", False) is not worse
    assert (
        made["non_inferior"] == {"margin": 0.02, "prompts": False} and "is not inferior" not in made["words"]
    )
    assert made["words"].startswith("Worse" if worse else "Not proven: these rows prove nothing. The tuned")
    assert worse is made["words"].endswith("These rows prove nothing.")


@pytest.mark.full
def test_a_false_better_through_the_ledger_and_the_summary(tmp_path: Path) -> None:
    looks, loops = iterations(tmp_path, 3), 400
    prompt, models = right(np.random.default_rng(1), loops)
    false = 0
    for loop in range(loops):
        verdicts = []
        for look, model in zip(looks, models[loop], strict=True):
            made = summary(prompt[loop, 0].tolist(), model.tolist(), level(look))
            record_look(made, look)
            verdicts.append(made["comparison"]["verdict"])
        false += "better" in verdicts
    assert false / loops <= 0.05
