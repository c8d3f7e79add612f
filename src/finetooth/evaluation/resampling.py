"""Statistics of independent units: sign-flip tests, cluster-robust errors, BCa bootstrap intervals.

Axes: R rows, U units. A unit is an independent observation: a row, or a cluster of rows (a conversation, a
customer, near copies of one text), which resemble each other and are flipped and resampled together.

Methods were chosen by simulation (tests/evaluation/test_resampling.py, test_clustered_rows.py): for rows, the
bootstrap keeps its coverage for skewed scores from 30 on; below, it is too narrow and Student's t is not. For
clusters of unequal sizes the bootstrap is too narrow however many there are; Student's t with the CR2 error
and the degrees of freedom of Bell and McCaffrey is not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

FLIPS = 9_999
EXACT_UNITS = 16  # up to here all sign flips (65,536) are enumerated
MIN_CLUSTERS = 30
MOST_RESAMPLES, FEWEST_RESAMPLES, DRAWS = 9_999, 1_999, 10_000_000  # a resample draws each unit once
PIECE = 2_000_000  # numbers in memory at a time

Floats = np.ndarray


def cluster_totals(value_R: Floats, cluster_R: Sequence[str] | None) -> tuple[Floats, Floats]:
    """Sum of the values and number of rows of each unit; without clusters, every row is a unit."""
    if cluster_R is None:
        return value_R, np.ones(value_R.size)
    number = {name: index for index, name in enumerate(sorted(set(cluster_R)))}
    unit_R = np.array([number[name] for name in cluster_R])
    return np.bincount(unit_R, weights=value_R), np.bincount(unit_R).astype(np.float64)


def sign_flip(sum_U: Floats, seed: int = 0) -> float:
    """Two-sided p of the hypothesis that each unit's difference is symmetric around 0.

    Exact for up to 16 nonzero differences; else from 9,999 random sign flips, with the observed signs counted
    as one more (Phipson and Smyth 2010), so that p is never 0.
    """
    moving = sum_U[sum_U != 0]
    reach = abs(moving.sum()) - 1e-12 * np.abs(moving).sum()
    if moving.size <= EXACT_UNITS:
        total = np.zeros(1)
        for value in moving:
            total = np.concatenate([total + value, total - value])
        return float((np.abs(total) >= reach).mean())
    random = np.random.default_rng(seed)
    reached = 0
    for start in range(0, FLIPS, size := max(1, PIECE // moving.size)):
        sign_FU = random.integers(0, 2, (min(size, FLIPS - start), moving.size), dtype=np.int8) * 2 - 1
        reached += int((np.abs(sign_FU @ moving) >= reach).sum())
    return (reached + 1) / (FLIPS + 1)


def sign_flip_midp(sum_U: Floats) -> float:
    """Two-sided mid-p of the same hypothesis for whole-number differences, by the exact distribution.

    An outcome as extreme as the observed one counts half. Where no difference is larger than 1 this is the
    mid-p McNemar test, so clusters cost no power where only single rows differ.
    """
    size, count = np.unique(np.abs(np.rint(sum_U[sum_U != 0])).astype(int), return_counts=True)
    observed = abs(round(float(sum_U.sum())))
    if observed == 0:
        return 1.0
    probability = np.ones(1)  # of 0, 1, 2 ...: the sum of the differences that come out positive
    for one, times in zip(size, count, strict=True):
        kept = np.zeros(one * times + 1)
        kept[::one] = stats.binom.pmf(np.arange(times + 1), times, 0.5)
        probability = np.convolve(probability, kept)
    total = np.abs(2 * np.arange(probability.size) - (probability.size - 1))
    more, equal = probability[total > observed].sum(), probability[total == observed].sum()
    return float(min(1.0, more + equal / 2))


def standard_error(sum_U: Floats, size_U: Floats) -> float:
    """Cluster-robust standard error of the mean over rows: CR2 (Bell and McCaffrey 2002).

    A large cluster pulls the mean towards itself and so hides its own deviation; CR2 divides the squared
    deviation by 1 - the cluster's share of the rows. Infinite for a single unit.
    """
    rows = size_U.sum()
    if sum_U.size < 2:
        return math.inf
    residual_U = sum_U - size_U * (sum_U.sum() / rows)
    return float(math.sqrt((residual_U**2 / (1 - size_U / rows)).sum()) / rows)


def degrees_of_freedom(size_U: Floats) -> float:
    """Degrees of freedom of the CR2 error, by Satterthwaite (Bell and McCaffrey 2002, independent rows).

    The number of units less 1 where all have one size, and fewer the more unequal they are.
    """
    rows = size_U.sum()
    weight_U = size_U**2 / (1 - size_U / rows)
    covariance = (weight_U.sum() ** 2 - (weight_U**2).sum()) / rows**2
    return float(rows**2 / ((size_U**2).sum() + covariance))


def student(sum_U: Floats, size_U: Floats, level: float = 0.95) -> tuple[float, float]:
    """Confidence interval of the mean over rows in clusters: Student's t with the CR2 error.

    Where all units are equal the variance is unknown: the interval is then as wide as the Wilson interval of
    a rate of 0 or 1. For a single unit the bounds are infinite.
    """
    count = sum_U.size
    mean = float(sum_U.sum() / size_U.sum())
    error = standard_error(sum_U, size_U)
    if count < 2:
        return -math.inf, math.inf
    if error < 1e-12:
        z2 = float(stats.norm.ppf(0.5 + level / 2)) ** 2
        return mean - z2 / (count + z2), mean + z2 / (count + z2)
    half = float(stats.t.ppf(0.5 + level / 2, degrees_of_freedom(size_U))) * error
    return mean - half, mean + half


def interval(sum_U: Floats, size_U: Floats, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Confidence interval of the mean over rows: BCa (Efron 1987) from 30 units on, else `student`."""
    if sum_U.size < MIN_CLUSTERS or standard_error(sum_U, size_U) < 1e-12:
        return student(sum_U, size_U, level)
    return bca(sum_U, size_U, level, seed)


def bca(sum_U: Floats, size_U: Floats, level: float, seed: int = 0) -> tuple[float, float]:
    """The bias-corrected and accelerated bootstrap interval of sum/size (Efron 1987, JASA 82:171).

    Deterministic by its seed. The units must not all be equal.
    """
    count = sum_U.size
    mean = sum_U.sum() / size_U.sum()
    random = np.random.default_rng(seed)
    resamples = min(MOST_RESAMPLES, max(FEWEST_RESAMPLES, DRAWS // count))
    means = []
    for start in range(0, resamples, step := max(1, PIECE // count)):
        drawn_BU = random.integers(0, count, (min(step, resamples - start), count))
        means.append(sum_U[drawn_BU].sum(1) / size_U[drawn_BU].sum(1))
    mean_B = np.concatenate(means)
    tie = 1e-12  # sums of the same values in another order differ in their last digits
    below = ((mean_B < mean - tie).mean() + (mean_B <= mean + tie).mean()) / 2
    edge = 0.5 / mean_B.size
    bias = stats.norm.ppf(min(max(below, edge), 1 - edge))
    without_U = (sum_U.sum() - sum_U) / (size_U.sum() - size_U)  # the jackknife
    pull_U = (count - 1) * (without_U.mean() - without_U)
    acceleration = (pull_U**3).sum() / (6 * (pull_U**2).sum() ** 1.5)
    z = bias + stats.norm.ppf([0.5 - level / 2, 0.5 + level / 2])
    low, high = np.quantile(mean_B, stats.norm.cdf(bias + z / (1 - acceleration * z)))
    return float(low), float(high)
