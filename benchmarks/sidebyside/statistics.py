"""Medians with their ranges, and how sure a ratio is. Standard library only."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some measurements and their range."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Raises ValueError when there are none."""
        return cls(statistics.median(values), min(values), max(values))


def lower_rank(count: int, confidence: float = 0.95) -> int | None:
    """Which of `count` sorted values (1 = smallest) is a lower bound of the median with this confidence.

    The k-th smallest lies above the median only if fewer than k values lie below it, which has the
    probability P(Bin(count, 1/2) < k) whatever the distribution is (the sign test's interval). None when
    even the smallest is not sure enough: fewer than 5 values for 95%.
    """
    below, rank = 0.0, 0
    for k in range(count + 1):
        below += math.comb(count, k) / 2**count
        if below > 1 - confidence:
            break
        rank = k + 1
    return rank or None


def lower_bound(values: Sequence[float], confidence: float = 0.95) -> float | None:
    """One-sided lower bound of the median of what `values` are drawn from; None when there are too few."""
    rank = lower_rank(len(values), confidence)
    return sorted(values)[rank - 1] if rank else None


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times longer another system took, from pairs of the same round.

    median: of the rounds' ratios. low: the one-sided 95% lower bound of it; None for fewer than 5 rounds.
    """

    median: float
    low: float | None

    @classmethod
    def paired(cls, others: Sequence[float], ours: Sequence[float]) -> Ratio:
        """Raises ValueError when the two do not have the same number of rounds."""
        ratios = [other / own for other, own in zip(others, ours, strict=True)]
        return cls(statistics.median(ratios), lower_bound(ratios))


def line_fit(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float, float]:
    """Least squares y = slope * x + start: (slope, start, R^2)."""
    fit = statistics.linear_regression(xs, ys)
    residual = sum((y - fit.slope * x - fit.intercept) ** 2 for x, y in zip(xs, ys, strict=True))
    total = sum((y - statistics.fmean(ys)) ** 2 for y in ys)
    return fit.slope, fit.intercept, 1 - residual / total
