"""Scores between right and wrong: against scipy, by simulation, and at the edges."""

import numpy as np
import pytest
from gate import gate
from scipy import stats

from finetooth.evaluation.resampling import bca, cluster_totals, interval, sign_flip, standard_error
from finetooth.evaluation.statistics import compare, mean_interval

ONES = np.ones


def skewed(random: np.random.Generator, n: int) -> np.ndarray:
    """Scores as token F1 gives them: many 0 and 1, the rest between."""
    kind = random.choice(3, n, p=[0.25, 0.35, 0.4])
    return np.where(kind == 0, 0.0, np.where(kind == 1, 1.0, random.beta(2, 1, n)))


@pytest.mark.parametrize("n", [30, 57, 200])
def test_bca_is_scipys(n: int) -> None:
    value = skewed(np.random.default_rng(n), n) ** 3
    reference = stats.bootstrap(
        (value,), np.mean, n_resamples=9_999, method="BCa", rng=np.random.default_rng(0)
    ).confidence_interval
    found = bca(value, ONES(n), 0.95, seed=0)
    assert found == pytest.approx((reference.low, reference.high), abs=1e-3)
    assert found == bca(value, ONES(n), 0.95, seed=0)
    half = np.diff(found) / 2
    assert abs(found[0] - (value.mean() - half)) > 1e-4  # not the symmetric interval


def test_bca_of_groups_is_scipys_of_their_ratio() -> None:
    random = np.random.default_rng(5)
    size = random.integers(1, 9, 60).astype(float)
    total = size * random.beta(1, 3, 60)
    reference = stats.bootstrap(
        (total, size),
        lambda total, size, axis=-1: total.sum(axis) / size.sum(axis),
        paired=True,
        vectorized=True,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert bca(total, size, 0.95) == pytest.approx((reference.low, reference.high), abs=2e-3)


def scipys_p(value: np.ndarray) -> float:
    return stats.permutation_test(
        (value,),
        lambda x, axis=-1: x.mean(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf if value.size <= 12 else 9_999,
        rng=np.random.default_rng(1),
    ).pvalue


@pytest.mark.parametrize("n", [2, 5, 12])
def test_sign_flip_of_few_is_exactly_scipys(n: int) -> None:
    random = np.random.default_rng(n)
    for _ in range(10):
        value = random.normal(0.4, 1, n)
        assert sign_flip(value) == pytest.approx(scipys_p(value), abs=1e-12)


def test_sign_flip_of_many_is_scipys_by_chance() -> None:
    random = np.random.default_rng(0)
    for shift in (0.0, 0.2, 0.35):
        value = random.normal(shift, 1, 60)
        p = sign_flip(value)
        assert p == pytest.approx(scipys_p(value), abs=4 * np.sqrt(p * (1 - p) / 9_999) * 2**0.5 + 1e-4)
        assert p == sign_flip(value)
    assert sign_flip(np.full(40, 0.1)) == 1 / 10_000  # never 0
    assert sign_flip(np.concatenate([value[:10], np.zeros(500)])) == sign_flip(value[:10])


def clustered(random: np.random.Generator, groups: int, mean: float = 0.0) -> tuple[np.ndarray, list[str]]:
    """Values whose variance is to 30% that of their group, 1 to 19 in each."""
    sizes = random.integers(1, 20, groups)
    value = np.repeat(random.normal(0, 0.3**0.5, groups), sizes) + random.normal(0, 0.7**0.5, sizes.sum())
    return mean + value, [f"g{index}" for index in np.repeat(np.arange(groups), sizes)]


@pytest.mark.parametrize("groups", [8, pytest.param(40, marks=pytest.mark.full)])
def test_groups_keep_the_level_that_single_rows_do_not(groups: int) -> None:
    random = np.random.default_rng(groups)
    together = alone = covered = 0
    for _ in range(200):
        value, group = clustered(random, groups)
        total, size = cluster_totals(value, group)
        together += sign_flip(total) < 0.05
        alone += sign_flip(value) < 0.05
        low, high = interval(total, size)
        covered += low <= 0 <= high
    assert together / 200 <= 0.08
    assert alone / 200 >= 0.15  # the planted mistake: rows of one group as if they were independent
    assert 0.9 <= covered / 200 <= 0.98


@pytest.mark.parametrize("n", gate([10, 30, 100], [10]))
def test_the_interval_of_a_mean_covers(n: int) -> None:
    random = np.random.default_rng(n)
    truth = 0.35 + 0.4 * 2 / 3
    bounds = np.array([mean_interval(skewed(random, n)) for _ in range(400)])
    covered = ((bounds[:, 0] <= truth) & (truth <= bounds[:, 1])).mean()
    assert 0.92 <= covered <= 0.985
    assert (bounds >= 0).all()
    assert (bounds <= 1).all()


@pytest.mark.full
def test_a_comparison_keeps_its_level_and_finds_its_smallest_gain() -> None:
    random = np.random.default_rng(9)
    wrong = found = 0
    for _ in range(200):
        base, noise = random.uniform(0.3, 0.5, 80), random.normal(0, 0.1, 80)
        null = compare(base, base + noise)
        wrong += null.verdict != "not proven"
        gain = (1.959964 + 0.841621) * 0.1 / 80**0.5
        assert null.mde == pytest.approx(gain, rel=0.4)
        found += compare(base, base + noise + gain).verdict == "better"
    assert wrong / 200 <= 0.08
    assert found / 200 == pytest.approx(0.8, abs=0.07)


def test_equal_and_single_scores_have_sane_bounds_and_prove_nothing() -> None:
    base = [0.25, 0.5, 0.75, 0.1] * 25
    same = compare(base, base)
    assert (same.p, same.verdict, same.difference) == (1.0, "not proven", 0.0)
    assert same.low == pytest.approx(-same.high)
    assert 0.02 < same.high < 0.06
    assert 0 < same.mde < 0.15
    one = compare([0.2], [0.9])
    assert (one.low, one.high, one.p, one.verdict) == (-1.0, 1.0, 1.0, "not proven")
    assert mean_interval([0.3]) == (0.0, 1.0)
    low, high = mean_interval([0.5] * 50)
    assert 0.4 < low < 0.5 < high < 0.6
    assert standard_error(np.array([0.4]), ONES(1)) == np.inf


def test_one_row_that_differs_proves_nothing() -> None:
    base = np.full(100, 0.5)
    other = base.copy()
    other[3] = 1.0
    result = compare(base, other)
    assert (result.p, result.verdict, result.gained) == (1.0, "not proven", 1)


def test_few_groups_prove_nothing_however_many_rows() -> None:
    base, other = [0.0] * 2_000, [1.0] * 2_000
    group = [f"g{row % 20}" for row in range(2_000)]
    assert compare(base, other).verdict == "better"
    few = compare(base, other, group)
    assert (few.n, few.units, few.verdict) == (2_000, 20, "not proven")
    assert compare(base, other, [f"g{row % 40}" for row in range(2_000)]).verdict == "better"
    low, high = mean_interval([1.0] * 100, clusters=[f"g{row % 10}" for row in range(100)])
    assert (low, high) == (pytest.approx(10 / (10 + 1.959964**2), abs=1e-6), 1.0)  # Wilson's of 10 of 10


def test_groups_of_one_row_are_rows() -> None:
    random = np.random.default_rng(2)
    base, other = skewed(random, 90), skewed(random, 90)
    assert compare(base, other, [f"g{index:02}" for index in range(90)]) == compare(base, other)
