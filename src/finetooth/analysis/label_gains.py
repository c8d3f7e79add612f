"""Where more training rows would help most: by label, what doubling that label's rows would bring. Pure.

For each label the score of its validation rows is a straight line over a power of its training rows, over all
trainings of a learning curve; powers are weighted by how well they explain all labels. Few rows make such
slopes noisy, so each is drawn towards what labels with its error have in common (empirical Bayes). All labels
grow together in a learning curve, so a slope also holds what the other labels' rows have done, and few
trainings hardly tell how soon a label saturates: the gains rank labels, and their size is rough.

Axes: T trainings, G groups (labels, or quarters by length).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from finetooth.analysis.learning_curve import CHANCE, signed

NORMAL_90 = 1.6449
PLAUSIBLE = 0.2  # of the likeliest power's weight, at least
POWERS = (0.05, 0.2, 0.4, 0.7, 1.0)  # of the learning curves: nearly logarithmic to quickly saturated
LEAST = 0.3  # deviation between groups of what their rows bring, as a share of it, at least
FEWEST = 5  # validation rows of a group, for a gain


@dataclass(frozen=True, slots=True)
class Measured:
    """One training: training rows by group, and the scores of validation rows by group."""

    size: int
    rows: Mapping[str, int]
    scores: Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True)
class GroupGain:
    """A group with most training rows: their number, its validation rows, its share of wrong ones.

    gain, low, high: what doubling its training rows would bring to the score of all validation rows, with its
    90% interval. stands_out: this is shown to be more than what doubling a group's rows brings on average.
    """

    group: str
    rows: float
    validation: int
    error: float
    gain: float
    low: float
    high: float
    stands_out: bool

    def to_json(self) -> dict[str, Any]:
        """The gain as plain values."""
        return asdict(self)


def group_gains(trainings: Sequence[Measured]) -> list[GroupGain]:
    """The groups by what doubling their rows would bring, the largest gain first.

    Groups with fewer than five validation rows are left out. Empty where the sizes of the trainings are all
    the same, or fewer than two groups are left.
    """
    counts: dict[str, int] = {}
    for one in trainings:
        counts |= {group: len(scores) for group, scores in one.scores.items()}
    names = sorted(group for group, count in counts.items() if count >= FEWEST)
    sizes = {one.size for one in trainings}
    if len(sizes) < 2 or len(names) < 2:
        return []
    count_G = np.array([counts[name] for name in names], dtype=np.float64)
    rows_TG = np.array([[one.rows.get(name, 0) for name in names] for one in trainings], dtype=np.float64)
    score_TG = np.array([[np.mean(one.scores.get(name) or [0.0]) for name in names] for one in trainings])
    last = np.array([one.size == max(sizes) for one in trainings])
    error_G = 1 - score_TG[last].mean(0)
    rows_G, share_G = rows_TG[last].mean(0), count_G / sum(counts.values())
    weights, gains, variances = [], [], []
    for power in POWERS:
        slope_G, variance_G, used_G, left = _slopes(_risen(rows_TG, power), score_TG, count_G)
        slope_G, variance_G = _shrunk(slope_G, variance_G, used_G, error_G, count_G)
        step_G = (_risen(2 * rows_G, power) - _risen(rows_G, power)) * share_G
        weights.append(max(left, 1e-12) ** (-len(trainings) / 2))
        gains.append(np.minimum(slope_G * step_G, error_G * share_G))
        variances.append(variance_G * step_G**2)
    weight = np.array(weights) / sum(weights)
    gain_G = weight @ np.array(gains)
    # So few trainings hardly tell one power from another: the interval holds that of each plausible one.
    half_WG = NORMAL_90 * np.sqrt(np.array(variances))
    plausible = weight >= PLAUSIBLE * weight.max()
    low_G = (np.array(gains) - half_WG)[plausible].min(0)
    high_G = np.minimum((np.array(gains) + half_WG)[plausible].max(0), np.maximum(error_G, 0) * share_G)
    beyond_WG = np.array(gains) - np.array(gains).mean(1, keepdims=True)  # what all have in common cancels
    beyond_G = weight @ beyond_WG
    chance_G = NORMAL_90 * np.sqrt(weight @ (np.array(variances) + (beyond_WG - beyond_G) ** 2))
    found = [
        GroupGain(name, float(rows_G[at]), int(count_G[at]), float(error_G[at]), float(gain_G[at]),
                  float(low_G[at]), float(max(high_G[at], gain_G[at])),
                  bool(beyond_G[at] > chance_G[at]))
        for at, name in enumerate(names)
    ]  # fmt: skip
    return sorted(found, key=lambda one: (-one.gain, one.group))


def _risen(rows: Any, power: float) -> Any:
    """How far a curve with this power has risen after so many rows."""
    return (1 - (1 + rows) ** -power) / power


def _slopes(risen_TG: Any, score_TG: Any, count_G: Any) -> tuple[Any, Any, Any, float]:
    """Slope and its variance for each group, which groups have one (their training rows differ), and the
    squares that are left, weighted by validation rows.

    The variance of a score is that of the residuals, a group's own with those of all, by degrees of freedom;
    never below what is usual between trainings with so many validation rows.
    """
    centred_TG = risen_TG - risen_TG.mean(0)
    square_G = (centred_TG**2).sum(0)
    used_G = square_G > 1e-9
    slope_G = np.where(used_G, (centred_TG * score_TG).sum(0) / np.maximum(square_G, 1e-9), 0.0)
    residual_TG = score_TG - score_TG.mean(0) - slope_G * centred_TG
    freedom = max(1, len(score_TG) - 2)
    unit = 1 / np.maximum(count_G, 1)
    pooled = float(((residual_TG**2).sum(0) / unit).sum() / (freedom * len(count_G)))
    own_G = (residual_TG**2).sum(0)
    prior = 4.0  # degrees of freedom that the residuals of all groups are worth
    right_G = (score_TG.mean(0) * count_G + 0.5) / (count_G + 1)
    noise_G = (own_G + prior * pooled * unit) / (freedom + prior)
    noise_G = np.maximum(noise_G, CHANCE**2 * right_G * (1 - right_G) * unit)
    return slope_G, np.where(used_G, noise_G / np.maximum(square_G, 1e-9), np.inf), used_G, pooled


def _shrunk(slope_G: Any, variance_G: Any, used_G: Any, error_G: Any, count_G: Any) -> tuple[Any, Any]:
    """Slopes drawn towards one that is proportional to the group's error, and their variances.

    Between-group variance by the moments of DerSimonian and Laird (1986, Controlled Clinical Trials 7:177).
    """
    error_G = np.maximum(error_G, 0.5 / np.maximum(count_G, 1))
    weight_G = np.where(used_G, error_G**2 / np.where(used_G, variance_G, 1.0), 0.0)
    if not weight_G.sum():
        return np.zeros_like(slope_G), np.zeros_like(slope_G)
    ratio_G = slope_G / error_G  # of the slope to the error: what is common
    common = float((weight_G * ratio_G).sum() / weight_G.sum())
    spread = float((weight_G * (ratio_G - common) ** 2).sum()) - (int(used_G.sum()) - 1)
    scale = weight_G.sum() - (weight_G**2).sum() / weight_G.sum()
    between = max((LEAST * common) ** 2, spread / scale if scale > 0 else 0.0)
    keep_G = np.where(used_G, between / (between + 1 / np.maximum(weight_G, 1e-12)), 0.0)
    shrunk_G = error_G * (keep_G * ratio_G + (1 - keep_G) * common)
    common_variance = 1 / float((weight_G / (1 + between * weight_G)).sum())
    variance = keep_G * np.where(used_G, variance_G, 0.0) + (1 - keep_G) ** 2 * error_G**2 * common_variance
    return shrunk_G, np.where(used_G, variance, error_G**2 * (between + common_variance))


def gain_words(gains: Sequence[GroupGain], kind: str) -> str:
    """What the gains say, in a sentence. kind: what the groups are, as in `label`."""
    if not gains:
        return ""
    out = [one for one in gains if one.stands_out]
    if not out:
        return f"Nothing stands out: no {kind} is shown to profit more from its own rows than the others."
    best = out[0]
    others = f", and {len(out) - 1} more" if len(out) > 1 else ""
    return (
        f"More rows would help most for {best.group}{others}: doubling its {best.rows:,.0f} rows would bring "
        f"about {signed(best.gain)} points (90% interval {signed(best.low)} to {signed(best.high)})."
    )
