"""Training objectives: pure functions from log-probabilities to one unreduced loss per unit.

An objective never sums or averages over units: it returns one weighted loss per unit, and only
training/step.py divides by the number of units in the whole step. Micro-trees, gradient accumulation and
packing therefore cannot change the loss.

Axes: M scored tokens of all rows, R rows, U units of the objective (tokens, rows or units).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from finetooth.errors import DataError
from finetooth.model.api import Model
from finetooth.model.device import on_device
from finetooth.tree import PrefixTree, Row

Loss = tuple[Tensor, Mapping[str, Tensor]]


@dataclass(frozen=True, slots=True, eq=False)
class Signals:
    """Everything an objective may read, on the device of the log-probabilities.

    logp_M: nats, float32, differentiable. weight_M: loss weights, float32. row_M: the row of each scored
    token. by_name: the rows' own signals, float64; R values for one number per row, M values gathered from
    one number per token. unit_R: index of each row's unit, 0 to units - 1; a row without a unit is its own.
    """

    logp_M: Tensor
    weight_M: Tensor
    row_M: Tensor
    by_name: Mapping[str, Tensor]
    unit_R: Tensor
    units: int

    @classmethod
    def of(cls, tree: PrefixTree, logp_M: Tensor) -> Signals:
        """Collect the signals of a tree, given the log-probabilities of its scored tokens.

        Raises DataError when a signal is missing from some rows or has neither one value nor one per token.
        """
        device = logp_M.device
        by_name: dict[str, Tensor] = {}
        for name in sorted({name for row in tree.rows for name in row.signals}):
            values = []
            for row in tree.rows:
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
                values.append(value)
            by_name[name] = on_device(np.concatenate(values), device)
        numbers: dict[Hashable, int] = {}
        for index, row in enumerate(tree.rows):
            numbers.setdefault(row.unit_key(index), len(numbers))
        unit_R = np.array([numbers[row.unit_key(index)] for index, row in enumerate(tree.rows)])
        return cls(
            logp_M=logp_M,
            weight_M=on_device(tree.weight_M.astype(np.float32), device),
            row_M=on_device(tree.row_M, device),
            by_name=by_name,
            unit_R=on_device(unit_R, device),
            units=len(numbers),
        )


def read_logprobs(model: Model, tree: PrefixTree, temperature: float = 1.0) -> Signals:
    """The default `Objective.read`: the log-probability of each scored token, differentiable."""
    return Signals.of(tree, model.logprobs(tree, temperature))


def unchanged(model: Model, rows: Sequence[Row], budget: int) -> Sequence[Row]:
    """The default `Objective.prepare`: the rows of the step as they are."""
    return rows


@dataclass(frozen=True, slots=True)
class Objective:
    """A loss, its unit, and what it reads from the model.

    unit: "token", "row" or "unit" (see PrefixTree.count).
    loss: Signals -> (loss_U, {metric name: metric_U}); one weighted, unreduced value per unit. Metrics whose
    name ends in _max are reduced by their maximum, all others by their mean over units.
    read: computes the signals of one tree. prepare: (model, all rows of a step, budget) -> the rows to train
    on; runs without gradient and adds signals that depend on all rows of the step.
    """

    unit: str
    loss: Callable[[Signals], Loss]
    read: Callable[[Model, PrefixTree], Signals] = read_logprobs
    prepare: Callable[[Model, Sequence[Row], int], Sequence[Row]] = unchanged


supervised = Objective(unit="token", loss=lambda signals: (-signals.weight_M * signals.logp_M, {}))
"""Weighted cross-entropy in nats; the loss of a step is the weighted mean over its scored tokens."""
