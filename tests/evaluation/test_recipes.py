"""Claims about recipes: equal recipes are seldom called different, however much the seeds matter."""

from __future__ import annotations

import numpy as np
import pytest
from gate import gate
from scipy import stats

from finetooth.errors import GradeError
from finetooth.evaluation.recipes import compare_recipes, over_prompts, recipe_words
from finetooth.evaluation.statistics import compare

LOOPS, ROWS = 400, 300


def arm(draw: np.random.Generator, rate_R: np.ndarray, seeds: int, spread: float) -> np.ndarray:
    """Right or wrong for each seed and row; a seed is better or worse than the recipe by `spread`."""
    shift = draw.normal(0, spread, (seeds, 1))
    return (draw.random((seeds, rate_R.size)) < np.clip(rate_R + shift, 0, 1)).astype(float)


@pytest.mark.parametrize("spread", gate([0.0, 0.01, 0.02, 0.04], [0.02]))
def test_equal_recipes_are_called_different_at_the_nominal_rate(spread: float) -> None:
    """The paired test of one checkpoint of each, beside it, is wrong ever more often."""
    draw, recipes, models = np.random.default_rng(1), 0, 0
    for _ in range(LOOPS):
        rate_R = draw.beta(4, 1, ROWS)
        one, two = (arm(draw, rate_R, 3, spread) for _ in range(2))
        recipes += compare_recipes(one, two).verdict != "not proven"
        if spread:
            models += compare(one[0], two[0]).p < 0.05
    assert recipes <= 0.075 * LOOPS
    if spread >= 0.02:
        assert models > 0.15 * LOOPS


def test_a_better_recipe_is_found() -> None:
    draw, found = np.random.default_rng(2), 0
    for _ in range(100):
        rate_R = draw.beta(4, 1.5, ROWS)
        one, two = arm(draw, rate_R, 3, 0.01), arm(draw, np.clip(rate_R + 0.1, 0, 1), 3, 0.01)
        found += compare_recipes(one, two).verdict == "better"
    assert found >= 90


def test_the_error_has_the_part_of_the_seeds() -> None:
    """Against a fixed baseline: seeds of 2/3, 1/3 and 1/2 right on the same rows, twelve rows each."""
    tuned = np.array([[1, 1, 0] * 12, [1, 0, 0] * 12, [1, 0, 1, 0, 1, 0] * 6], dtype=float)
    found = compare_recipes([[0.0] * 36], tuned, fixed=True)
    assert found.difference == pytest.approx(0.5) and found.seeds == (1, 3) and found.spread[0] is None
    assert found.spread[1] == pytest.approx(1 / 6)
    seeds = (1 / 6) ** 2 / 3
    rows = tuned.mean(0).var(ddof=1) / 36
    freedom = (seeds + rows) ** 2 / (seeds**2 / 2 + rows**2 / 35)
    half = stats.t.ppf(0.975, freedom) * (seeds + rows) ** 0.5
    assert (found.low, found.high) == pytest.approx((0.5 - half, min(1.0, 0.5 + half)))


def test_two_seeds_or_few_rows_have_no_verdict() -> None:
    right, wrong = [1.0] * 40, [0.0] * 40
    assert compare_recipes([wrong], [right] * 3, fixed=True).verdict == "better"
    assert compare_recipes([wrong], [right] * 2, fixed=True).verdict == "not proven"
    assert compare_recipes([wrong], [right] * 3).verdict == "not proven"  # of one seed, and not fixed
    assert compare_recipes([wrong[:20]] * 3, [right[:20]] * 3).verdict == "not proven"
    with pytest.raises(GradeError):
        compare_recipes([[1.0]], [[1.0, 0.0]] * 3)


def test_better_is_better_than_every_prompt() -> None:
    draw = np.random.default_rng(3)
    tuned = (draw.random((3, 60)) < 0.8).astype(float)
    prompts = {"zero-shot": [0.0] * 60, "few-shot-4": tuned[0].tolist()}
    found = over_prompts(prompts, tuned.tolist())
    assert found["comparison"]["baseline"] == "few-shot-4"
    assert found["comparison"]["verdict"] == "not proven"
    assert over_prompts({"zero-shot": [0.0] * 60}, tuned.tolist())["comparison"]["verdict"] == "better"
    words = recipe_words([1, 2, 3], found)
    assert "3 trainings that differ in the seed" in words and "not proven better" in words
    assert "about the model of seed 1 alone" in words
