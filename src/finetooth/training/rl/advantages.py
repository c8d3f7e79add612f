"""Advantages from the rewards of sampled answers: pure functions of one step's rollouts.

An unknown reward is NaN (the grader failed, or a truncated answer is masked). It does not count in the mean
and deviation of its group, and its advantage is NaN: that rollout gives no gradient.

Axes: R rollouts, G known rewards of one group. Group: the rollouts of one prompt.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from finetooth.tree import Floats, Ints

NEAR_ZERO = 1e-4  # added to a group's deviation, so that tiny differences are not amplified
SAME = 1e-9  # rewards that differ by no more count as equal
SOFT = 0.2  # last share of the length, in which the soft penalty grows; DAPO: 4,096 of 20,480 tokens


def _over_groups(
    reward_R: Floats, group_R: Ints, function: Callable[[Floats], Floats | float]
) -> NDArray[np.float64]:
    """Apply a function to the known rewards of each group; NaN where the reward is unknown."""
    found_R = np.full(reward_R.shape, np.nan)
    known_R = ~np.isnan(reward_R)
    for group in np.unique(group_R):
        at = np.flatnonzero((group_R == group) & known_R)
        if at.size:
            found_R[at] = function(reward_R[at])
    return found_R


def grpo(reward_R: Floats, group_R: Ints, scaled: bool = True) -> Floats:
    """Reward minus the mean of its group, over the group's sample deviation (Shao et al. 2024, section
    4.1.2).

    scaled: False omits the deviation, which gives prompts that are nearly always or nearly never answered
    correctly more weight than others (Dr. GRPO: Liu et al. 2025, section 3.1). A group with one known reward
    has no deviation, and advantage 0.
    """

    def normalised(reward_G: Floats) -> Floats:
        centred_G: Floats = reward_G - reward_G.mean()
        if not scaled or reward_G.size == 1:
            return centred_G
        result: Floats = centred_G / (reward_G.std(ddof=1) + NEAR_ZERO)
        return result

    return _over_groups(reward_R, group_R, normalised)


def rloo(reward_R: Floats, group_R: Ints) -> Floats:
    """Reward minus the mean of the others in its group (Kool et al. 2019; Ahmadian et al. 2024, eq. 8)."""

    def leave_one_out(reward_G: Floats) -> Floats:
        size = reward_G.size
        return reward_G * 0.0 if size == 1 else (reward_G - reward_G.mean()) * (size / (size - 1))

    return _over_groups(reward_R, group_R, leave_one_out)


def reinforce(reward_R: Floats, group_R: Ints) -> Floats:
    """Reward minus the mean of all other rollouts of the step, whatever their prompt.

    REINFORCE with a baseline (Williams 1992) that is independent of the rollout it is subtracted from.
    """
    return rloo(reward_R, np.zeros_like(group_R))


def advantages(method: str, reward_R: Floats, group_R: Ints, scaled: bool = True) -> Floats:
    """The advantages by train.method. scaled: see `grpo`; the other methods ignore it."""
    if method == "grpo":
        return grpo(reward_R, group_R, scaled)
    return {"rloo": rloo, "reinforce": reinforce}[method](reward_R, group_R)


def rewards_differ(reward_R: Floats, group_R: Ints) -> NDArray[np.bool_]:
    """Whether each rollout's group has known rewards that differ; other groups give no signal."""
    spread_R = _over_groups(reward_R, group_R, lambda reward_G: np.full(reward_G.size, np.ptp(reward_G)))
    return np.array([np.nanmax(np.append(spread_R[group_R == group], 0.0)) > SAME for group in group_R])


def shape_overlong_rewards(
    choice: str, reward_R: Floats, cut_R: NDArray[np.bool_], length_R: Ints, longest: int
) -> Floats:
    """The rewards after train.truncated is applied to answers that were cut at `longest` tokens.

    keep: as graded. mask: unknown, NaN. penalise: 0. soft: answers ending in the last fifth of the length
    lose up to 1, in proportion, and those that were cut lose 1 (DAPO: Yu et al. 2025, equation 13).
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
