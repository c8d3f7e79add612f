"""Confidence intervals of a mean score, and the paired comparison of two candidates on the same rows.

The comparison is paired, so only rows on which the two disagree carry information: `gained` rows are right
only with the candidate, `lost` rows only with the baseline.

Methods were chosen by simulation (tests/evaluation/test_statistics.py): Wilson and Tango intervals keep their
coverage from n = 30 on, where normal-approximation and bootstrap intervals do not; the mid-p McNemar test
decides. For graded scores and clustered rows see resampling.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import optimize, stats

from finetooth.errors import GradeError
from finetooth.evaluation import resampling
from finetooth.quality.intervals import wilson

Verdict = Literal["better", "not proven", "worse"]
ALPHA = 0.05
POWER = 0.8
# Below this the coverage of the intervals is not assured, and nothing is called better or worse.
MIN_ROWS = resampling.MIN_CLUSTERS


@dataclass(frozen=True, slots=True)
class Comparison:
    """Candidate minus baseline over n rows that both answered, in `units` independent observations.

    difference, low, high: of the mean scores, with the bounds of its confidence interval of this level. p:
    two-sided. gained, lost: rows on which the candidate scores higher, or lower. mde: the minimum detectable
    effect, the smallest true difference that this test finds with 80% power.
    """

    n: int
    units: int
    difference: float
    low: float
    high: float
    p: float
    verdict: Verdict
    mde: float
    gained: int
    lost: int
    level: float = 1 - ALPHA


def midp_mcnemar(b: int, c: int) -> float:
    """Two-sided mid-p of McNemar's test for b and c discordant pairs (Fagerland, Lydersen, Laake 2013)."""
    if b + c == 0:
        return 1.0
    k = min(b, c)
    p = 2 * stats.binom.cdf(k, b + c, 0.5) - stats.binom.pmf(k, b + c, 0.5)
    return float(min(1.0, p))


def tango(b: int, c: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Score interval of the paired difference (b - c)/n (Tango 1998, Stat. Med. 17:891, eq. 11-14).

    b: pairs right only with the candidate; c: only with the baseline; n: all pairs. GradeError for n = 0.
    """
    if n < 1:
        raise GradeError("There is no difference over zero rows: nothing was graded.")
    z = _quantile(level)

    def excess(delta: float, side: int) -> float:
        """Zero where the score statistic reaches z; without division, as the variance may be 0."""
        return side * (b - c - n * delta) - z * math.sqrt(n * _null_variance(b, c, n, delta))

    observed = (b - c) / n
    low = _root(lambda delta: excess(delta, 1), -1.0, observed)
    high = _root(lambda delta: excess(delta, -1), 1.0, observed)
    return low, high


def _null_variance(b: int, c: int, n: int, delta: float) -> float:
    """Variance of one pair's difference under a true difference of delta, other parameters fitted."""
    linear = (2 * n - b + c) * delta - b - c
    product = -c * delta * (1 - delta)
    root = math.sqrt(max(0.0, linear * linear - 8 * n * product))
    lost_rate = (root - linear) / (4 * n)
    return max(0.0, 2 * lost_rate + delta * (1 - delta))


def _root(function: Callable[[float], float], end: float, observed: float) -> float:
    """The zero of the function between `end`, where it is not negative, and the observed difference."""
    near = observed + math.copysign(1e-9, end - observed)  # it may be exactly 0 at the observed value itself
    if abs(end - observed) < 2e-9 or function(near) >= 0:
        return observed
    if function(end) <= 0:
        return end
    return float(optimize.brentq(function, end, near, xtol=1e-12))


def minimum_detectable_effect(n: int, discordant: float, alpha: float = ALPHA) -> float:
    """The smallest true difference that a paired test of n rows detects with 80% power at p < alpha.

    discordant: share of rows on which the two candidates disagree, at least the difference itself. It solves
    difference = (z_test + z_power) * sqrt((discordant - difference^2) / n); in simulations, mid-p McNemar has
    80% power there for n = 100 to 500.
    """
    z2 = (_quantile(1 - alpha) + float(stats.norm.ppf(POWER))) ** 2
    return max(math.sqrt(z2 * discordant / (n + z2)), z2 / (n + z2))


def mean_interval(
    values: Sequence[float], level: float = 0.95, clusters: Sequence[str] | None = None
) -> tuple[float, float]:
    """Confidence interval of a mean score in [0, 1]: Wilson for binary scores, else resampling.interval.

    clusters: the cluster of each row, which counts as one observation. GradeError for no rows.
    """
    value_R = np.asarray(values, dtype=np.float64)
    if value_R.size == 0:
        raise GradeError("There is no mean over zero rows: nothing was graded.")
    if _binary(value_R) and clusters is None:
        return wilson(int(value_R.sum()), value_R.size, level)
    low, high = resampling.interval(*resampling.cluster_totals(value_R, clusters), level)
    return max(0.0, low), min(1.0, high)


def compare(
    baseline: Sequence[float],
    candidate: Sequence[float],
    clusters: Sequence[str] | None = None,
    alpha: float = ALPHA,
) -> Comparison:
    """The paired comparison of two candidates' scores in [0, 1], given in the same row order.

    Binary scores: mid-p McNemar and the Tango interval. Graded scores, and rows in clusters: a sign-flip
    permutation test and resampling.interval. `better` or `worse` needs p < alpha, an interval that excludes
    0, and at least 30 rows, or clusters. alpha: two-sided; the interval has the level 1 - alpha. GradeError
    for no rows, unequal lengths or scores that are not finite.
    """
    base_R = np.asarray(baseline, dtype=np.float64)
    candidate_R = np.asarray(candidate, dtype=np.float64)
    if base_R.shape != candidate_R.shape or base_R.ndim != 1:
        raise GradeError(f"Two candidates were compared on {base_R.size} and {candidate_R.size} rows.")
    n = base_R.size
    if n == 0:
        raise GradeError("Two candidates cannot be compared over zero rows.")
    if not (np.isfinite(base_R).all() and np.isfinite(candidate_R).all()):
        raise GradeError("A score to compare is not a number.")
    gained = int((candidate_R > base_R).sum())
    lost = int((candidate_R < base_R).sum())
    sum_U, size_U = resampling.cluster_totals(candidate_R - base_R, clusters)
    if _binary(base_R) and _binary(candidate_R) and clusters is None:
        p = midp_mcnemar(gained, lost)
        low, high = tango(gained, lost, n, 1 - alpha)
        mde = minimum_detectable_effect(n, (gained + lost) / n, alpha)
    else:
        p = resampling.sign_flip(sum_U)
        low, high = resampling.interval(sum_U, size_U, 1 - alpha)
        error = resampling.standard_error(sum_U, size_U)
        reach = (_quantile(1 - alpha) + float(stats.norm.ppf(POWER))) * error
        mde = min(1.0, reach if error > 1e-12 else minimum_detectable_effect(sum_U.size, 0.0, alpha))
    low, high = max(-1.0, low), min(1.0, high)
    verdict: Verdict = "not proven"
    if sum_U.size >= MIN_ROWS and p < alpha:
        verdict = "better" if low > 0 else "worse" if high < 0 else "not proven"
    difference = float((candidate_R - base_R).mean())
    return Comparison(n, sum_U.size, difference, low, high, p, verdict, mde, gained, lost, 1 - alpha)


def _binary(value_R: np.ndarray) -> bool:
    return bool(((value_R == 0) | (value_R == 1)).all())


def _quantile(level: float) -> float:
    return float(stats.norm.ppf(0.5 + level / 2))
