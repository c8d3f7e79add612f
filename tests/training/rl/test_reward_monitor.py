"""What goes wrong while a model learns from rewards has a name, is said once, and goes on with a run."""

from __future__ import annotations

import json
from typing import Any

import pytest

from finetooth.training.rl.monitor import RECENT, RewardMonitor

SOUND = {
    "reward": 0.5,
    "gap": 1e-6,
    "gap_max": 1e-5,
    "grader_errors": 0,
    "rollouts": 64,
    "truncated": 0.02,
    "same_groups": 0.3,
    "entropy": 1.0,
    "answer_tokens": 20.0,
    "kl": 0.1,
}
TROUBLE: dict[str, dict[str, float]] = {
    "sampler-gap": {"gap": 5e-3},
    "reward-errors": {"grader_errors": 3},
    "truncation": {"truncated": 0.5},
    "no-difference": {"same_groups": 0.95},
    "reward-fall": {"reward": 0.1},
    "drift": {"kl": 2.0},
    "length-drift": {"answer_tokens": 55.0},
    "entropy-collapse": {"entropy": 0.01},
}


def names(monitor: RewardMonitor, lines: list[dict[str, Any]]) -> list[str]:
    found = [finding for line in lines for finding in monitor.observe(line, {})]
    return [finding.name for finding in found if finding.first]


def course(trouble: dict[str, float], steps: int = 40) -> list[dict[str, Any]]:
    """Sound steps, and from the 15th on what the trouble changes."""
    return [{"step": step, **SOUND, **(trouble if step >= 15 else {})} for step in range(1, steps + 1)]


def test_a_sound_course_is_quiet() -> None:
    assert names(RewardMonitor(), course({})) == []


@pytest.mark.parametrize("name", TROUBLE)
def test_trouble_is_called_by_its_name_and_nothing_else(name: str) -> None:
    assert names(RewardMonitor(), course(TROUBLE[name])) == [name]


def test_answers_that_become_short_are_drift_too() -> None:
    assert names(RewardMonitor(), course({"answer_tokens": 5.0})) == ["length-drift"]


def test_a_narrower_type_has_a_wider_gap() -> None:
    assert names(RewardMonitor("bfloat16"), course({"gap": 5e-3})) == []
    assert names(RewardMonitor("bfloat16"), course({"gap": 0.2})) == ["sampler-gap"]


def test_what_is_solved_is_no_trouble() -> None:
    """Equal rewards and certainty are what one wants once nearly every answer is right."""
    done = course({"reward": 0.97, "same_groups": 0.95, "entropy": 0.001})
    assert names(RewardMonitor(), done) == []


def test_steady_rewards_below_zero_have_not_fallen() -> None:
    """As train.truncated: soft makes them."""
    assert names(RewardMonitor(), [{**line, "reward": -0.5} for line in course({})]) == []


def test_a_divergence_that_was_not_measured_is_no_trouble() -> None:
    assert names(RewardMonitor(), [{k: v for k, v in line.items() if k != "kl"} for line in course({})]) == []


@pytest.mark.parametrize("cut", [3, RECENT, 16, 30])
@pytest.mark.parametrize("name", TROUBLE)
def test_it_goes_on_with_a_run(name: str, cut: int) -> None:
    lines = course(TROUBLE[name])
    whole = RewardMonitor()
    straight = [finding for line in lines for finding in whole.observe(line, {})]
    first = RewardMonitor()
    found = [finding for line in lines[:cut] for finding in first.observe(line, {})]
    second = RewardMonitor(**json.loads(json.dumps(first.state())))
    found += [finding for line in lines[cut:] for finding in second.observe(line, {})]
    assert found == straight
    assert second.state() == whole.state()
