"""Overfitting: the gap's interval against a published one and by simulation, losses, and memorised rows."""

from __future__ import annotations

import random

import pytest

from finetooth.analysis.overfitting import (
    MOST_TOKENS,
    Continuation,
    halves,
    is_exact,
    losses_of,
    memory_of,
    score_gap,
)


def ones(k: int, n: int) -> list[float]:
    return [1.0] * k + [0.0] * (n - k)


def test_the_interval_is_newcombes() -> None:
    """His example (1998, table II, method 10): 56 of 70 against 48 of 80."""
    gap = score_gap(ones(56, 70), ones(48, 80))
    assert (round(gap.difference, 4), round(gap.low, 4), round(gap.high, 4)) == (0.2, 0.0524, 0.3339)


@pytest.mark.parametrize("graded", [False, True])
def test_the_interval_covers_the_true_gap(graded: bool) -> None:
    draw, covered, trials = random.Random(4), 0, 60 if graded else 600

    def scores(rate: float, n: int) -> list[float]:
        if graded:
            return [min(1.0, max(0.0, draw.betavariate(8 * rate, 8 * (1 - rate)))) for _ in range(n)]
        return [float(draw.random() < rate) for _ in range(n)]

    for _ in range(trials):
        gap = score_gap(scores(0.95, 120), scores(0.7, 90))
        covered += gap.low <= 0.25 <= gap.high
    assert covered / trials >= (0.88 if graded else 0.93)


def test_a_gap_is_called_overfitting_from_ten_points_on() -> None:
    large = score_gap(ones(198, 200), ones(142, 200))
    assert large.verdict == "overfitting"
    assert large.words() == (
        "overfitting: 99% on rows it was trained on, 71% on new ones (gap 28 points, 22 to 35)"
    )
    assert score_gap(ones(199, 200), ones(188, 200)).verdict == "gap"
    assert score_gap(ones(180, 200), ones(178, 200)).verdict == "no gap"
    clustered = score_gap(ones(198, 200), ones(142, 200), None, [str(row // 50) for row in range(200)])
    assert clustered.low < large.low and clustered.verdict != "overfitting"  # four observations, not 200


def metrics(valid: list[float]) -> list[dict[str, float]]:
    lines: list[dict[str, float]] = []
    for index, loss in enumerate(valid):
        lines += [{"step": 10 * index + step, "loss": 1 / (10 * index + step)} for step in range(1, 11)]
        lines.append({"step": 10 * (index + 1), "valid_loss": loss})
    return lines


def test_a_validation_loss_that_rises_is_told_with_its_best_step() -> None:
    rising = losses_of(metrics([0.9, 0.5, 0.6, 0.8]))
    assert rising is not None and rising.rose and (rising.best_step, rising.last_step) == (20, 40)
    assert rising.train == pytest.approx(sum(1 / step for step in range(31, 41)) / 10)
    assert "rose from 0.500 at step 20 to 0.800 at step 40" in rising.words()
    steady = losses_of(metrics([0.9, 0.5, 0.4, 0.405]))
    assert steady is not None and not steady.rose
    assert losses_of([{"step": 1, "loss": 2.0}]) is None
    assert losses_of([{"step": 1, "loss": 2.0, "reward": 0.1}, {"step": 1, "valid_loss": 1.0}]) is None


def test_halves_and_exactness() -> None:
    assert halves(range(15)) is None
    assert halves(range(16)) == ([*range(8)], [*range(8, 16)])
    given, rest = halves(range(500)) or ([], [])
    assert len(given) == len(rest) == MOST_TOKENS
    assert is_exact([*range(8)], [*range(8), 99]) and not is_exact([*range(8)], [*range(7), 99])
    assert not is_exact([*range(7)], [*range(7)])


def continued(count: int, of: int, **more: bool) -> list[Continuation]:
    return [Continuation(f"row-{at}", 12, at < count, **more) for at in range(of)]


def test_memorised_is_what_nothing_else_explains() -> None:
    found = memory_of(continued(20, 40), continued(0, 40))
    assert (found.verdict, found.memorised, len(found.rows)) == ("memorised", 20, 20)
    for reason in ("base", "elsewhere"):  # predictable
        known = memory_of(continued(20, 40, **{reason: True}), continued(0, 40))
        assert known.verdict == "not memorised" and "20 more can be predicted" in known.words()
    # New rows are continued as often: a pattern was learned, and not these rows.
    assert memory_of(continued(20, 40), continued(19, 40)).verdict == "not memorised"
    assert memory_of(continued(1, 40), continued(0, 40)).verdict == "possibly memorised"
    assert memory_of(continued(6, 40), continued(1, 40)).verdict == "possibly memorised"  # not ruled out
    assert memory_of(continued(2, 40), continued(1, 40)).verdict == "not memorised"
    assert memory_of([], []).verdict == "not defined"
    assert memory_of(continued(3, 4), []).verdict == "possibly memorised"  # without a control
