"""Confidence intervals of a mean score, and the paired comparison of two candidates on the same rows.

The comparison is paired, so only rows on which the two disagree carry information: `gained` rows are right
only with the candidate, `lost` rows only with the baseline.

Methods were chosen by simulation (tests/evaluation/test_statistics.py, test_clustered_rows.py): Wilson and
Tango intervals keep their coverage from n = 30 on, where normal-approximation and bootstrap intervals do not;
the mid-p McNemar test decides. Rows in clusters are the same methods over fewer rows (the design effect). For
graded scores and the clusters' errors see resampling.py.
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

Floats = np.ndarray


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


def verdict_over_prompts(
    tests: Sequence[tuple[Verdict, float]], alpha: float = ALPHA
) -> tuple[Verdict, list[Verdict]]:
    """The verdict over all prompts, and each one's as it counts there, from their verdicts and p values.

    `better` needs better than each, every test at the full level: it is false only where one prompt is at
    least as good as the tuned model, and then the test with that prompt alone has to err (intersection-union
    test, Berger 1982). `worse` needs worse than one at alpha / number of prompts: any of the tests can make
    it false, so the level is shared between them (Bonferroni). Choosing one prompt on other rows, or the
    strongest on these, and testing it alone would hold neither rate.
    """
    counted: list[Verdict] = [
        "not proven" if verdict == "worse" and p >= alpha / len(tests) else verdict for verdict, p in tests
    ]
    if "worse" in counted:
        return "worse", counted
    return "better" if set(counted) == {"better"} else "not proven", counted


def midp_mcnemar(b: int, c: int) -> float:
    """Two-sided mid-p of McNemar's test for b and c discordant pairs (Fagerland, Lydersen, Laake 2013)."""
    if b + c == 0:
        return 1.0
    k = min(b, c)
    p = 2 * stats.binom.cdf(k, b + c, 0.5) - stats.binom.pmf(k, b + c, 0.5)
    return float(min(1.0, p))


def tango(b: float, c: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Score interval of the paired difference (b - c)/n (Tango 1998, Stat. Med. 17:891, eq. 11-14).

    b: pairs right only with the candidate; c: only with the baseline; n: all pairs. They may be fractions of
    rows (see `Effective`). GradeError for n = 0.
    """
    if n <= 0:
        raise GradeError("There is no difference over zero rows: nothing was graded.")
    z = _quantile(level)

    def excess(delta: float, side: int) -> float:
        """Zero where the score statistic reaches z; without division, as the variance may be 0."""
        return side * (b - c - n * delta) - z * math.sqrt(n * _null_variance(b, c, n, delta))

    observed = (b - c) / n
    low = _root(lambda delta: excess(delta, 1), -1.0, observed)
    high = _root(lambda delta: excess(delta, -1), 1.0, observed)
    return low, high


def _null_variance(b: float, c: float, n: float, delta: float) -> float:
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


def holm(p_values: Sequence[float], others: int = 0) -> list[float]:
    """p values adjusted for their number (Holm 1979), in their order.

    others: tests that were not made, and count as if their p values were larger than all of these.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=lambda at: p_values[at])):
        largest = max(largest, min(1.0, (len(p_values) + others - rank) * p_values[at]))
        adjusted[at] = largest
    return adjusted


def minimum_detectable_effect(n: float, discordant: float, alpha: float = ALPHA) -> float:
    """The smallest true difference that a paired test of n rows detects with 80% power at p < alpha.

    discordant: share of rows on which the two candidates disagree, at least the difference itself. It solves
    difference = (z_test + z_power) * sqrt((discordant - difference^2) / n); in simulations, mid-p McNemar has
    80% power there for n = 100 to 500.
    """
    z2 = (_quantile(1 - alpha) + float(stats.norm.ppf(POWER))) ** 2
    return max(math.sqrt(z2 * discordant / (n + z2)), z2 / (n + z2))


def rescaled_mde(mde: float, n: float, alpha: float, new_n: float, new_alpha: float) -> float:
    """The minimum detectable effect of a test of `new_n` like rows, by that of a test of n rows.

    The rows of both are taken to be alike: as discordant, and as often in clusters.
    """
    z, new_z = (_quantile(1 - level) + float(stats.norm.ppf(POWER)) for level in (alpha, new_alpha))
    return min(1.0, mde * new_z / z * math.sqrt((n + z**2) / (new_n + new_z**2)))


