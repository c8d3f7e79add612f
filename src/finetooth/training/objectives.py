"""What training minimises: pure functions from log-probabilities to one unreduced loss per unit.

An objective never sums or averages: it returns one already weighted value per unit, and training/step.py
alone divides by the number of units of the whole step. So neither micro-trees nor accumulation nor packing
can change the loss.

Axes: M scored tokens of all rows, R rows, U units of the objective (tokens, rows or units).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from finetooth.errors import DataError
from finetooth.model.api import Model
from finetooth.model.device import on_device
from finetooth.tree import PrefixTree, Row

Loss = tuple[Tensor, Mapping[str, Tensor]]


@dataclass(frozen=True, slots=True, eq=False)
class Signals:
    """All that an objective may look at, on the device of the log-probabilities.

    logp_M: nats, float32, differentiable. weight_M: loss weights, float32. row_M: row of each scored token.
    by_name: what rows carry along, float64, per-row numbers as R values, per-token arrays gathered to M
    values. unit_R: the number of each row's unit, 0 to units - 1; a row without a unit is one by itself.
    """

    logp_M: Tensor
    weight_M: Tensor
    row_M: Tensor
    by_name: Mapping[str, Tensor]
    unit_R: Tensor
    units: int

    @classmethod
    def of(cls, tree: PrefixTree, logp_M: Tensor) -> Signals:
        """The signals of a tree whose scored tokens have these log-probabilities.

        Raises DataError when a signal is missing from some rows or has neither one value nor one per token.
        """
        names = sorted({name for row in tree.rows for name in row.signals})
        device = logp_M.device
        numbers: dict[Hashable, int] = {}
        for index, row in enumerate(tree.rows):
            numbers.setdefault(row.unit_key(index), len(numbers))
        unit_R = np.array([numbers[row.unit_key(index)] for index, row in enumerate(tree.rows)])
        return cls(
            logp_M=logp_M,
            weight_M=on_device(tree.weight_M.astype(np.float32), device),
            row_M=on_device(tree.row_M, device),
            by_name={name: on_device(_gather(tree.rows, name), device) for name in names},
            unit_R=on_device(unit_R, device),
            units=len(numbers),
        )


def _gather(rows: tuple[Row, ...], name: str) -> NDArray[np.float64]:
    pieces = []
    for row in rows:
        value = np.asarray(row.signals.get(name, ()), dtype=np.float64)
        if value.shape == row.tokens.shape and value.size > 1:
            value = value[row.weight > 0]
        elif value.size == 1:
            value = value.reshape(1)
        else:
            raise DataError(
                f"Row {row.id!r}: the signal {name!r} has shape {value.shape}; expected one value, "
                f"or one for each of the row's {len(row)} tokens."
            )
        pieces.append(value)
    return np.concatenate(pieces)


def read_logprobs(model: Model, tree: PrefixTree, temperature: float = 1.0) -> Signals:
    """What most objectives read of a model: the log-probability of each scored token, differentiable."""
    return Signals.of(tree, model.logprobs(tree, temperature))


def as_they_are(model: Model, rows: Sequence[Row], budget: int) -> Sequence[Row]:
    """The rows of a step, of which nothing needs to be known before their loss."""
    return rows


@dataclass(frozen=True, slots=True)
class Objective:
    """A loss, the unit it is counted in, and what it needs of the model.

    unit: "token", "row" or "unit" (see PrefixTree.count).
    loss: Signals -> (loss_U, {metric name: metric_U}), one value per unit, weighted, not reduced. Of a metric
    whose name ends in _max the largest value counts, of others the mean over units.
    read: the signals of one tree. prepare: (model, all rows of a step, budget) -> the rows to learn from,
    with what can only be known of all of them together in their signals; without gradient.
    """

    unit: str
    loss: Callable[[Signals], Loss]
    read: Callable[[Model, PrefixTree], Signals] = read_logprobs
    prepare: Callable[[Model, Sequence[Row], int], Sequence[Row]] = as_they_are


def _supervised(signals: Signals) -> Loss:
    return -signals.weight_M * signals.logp_M, {}


supervised = Objective(unit="token", loss=_supervised)
"""Weighted cross-entropy in nats: the step's loss is the mean over its scored tokens, by weight."""
