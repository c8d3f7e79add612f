"""Rows in clusters of unequal sizes, by simulation: false verdicts, power, coverage; interval and p agree.

Rates are one-sided: nominal is 2.5%, the limit 3.5% plus two standard errors of the simulation.
"""

from collections.abc import Callable

import numpy as np
import pytest
from gate import gate
from scipy import stats

from finetooth.evaluation.resampling import (
    degrees_of_freedom,
    interval,
    sign_flip,
    sign_flip_midp,
    standard_error,
)
from finetooth.evaluation.statistics import Comparison, compare, mean_interval, midp_mcnemar, tango

Random = np.random.Generator
Sizes = Callable[[Random], np.ndarray]


def near_copies(random: Random) -> np.ndarray:
    """Sizes as near copies have them: seven of ten stand alone, the others are 2 to 20 rows."""
    return np.where(random.random(150) < 0.7, 1, np.minimum(random.geometric(0.25, 150) + 1, 20))


def unequal(random: Random) -> np.ndarray:
    return random.integers(1, 20, 40)


def one_pair(random: Random) -> np.ndarray:
    return np.array([2] + [1] * 58)


def names(size_U: np.ndarray) -> list[str]:
    return [f"g{unit:03}" for unit in np.repeat(np.arange(size_U.size), size_U)]


def simulated(
    random: Random, sizes: Sizes, gained: float, lost: float, icc: float = 0.4
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(baseline, candidate, sizes): a row follows its cluster's draw with probability sqrt(icc)."""
    size_U = sizes(random)
    rates = [gained, lost, 1 - gained - lost]
    shared_R = np.repeat(random.choice([1, -1, 0], size_U.size, p=rates), size_U)
    own_R = random.choice([1, -1, 0], shared_R.size, p=rates)
    change_R = np.where(random.random(shared_R.size) < icc**0.5, shared_R, own_R)
    base_R = np.where(change_R == 0, random.integers(0, 2, change_R.size), change_R < 0)
    return base_R.astype(float), (base_R + change_R).astype(float), size_U


def compared(random: Random, sizes: Sizes, gained: float, lost: float) -> tuple[Comparison, Comparison]:
    """With clusters, and with the planted mistake: rows of one cluster as if they were independent."""
    base, candidate, size_U = simulated(random, sizes, gained, lost)
    return compare(base, candidate, names(size_U)), compare(base, candidate)


def limit(rate: float, count: int) -> float:
    return rate + 2 * (rate * (1 - rate) / count) ** 0.5


REPETITIONS = [300, pytest.param(4_000, marks=pytest.mark.slow)]


@pytest.mark.parametrize("count", REPETITIONS)
@pytest.mark.parametrize("sizes", gate([near_copies, unequal], [near_copies]))
def test_clusters_give_no_false_verdict(sizes: Sizes, count: int) -> None:
    random = np.random.default_rng(count)
    pairs = [compared(random, sizes, 0.08, 0.08) for _ in range(count)]
    found = [together.verdict for together, _ in pairs]
    assert found.count("better") / count <= limit(0.035, count)
    assert found.count("worse") / count <= limit(0.035, count)
    assert (count - found.count("not proven")) / count <= limit(0.065, count)
    alone = [rows.verdict for _, rows in pairs]
    assert (count - alone.count("not proven")) / count >= 0.1  # the planted mistake


@pytest.mark.parametrize("count", REPETITIONS)
@pytest.mark.parametrize(
    ("sizes", "gained", "lost"),
    [
        (near_copies, 0.2, 0.05),
        pytest.param(unequal, 0.2, 0.05, marks=pytest.mark.full),
        pytest.param(unequal, 0.3, 0.1, marks=pytest.mark.full),
        pytest.param(near_copies, 0.08, 0.08, marks=pytest.mark.full),
    ],
)
def test_intervals_over_unequal_clusters_cover(sizes: Sizes, gained: float, lost: float, count: int) -> None:
    random = np.random.default_rng(count + 1)
    inside = rate = 0
    for _ in range(count):
        base, candidate, size_U = simulated(random, sizes, gained, lost)
        found = compare(base, candidate, names(size_U))
        inside += found.low <= gained - lost <= found.high
        change = (candidate - base == 1).astype(float)
        low, high = mean_interval(change, clusters=names(size_U))
        rate += low <= gained <= high
    slack = 2 * (0.05 * 0.95 / count) ** 0.5
    assert 0.94 - slack <= inside / count <= 0.985 + slack
    least = 0.93 if gained >= 0.2 else 0.91  # a rare event in few clusters is the hardest case
    assert least - slack <= rate / count <= 0.985 + slack


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [near_copies, unequal])
def test_intervals_of_graded_scores_over_unequal_clusters_cover(sizes: Sizes) -> None:
    random = np.random.default_rng(3)
    inside = false = 0
    for _ in range(2_000):
        size_U = sizes(random)
        shared_R = np.repeat(random.beta(1, 3, size_U.size), size_U)
        own_R = random.beta(1, 3, shared_R.size)
        score_R = np.where(random.random(shared_R.size) < 0.4**0.5, shared_R, own_R)
        low, high = mean_interval(score_R, clusters=names(size_U))
        inside += low <= 0.25 <= high
        false += compare(np.full(score_R.size, 0.25), score_R, names(size_U)).verdict == "better"
    assert 0.93 <= inside / 2_000 <= 0.98
    assert false / 2_000 <= 0.035


