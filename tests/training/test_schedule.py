"""Row order and learning rate are pure functions with known values."""

from __future__ import annotations

import numpy as np
import pytest

from finetooth.errors import ConfigError
from finetooth.training.schedule import (
    batch_indices,
    epoch_order,
    learning_rate_multiplier,
    steps_per_epoch,
    total_steps,
)


def test_every_epoch_sees_every_row_once_in_another_order() -> None:
    epochs = [np.concatenate([batch_indices(7, e * 4 + step, 13, 4) for step in range(4)]) for e in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(13))
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_the_last_smaller_batch_is_kept() -> None:
    assert [len(batch_indices(7, step, 13, 4)) for step in range(5)] == [4, 4, 4, 1, 4]
    assert steps_per_epoch(13, 4) == 4


def test_order_depends_on_the_seed_alone() -> None:
    assert epoch_order(1, 0, 8).tolist() == epoch_order(1, 0, 8).tolist()
    assert epoch_order(1, 0, 50).tolist() != epoch_order(2, 0, 50).tolist()
    assert epoch_order(-1, 0, 50).tolist() != epoch_order(1, 0, 50).tolist()


def test_the_order_of_a_seed_is_what_it_always_was() -> None:
    assert epoch_order(1, 0, 8).tolist() == [1, 5, 3, 0, 2, 4, 6, 7]
    assert epoch_order(1, 1, 8).tolist() == [0, 5, 6, 1, 2, 4, 7, 3]


def test_how_many_steps() -> None:
    assert total_steps(13, 4, 2, None) == 8
    assert total_steps(13, 4, 0.5, None) == 2
    assert total_steps(3, 16, 0.1, None) == 1
    assert total_steps(13, 4, 2, 5) == 5
    assert total_steps(13, 4, 2, 50) == 8


def test_the_rate_rises_then_falls() -> None:
    rates = [learning_rate_multiplier(step, 100, 0.1, "cosine") for step in range(100)]
    assert rates[0] == pytest.approx(1 / 11)
    assert rates[9] == pytest.approx(10 / 11)
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates == sorted(rates[:11]) + sorted(rates[11:], reverse=True)
    assert 0 < rates[-1] < 0.001


def test_linear_and_constant() -> None:
    assert learning_rate_multiplier(55, 100, 0.1, "linear") == pytest.approx(0.5)
    assert learning_rate_multiplier(99, 100, 0.1, "linear") == pytest.approx(1 / 90)
    assert [learning_rate_multiplier(step, 100, 0.0, "constant") for step in (0, 50, 99)] == [1.0, 1.0, 1.0]
    assert all(learning_rate_multiplier(0, 1, warmup, "cosine") > 0 for warmup in (0.0, 0.5, 0.99))
    with pytest.raises(ConfigError, match="expected cosine, linear or constant"):
        learning_rate_multiplier(5, 10, 0.0, "step")
