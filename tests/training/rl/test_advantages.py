"""Credit: rewards to advantages, by the papers' formulas, and what is not known stays out."""

from __future__ import annotations

import numpy as np
import pytest

from finetooth.training.rl import advantages

REWARD_R = np.array([1.0, 0.0, 0.5, 0.0, 1.0, 1.0, 1.0])
GROUP_R = np.array([7, 3, 7, 7, 3, 3, 9])
NAN = float("nan")


def of(group: int) -> np.ndarray:
    return REWARD_R[group == GROUP_R]


def test_grpo_is_the_distance_from_the_group_in_deviations() -> None:
    got = advantages.grpo(REWARD_R, GROUP_R)
    for at, group in enumerate(GROUP_R):
        mine = of(group)
        want = 0.0 if mine.size == 1 else (REWARD_R[at] - mine.mean()) / (np.std(mine, ddof=1) + 1e-4)
        assert got[at] == pytest.approx(want, abs=1e-12)


def test_dr_grpo_leaves_the_deviation_out() -> None:
    want = [value - of(group).mean() for value, group in zip(REWARD_R, GROUP_R, strict=True)]
    assert advantages.grpo(REWARD_R, GROUP_R, scaled=False) == pytest.approx(want)


def test_rloo_compares_with_the_others_and_reinforce_with_all_others() -> None:
    rloo, reinforce = advantages.rloo(REWARD_R, GROUP_R), advantages.reinforce(REWARD_R, GROUP_R)
    for at, group in enumerate(GROUP_R):
        others = [value for j, value in enumerate(REWARD_R) if j != at and GROUP_R[j] == group]
        assert rloo[at] == pytest.approx(REWARD_R[at] - np.mean(others) if others else 0.0)
        assert reinforce[at] == pytest.approx(REWARD_R[at] - np.mean(np.delete(REWARD_R, at)))


@pytest.mark.parametrize("method", ["grpo", "rloo", "reinforce"])
def test_what_is_not_known_moves_nothing_and_gets_nothing(method: str) -> None:
    """A failed grader beside known rewards: the others have the advantages that they have without it."""
    with_one = advantages.advantages(method, np.append(REWARD_R, NAN), np.append(GROUP_R, 7))
    assert np.isnan(with_one[-1])
    assert with_one[:-1] == pytest.approx(advantages.advantages(method, REWARD_R, GROUP_R))
    assert np.isnan(advantages.advantages(method, np.array([NAN, NAN]), np.array([1, 1]))).all()


@pytest.mark.parametrize("method", ["grpo", "rloo", "reinforce"])
def test_equal_rewards_have_no_advantage_and_a_shift_changes_none(method: str) -> None:
    assert (advantages.advantages(method, np.full(4, 0.7), np.zeros(4, int)) == pytest.approx(0.0)) is True
    shifted = advantages.advantages(method, REWARD_R + 5, GROUP_R)
    assert shifted == pytest.approx(advantages.advantages(method, REWARD_R, GROUP_R), abs=1e-9)


def test_the_groups_that_differ() -> None:
    reward_R = np.array([1.0, 1.0, 0.0, 0.5, NAN, 1.0, NAN, NAN])
    group_R = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    assert advantages.rewards_differ(reward_R, group_R).tolist() == [False, False, True, True] + [False] * 4


REWARDS, CUT = np.array([1.0, 0.5, 1.0, NAN]), np.array([False, True, False, True])
LENGTHS = np.array([90, 100, 10, 100])


@pytest.mark.parametrize(
    ("choice", "want"),
    [
        ("keep", [1.0, 0.5, 1.0, NAN]),
        ("mask", [1.0, NAN, 1.0, NAN]),
        ("penalise", [1.0, 0.0, 1.0, NAN]),
        ("soft", [0.5, -0.5, 1.0, NAN]),  # 10 of the last 20 tokens of 100: half
    ],
)
def test_cut_answers(choice: str, want: list[float]) -> None:
    got = advantages.shape_overlong_rewards(choice, REWARDS, CUT, LENGTHS, 100)
    np.testing.assert_allclose(got, want)


def test_the_soft_penalty_is_that_of_dapo() -> None:
    """Equation 13 with L_max 20,480 and L_cache 4,096, on answers that ended."""
    length_R = np.array([1, 16384, 16385, 18432, 20480])
    got = advantages.shape_overlong_rewards("soft", np.zeros(5), np.zeros(5, bool), length_R, 20480)
    want = [0 if n <= 20480 - 4096 else ((20480 - 4096) - n) / 4096 for n in length_R]
    np.testing.assert_allclose(got, want)