@dataclass(frozen=True, slots=True)
class Effective:
    """What rows in clusters are worth: `design_effect` rows are one independent row.

    level: at which an interval of independent rows is as wide as Student's with the clusters' degrees of
    freedom. It scales the counts of Wilson's and Tango's intervals (Rao and Scott 1992, Biometrics 48:577).
    """

    design_effect: float
    level: float

    @classmethod
    def of(cls, sum_U: Floats, size_U: Floats, variance: float, level: float) -> Effective:
        """variance: of the mean of as many independent rows, 0 where they are all equal.

        The design effect is at least 1: clusters do not make rows more independent.
        """
        rows = float(size_U.sum())
        if sum_U.size == rows:
            return cls(1.0, level)
        if variance < 1e-12 or sum_U.size < 2:
            return cls(rows / sum_U.size, level)
        effect = resampling.standard_error(sum_U, size_U) ** 2 / variance
        t = stats.t.ppf(0.5 + level / 2, resampling.degrees_of_freedom(size_U))
        return cls(max(1.0, effect), float(2 * stats.norm.cdf(t) - 1))


def mean_interval(
    values: Sequence[float], level: float = 0.95, clusters: Sequence[str] | None = None
) -> tuple[float, float]:
    """Confidence interval of a mean score in [0, 1]: Wilson for binary scores, else BCa, or Student's t.

    clusters: the cluster of each row, which counts as one observation. GradeError for no rows.
    """
    value_R = np.asarray(values, dtype=np.float64)
    if value_R.size == 0:
        raise GradeError("There is no mean over zero rows: nothing was graded.")
    sum_U, size_U = resampling.cluster_totals(value_R, clusters)
    if not _binary(value_R):
        method = resampling.interval if sum_U.size == value_R.size else resampling.student
        low, high = method(sum_U, size_U, level)
        return max(0.0, low), min(1.0, high)
    rate, n = float(value_R.mean()), value_R.size
    effective = Effective.of(sum_U, size_U, rate * (1 - rate) / n, level)
    n_effective = n / effective.design_effect
    return wilson(rate * n_effective, n_effective, effective.level)


def compare(
    baseline: Sequence[float],
    candidate: Sequence[float],
    clusters: Sequence[str] | None = None,
    alpha: float = ALPHA,
) -> Comparison:
    """The paired comparison of two candidates' scores in [0, 1], given in the same row order.

    p, which decides: mid-p McNemar for binary scores, and for rows in clusters its extension, the sign-flip
    mid-p of the clusters' sums; for graded scores the sign-flip permutation test. The interval: Tango's, over
    clusters with the effective number of rows; for graded scores BCa, over clusters Student's t. It excludes
    0 exactly where p < alpha (see `_agreeing`). `better` or `worse` needs p < alpha, and at least 30 rows, or
    clusters. alpha: two-sided; the interval has the level 1 - alpha. GradeError for no rows, unequal lengths
    or scores that are not finite.
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
    difference = float((candidate_R - base_R).mean())
    sum_U, size_U = resampling.cluster_totals(candidate_R - base_R, clusters)
    if _binary(base_R) and _binary(candidate_R):
        p = midp_mcnemar(gained, lost) if sum_U.size == n else resampling.sign_flip_midp(sum_U)
        variance = ((gained + lost) / n - difference**2) / n
        effective = Effective.of(sum_U, size_U, variance, 1 - alpha)
        effect = effective.design_effect
        low, high = tango(gained / effect, lost / effect, n / effect, effective.level)
        mde = minimum_detectable_effect(n / effect, (gained + lost) / n, alpha)
    else:
        p = resampling.sign_flip(sum_U)
        method = resampling.interval if sum_U.size == n else resampling.student
        low, high = method(sum_U, size_U, 1 - alpha)
        error = resampling.standard_error(sum_U, size_U)
        reach = (_quantile(1 - alpha) + float(stats.norm.ppf(POWER))) * error
        mde = min(1.0, reach if error > 1e-12 else minimum_detectable_effect(sum_U.size, 0.0, alpha))
    low, high = _agreeing(difference, low, high, p, alpha)
    verdict: Verdict = "not proven"
    if sum_U.size >= MIN_ROWS and p < alpha:
        verdict = "better" if difference > 0 else "worse"
    return Comparison(n, sum_U.size, difference, low, high, p, verdict, mde, gained, lost, 1 - alpha)


def _agreeing(difference: float, low: float, high: float, p: float, alpha: float) -> tuple[float, float]:
    """The interval with the bound next to 0 moved over it where it contradicts the test that decides.

    Score and Student's intervals invert slightly other tests than mid-p McNemar and sign flips. Where one of
    the two excludes 0 and the other does not, the bound is that of the deciding test: the difference's error
    is what p says it is (test-based limits, Miettinen 1976, Am. J. Epidemiol. 103:226). So p < alpha where,
    and only where, the interval excludes 0, at every level.
    """
    if (p < alpha) != (low > 0 or high < 0):
        z_p = max(float(stats.norm.isf(p / 2)), 1e-9)
        bound = difference * (1 - _quantile(1 - alpha) / z_p)
        low, high = (bound, high) if difference > 0 else (low, bound)
    return max(-1.0, low), min(1.0, high)


def _binary(value_R: np.ndarray) -> bool:
    return bool(((value_R == 0) | (value_R == 1)).all())


def _quantile(level: float) -> float:
    return float(stats.norm.ppf(0.5 + level / 2))
