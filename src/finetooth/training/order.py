"""Which rows a step sees, as a pure function of (seed, epoch, step): nothing to save, nothing to replay.

Rows of one unit (a pair) come together and count as one row. Every epoch is a fresh permutation of all rows.
Its last batch is smaller when the rows do not divide evenly; it is kept, since dropping it would leave out
rows, and the loss stays the mean over the step's own units.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from finetooth.tree import Row


def group_by_unit(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of each unit, units in the order of their first row; a row without a unit is alone."""
    units: dict[Hashable, list[Row]] = {}
    for index, row in enumerate(rows):
        units.setdefault(row.unit_key(index), []).append(row)
    return list(units.values())


def steps_per_epoch(rows: int, batch_size: int) -> int:
    """Optimizer steps in one pass over the rows, the smaller last one included."""
    return math.ceil(rows / batch_size)


def total_steps(rows: int, batch_size: int, epochs: float, max_steps: int | None) -> int:
    """Optimizer steps of the whole training; a fraction of an epoch is rounded to whole steps, at least 1."""
    steps = max(1, round(epochs * steps_per_epoch(rows, batch_size)))
    return steps if max_steps is None else min(steps, max_steps)


def epoch_order(seed: int, epoch: int, rows: int) -> NDArray[np.int64]:
    """The permutation of 0..rows-1 in which this epoch (from 0) sees the rows."""
    digest = hashlib.sha256(f"order/{seed}/{epoch}".encode()).digest()
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest)))
    return generator.permutation(rows)


def batch(seed: int, step: int, rows: int, batch_size: int) -> NDArray[np.int64]:
    """Indices of the rows of this step (from 0, counted over all epochs)."""
    epoch, position = divmod(step, steps_per_epoch(rows, batch_size))
    return epoch_order(seed, epoch, rows)[position * batch_size : (position + 1) * batch_size]
