"""One optimizer step, and the validation loss. No other module reduces a loss.

The loss of a step is the sum over all its units divided by their number, which is known before any forward
pass. How the rows are split into micro-trees determines memory use, never the loss.

Axes: M scored tokens, R rows of one tree, U units of the objective.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from finetooth.config.values import first_few
from finetooth.errors import TrainError
from finetooth.model.api import Model
from finetooth.model.inference import inference_trees
from finetooth.training.objectives import Loss, Objective, Signals, supervised
from finetooth.training.schedule import group_by_unit
from finetooth.tree import PrefixTree, Row, microtrees


@dataclass(frozen=True, slots=True)
class StepResult:
    """The outcome of one step.

    loss: mean over the units, before the update. units: the divisor of that mean. grad_norm: before clipping.
    row_tokens: tokens of all rows; computed_tokens: the distinct ones that were computed.
    row_loss: example id -> weighted mean negative log-probability of its scored tokens, nats; for an
    objective over rows or units, the mean of their losses.
    metrics: the objective's own metrics, mean over units (or maximum: see Objective).
    """

    loss: float
    units: float
    grad_norm: float
    rows: int
    scored_tokens: int
    row_tokens: int
    computed_tokens: int
    row_loss: Mapping[str, float]
    metrics: Mapping[str, float]


def train_step(
    model: Model,
    objective: Objective,
    rows: Sequence[Row],
    optimizer: torch.optim.Optimizer,
    *,
    budget: int,
    max_norm: float,
) -> StepResult:
    """Accumulate the gradient of `rows` over micro-trees of at most `budget` tokens, clip it, and update.

    Raises TrainError, naming the rows, when no token is scored and, before any weight changes, when the loss
    or the gradient is not finite. The learning rate is the optimizer's.
    """
    rows = objective.prepare(model, rows, budget)
    trees = microtrees(rows, budget)
    units = sum(tree.count(objective.unit) for tree in trees)
    if units <= 0:
        raise TrainError(f"No token of these rows is scored, so there is nothing to learn: {_names(rows)}.")
    tally = _Tally()
    with deterministic(model.device):
        grads = _gradients(model)
        for tree in trees:
            _backward(model, objective, tree, units, tally)
        norm = get_total_norm(grads)
        total, grad_norm, sums, loss_R = tally.read(norm)  # before the update, so nothing waits for it
        loss = total / units
        if not math.isfinite(loss) or not math.isfinite(grad_norm):
            optimizer.zero_grad()
            raise _not_finite(model, objective, rows, "gradient" if math.isfinite(loss) else "loss")
        clip_grads_with_norm_(model.trainable(), max_norm, norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
    return StepResult(
        loss=loss,
        units=units,
        grad_norm=grad_norm,
        rows=len(rows),
        scored_tokens=sum(len(tree.node_M) for tree in trees),
        row_tokens=sum(len(row) for row in rows),
        computed_tokens=sum(len(tree) for tree in trees),
        row_loss=tally.row_loss(loss_R, objective.unit),
        metrics=_mean_metrics(sums, units),
    )


def _backward(model: Model, objective: Objective, tree: PrefixTree, units: float, tally: _Tally) -> None:
    """Add one micro-tree to the gradients and the tally.

    A separate function, so that no tensor of a tree outlives it: a few small tensors left in the middle of
    the heap would keep large ones from reusing that memory (an eighth of the process's memory).
    """
    signals = objective.read(model, tree)
    loss_U, metrics = objective.loss(signals)
    if loss_U.requires_grad:  # a tree without scored tokens has no gradient
        (loss_U.sum() / units).backward()
    tally.add(tree, signals, objective.unit, (loss_U, metrics))


def _gradients(model: Model) -> list[Tensor]:
    """The gradient buffer of each trainable weight, kept from step to step to avoid the same fragmentation.

    Because the buffers exist, the gradient of an embedding may arrive as a sparse tensor of a tree's tokens.
    """
    for module in model.hf.modules():
        if isinstance(module, torch.nn.Embedding):
            module.sparse = model.device.type == "cpu"
    for weight in model.trainable():
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
    return [weight.grad for weight in model.trainable() if weight.grad is not None]


def evaluate_rows(
    model: Model, rows: Sequence[Row], *, budget: int, objective: Objective = supervised
) -> tuple[float, dict[str, float]]:
    """The loss over `rows` without an update, reduced as in `train_step`, and the objective's metrics.

    Dropout is off; `budget` does not change the result. Raises TrainError when no token is scored or the loss
    is not finite. The model's train/eval mode is restored.
    """
    with model.eval_mode(), torch.no_grad():
        rows = objective.prepare(model, rows, budget)
        trees = inference_trees(model, rows, budget)
        units = sum(tree.count(objective.unit) for tree in trees)
        if units <= 0:
            raise TrainError("No token of the validation rows is scored, so there is no validation loss.")
        total = 0.0
        sums: dict[str, Tensor] = {}
        for tree in trees:
            loss_U, metrics = objective.loss(objective.read(model, tree))
            total += float(loss_U.double().sum())
            _add_metrics(sums, metrics)
    if not math.isfinite(total):
        raise TrainError(f"The validation loss is {total}. A smaller train.learning_rate usually helps.")
    return total / units, _mean_metrics({name: float(value) for name, value in sums.items()}, units)


@dataclass(slots=True)
class _Tally:
    """Sums over the micro-trees of a step, kept on the device so that the step synchronises only once."""

    losses: list[Tensor] = field(default_factory=list)
    metrics: dict[str, Tensor] = field(default_factory=dict)
    loss_R: list[Tensor] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    def add(self, tree: PrefixTree, signals: Signals, unit: str, loss: Loss) -> None:
        loss_U, metrics = loss[0].detach().double(), loss[1]
        self.losses.append(loss_U.sum())
        _add_metrics(self.metrics, metrics)
        if unit == "token":
            nll_M = -(signals.weight_M * signals.logp_M.detach()).double()
            nll_R = torch.zeros(len(tree.rows), dtype=torch.float64, device=nll_M.device)
            self.loss_R.append(nll_R.index_add(0, signals.row_M, nll_M))
        else:
            self.loss_R.append(loss_U if unit == "row" else loss_U.index_select(0, signals.unit_R))
        self.rows.extend(tree.rows)

    def read(self, norm: Tensor) -> tuple[float, float, dict[str, float], list[float]]:
        """Loss, gradient norm, metrics and loss per row, in the step's only transfer from the device."""
        loss = torch.stack(self.losses).sum()
        sums = [loss, norm.double().to(loss.device), *self.metrics.values()]
        values = torch.cat([torch.stack(sums), *self.loss_R]).tolist()
        return values[0], values[1], dict(zip(self.metrics, values[2:], strict=False)), values[len(sums) :]

    def row_loss(self, loss_R: Sequence[float], unit: str) -> dict[str, float]:
        """Mean per example id: an example with several rows (the turns of a conversation) gets one entry."""
        loss: dict[str, float] = {}
        weight: dict[str, float] = {}
        for row, value in zip(self.rows, loss_R, strict=True):
            id = row.example_id
            loss[id] = loss.get(id, 0.0) + value
            weight[id] = weight.get(id, 0.0) + (float(row.weight.sum()) if unit == "token" else 1.0)
        return {name: loss[name] / weight[name] for name in loss if weight[name] > 0}


def _add_metrics(sums: dict[str, Tensor], metrics: Mapping[str, Tensor]) -> None:
    """Add the metrics of a micro-tree; names ending in _max keep their maximum."""
    for name, value_U in metrics.items():
        value_U = value_U.detach().double()
        before = sums.get(name, value_U.new_zeros(()))
        largest = name.endswith("_max")
        sums[name] = torch.cat([before[None], value_U]).max() if largest else before + value_U.sum()


def _mean_metrics(sums: Mapping[str, float], units: float) -> dict[str, float]:
    return {name: value if name.endswith("_max") else value / units for name, value in sums.items()}


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Use deterministic algorithms inside the block and restore the previous setting afterwards.

    On other devices than the CPU an operation without a deterministic implementation only warns: bit-exact
    resume is guaranteed on the CPU alone.
    """
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    fill = memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=device.type != "cpu")
    memory.fill_uninitialized_memory = False  # costs 3% of a step, and nothing reads uninitialised memory
    try:
        yield
    finally:
        memory.fill_uninitialized_memory = fill
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)


def _names(rows: Sequence[Row]) -> str:
    return first_few(list(dict.fromkeys(row.id or "(no id)" for row in rows)), 8)


def _not_finite(model: Model, objective: Objective, rows: Sequence[Row], what: str) -> TrainError:
    """The error naming the rows at fault; units are tried alone, since NaN spreads within a tree."""
    guilty: list[Row] = []
    for unit in group_by_unit(rows):
        tree = PrefixTree.build(unit)
        if tree.count(objective.unit) <= 0:
            continue
        loss_U, _ = objective.loss(objective.read(model, tree))
        finite = bool(torch.isfinite(loss_U).all())
        if finite and loss_U.requires_grad:
            grads = torch.autograd.grad(loss_U.sum(), model.trainable(), allow_unused=True)
            finite = all(bool(torch.isfinite(grad.to_dense()).all()) for grad in grads if grad is not None)
        if not finite:
            guilty += unit
    found = f"from {_names(guilty)}" if guilty else f"from these rows together: {_names(rows)}"
    return TrainError(
        f"The {what} of this step is not finite ({found}). No weight was changed. Look at these rows; "
        "if they are fine, a smaller train.learning_rate or train.max_grad_norm usually helps."
    )
