"""Confidence interval of a rate, for the data rules and for evaluation."""

from __future__ import annotations

import math
from statistics import NormalDist

from finetooth.errors import GradeError


def wilson(k: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Score interval of a rate k/n (Wilson 1927, JASA 22:209); k and n may be fractions of rows.

    GradeError for n = 0.
    """
    if n < 1:
        raise GradeError("A rate over zero rows is undefined: nothing was graded.")
    z = NormalDist().inv_cdf((1 + level) / 2)
    centre = (k + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(k * (n - k) / n + z * z / 4)
    return 0.0 if k == 0 else max(0.0, centre - half), 1.0 if k == n else min(1.0, centre + half)
