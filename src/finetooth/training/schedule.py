"""The schedule of a training: the rows and the learning rate of each step, as pure functions.

Row order depends on (seed, epoch, step) only, so there is nothing to save and nothing to replay. The rows of
one unit (a pair) stay together and count as one row. Every epoch is a new permutation of all rows. Its last
batch may be smaller; it is kept, since dropping it would leave out rows, and the loss remains the mean over
the step's own units.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from finetooth.errors import ConfigError
from finetooth.tree import Row


def group_by_unit(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of each unit, in the order of their first row; a row without a unit is alone."""
    units: dict[Hashable, list[Row]] = {}
    for index, row in enumerate(rows):
        units.setdefault(row.unit_key(index), []).append(row)
    return list(units.values())


def steps_per_epoch(rows: int, batch_size: int) -> int:
    """Optimizer steps in one pass over the rows, including a smaller last one."""
    return math.ceil(rows / batch_size)


def total_steps(rows: int, batch_size: int, epochs: float, max_steps: int | None) -> int:
    """Optimizer steps of the whole training; fractional epochs are rounded to whole steps, at least 1."""
    steps = max(1, round(epochs * steps_per_epoch(rows, batch_size)))
    return steps if max_steps is None else min(steps, max_steps)


def epoch_order(seed: int, epoch: int, rows: int) -> NDArray[np.int64]:
    """The permutation of 0..rows-1 for this epoch (counted from 0)."""
    digest = hashlib.sha256(f"order/{seed}/{epoch}".encode()).digest()
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest)))
    return generator.permutation(rows)


def batch_indices(seed: int, step: int, rows: int, batch_size: int) -> NDArray[np.int64]:
    """Indices of the rows of this step (counted from 0 over all epochs)."""
    epoch, position = divmod(step, steps_per_epoch(rows, batch_size))
    return epoch_order(seed, epoch, rows)[position * batch_size : (position + 1) * batch_size]


def learning_rate_multiplier(step: int, total: int, warmup: float, kind: str) -> float:
    """Factor in (0, 1] applied to the peak learning rate at `step` (from 0) of `total`.

    Linear warmup over the first `warmup` share of the steps, then decay towards 0 by `kind`: cosine
    (Loshchilov & Hutter 2017, without restarts), linear, or constant. The factor reaches 0 only one step
    after the last, so the last step still learns.
    """
    warm = round(warmup * total)
    if step < warm:
        return (step + 1) / (warm + 1)
    progress = (step - warm) / max(1, total - warm)
    if kind == "constant":
        return 1.0
    if kind == "linear":
        return 1.0 - progress
    if kind == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    raise ConfigError(f"train.schedule: found {kind!r}, expected cosine, linear or constant.")
