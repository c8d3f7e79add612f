"""From the rewards of sampled answers to their advantages: pure functions of one step's rollouts.

A reward of NaN is one that is not known (the grader failed, or a cut answer is masked): it moves no mean and
no deviation of its group, and its advantage is NaN: that rollout gives no gradient.

Axes: R rollouts. Group: the rollouts of one question.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from finetooth.tree import Floats, Ints

NEAR_ZERO = 1e-4  # added to a group's deviation, so that rewards which hardly differ are not blown up
SAME = 1e-9  # rewards of a group that lie no further apart are worth the same
SOFT = 0.2  # the last share of the length in which a soft penalty grows, as in DAPO: 4,096 of 20,480


def _over_groups(
    reward_R: Floats, group_R: Ints, function: Callable[[Floats], Floats | float]
) -> NDArray[np.float64]:
    """The function's values for the known rewards of each group, at their places; NaN at the others."""
    found_R = np.full(reward_R.shape, np.nan)
    known_R = ~np.isnan(reward_R)
    for group in np.unique(group_R):
        at = np.flatnonzero((group_R == group) & known_R)
        if at.size:
            found_R[at] = function(reward_R[at])
    return found_R


def grpo(reward_R: Floats, group_R: Ints, scaled: bool = True) -> Floats:
    """Reward less the mean of its group, over the group's sample deviation (Shao et al. 2024, section 4.1.2).

    scaled: False leaves the deviation out, which otherwise gives questions that are nearly always or nearly
    never answered right more weight than others (Dr. GRPO: Liu et al. 2025, section 3.1). A group with one
    known reward has no deviation, and advantage 0.
    """

    def centred(reward_G: Floats) -> Floats:
        away_G: Floats = reward_G - reward_G.mean()
        if not scaled or reward_G.size == 1:
            return away_G
        result: Floats = away_G / (reward_G.std(ddof=1) + NEAR_ZERO)
        return result

    return _over_groups(reward_R, group_R, centred)


def rloo(reward_R: Floats, group_R: Ints) -> Floats:
    """Reward less the mean of the others of its group (Kool et al. 2019; Ahmadian et al. 2024, eq. 8)."""

    def others(reward_G: Floats) -> Floats:
        size = reward_G.size
        return reward_G * 0.0 if size == 1 else (reward_G - reward_G.mean()) * (size / (size - 1))

    return _over_groups(reward_R, group_R, others)


def reinforce(reward_R: Floats, group_R: Ints) -> Floats:
    """Reward less the mean of all other rollouts of the step, whichever question they answer.

    REINFORCE with a baseline (Williams 1992), which is independent of the rollout that it is taken from.
    """
    return rloo(reward_R, np.zeros_like(group_R))


def advantages(method: str, reward_R: Floats, group_R: Ints, scaled: bool = True) -> Floats:
    """Of this train.method. scaled: of grpo alone."""
    if method == "grpo":
        return grpo(reward_R, group_R, scaled)
    return {"rloo": rloo, "reinforce": reinforce}[method](reward_R, group_R)


def rewards_differ(reward_R: Floats, group_R: Ints) -> NDArray[np.bool_]:
    """Whether each rollout's group has known rewards that differ: others say nothing by comparison."""
    spread_R = _over_groups(reward_R, group_R, lambda reward_G: np.full(reward_G.size, np.ptp(reward_G)))
    return np.array([np.nanmax(np.append(spread_R[group_R == group], 0.0)) > SAME for group in group_R])


def shape_overlong_rewards(
    choice: str, reward_R: Floats, cut_R: NDArray[np.bool_], length_R: Ints, longest: int
) -> Floats:
    """The rewards when answers that were cut at `longest` tokens are treated by train.truncated.

    keep: as graded. mask: not known, NaN. penalise: 0. soft: every answer in the last fifth of the length
    loses up to 1, in proportion, and one that was cut loses 1 (DAPO: Yu et al. 2025, equation 13).
    """
    if choice == "keep":
        return reward_R
    if choice == "mask":
        return np.where(cut_R, np.nan, reward_R)
    if choice == "penalise":
        return np.where(cut_R & ~np.isnan(reward_R), 0.0, reward_R)
    room = max(1.0, SOFT * longest)
    lost_R = np.clip((length_R - (longest - room)) / room, 0.0, 1.0)
    return reward_R - np.where(cut_R, 1.0, lost_R)