@pytest.mark.parametrize("count", REPETITIONS)
def test_one_pair_of_copies_costs_no_power(count: int) -> None:
    random = np.random.default_rng(count)
    clustered = rows = permutation = 0
    for _ in range(count):
        base, candidate, size_U = simulated(random, one_pair, 0.12, 0.02)
        clustered += compare(base, candidate, names(size_U)).verdict == "better"
        rows += compare(base[1:], candidate[1:]).verdict == "better"
        sums = np.add.reduceat(candidate - base, np.cumsum(size_U) - size_U)
        permutation += sign_flip(sums) < 0.05 and sums.sum() > 0
    assert clustered >= 0.95 * rows
    assert permutation <= 0.9 * clustered  # the planted mistake: the full p of the permutation test


@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_interval_and_p_agree_at_every_level(alpha: float) -> None:
    random = np.random.default_rng(7)
    verdicts = []
    for trial in range(120):
        sizes = (near_copies, unequal, one_pair)[trial % 3]
        base, candidate, size_U = simulated(random, sizes, random.uniform(0.05, 0.2), 0.05)
        if trial % 4 == 0:  # graded
            base, candidate = 0.8 * base + 0.1, 0.7 * candidate + 0.1
        clusters = names(size_U) if trial % 5 else None
        found = compare(base, candidate, clusters, alpha)
        assert (found.p < alpha) == (found.low > 0 or found.high < 0)
        assert found.low <= found.difference <= found.high
        verdicts.append(found.verdict)
    assert len(set(verdicts)) >= 2


@pytest.mark.parametrize(
    ("b", "c", "alpha"),
    [
        (4, 0, 0.05),
        (15, 6, 0.05),
        (21, 10, 0.05),
        (8, 1, 0.02),
        (22, 9, 0.02),
        (10, 0, 0.001),
        (20, 4, 0.001),
    ],
)
def test_interval_and_p_agree_where_mcnemar_and_tango_do_not(b: int, c: int, alpha: float) -> None:
    low, _ = tango(b, c, 100, 1 - alpha)
    rejected = midp_mcnemar(b, c) < alpha
    assert rejected != (low > 0)
    base, candidate = [0] * b + [1] * c + [0] * (100 - b - c), [1] * b + [0] * (100 - b)
    for one, other, sign in ((base, candidate, 1), (candidate, base, -1)):
        found = compare(one, other, alpha=alpha)
        assert rejected == (found.low > 0 or found.high < 0)
        assert min(sign * found.low, sign * found.high) == pytest.approx(low, abs=0.01)


def test_midp_of_sign_flips_is_mcnemars_and_that_of_all_flips() -> None:
    for b, c in [(7, 1), (12, 4), (30, 0), (3, 9), (0, 0), (5, 5)]:
        assert sign_flip_midp(np.array([1.0] * b + [-1.0] * c + [0.0] * 9)) == pytest.approx(
            midp_mcnemar(b, c), rel=1e-9
        )
    difference = np.array([3.0, -1, 2, 5, -2, 1, 1, -1, 4, 0])
    flips = np.array(np.meshgrid(*[[-1, 1]] * 9)).reshape(9, -1).T @ difference[:9]
    beyond, equal = np.abs(flips) > 12, np.abs(flips) == 12
    assert sign_flip_midp(difference) == pytest.approx(beyond.mean() + equal.mean() / 2, rel=1e-9)


def test_cr2_is_the_definition_and_the_usual_error_of_single_rows() -> None:
    random = np.random.default_rng(1)
    size_U = np.array([1, 4, 2, 9, 3])
    value_R, unit_R = random.normal(0, 1, 19), np.repeat(np.arange(5), size_U)
    hat = np.full((19, 19), 1 / 19)
    residual_R, variance = value_R - value_R.mean(), 0.0
    contrasts = []
    for unit in range(5):
        inside = unit_R == unit
        values, vectors = np.linalg.eigh(np.eye(size_U[unit]) - hat[np.ix_(inside, inside)])
        adjusted = vectors @ np.diag(values**-0.5) @ vectors.T
        weight_R = np.zeros(19)
        weight_R[inside] = adjusted.sum(0) / 19
        variance += (weight_R @ residual_R) ** 2
        contrasts.append((np.eye(19) - hat) @ weight_R)
    sums = np.bincount(unit_R, weights=value_R)
    assert standard_error(sums, size_U) ** 2 == pytest.approx(variance)
    quadratic = np.array(contrasts) @ np.array(contrasts).T
    want = np.trace(quadratic) ** 2 / np.trace(quadratic @ quadratic)
    assert degrees_of_freedom(size_U) == pytest.approx(want)
    assert standard_error(value_R, np.ones(19)) == pytest.approx(stats.sem(value_R))
    assert degrees_of_freedom(np.ones(19)) == pytest.approx(18)
    assert interval(value_R, np.ones(19)) == pytest.approx(
        stats.t.interval(0.95, 18, value_R.mean(), stats.sem(value_R))
    )
