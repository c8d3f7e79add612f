"""Law 2: loss, gradient and evaluation loss do not depend on how the rows of a step are cut or ordered."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from gate import gate
from torch import Tensor
from training_for_tests import load, rows

from finetooth.model.api import Model
from finetooth.training.objectives import Objective, Signals, supervised
from finetooth.training.step import StepResult, evaluate_rows, train_step
from finetooth.tree import PrefixTree, Row, microtrees

ROWS = rows(9)
BUDGETS = (1, 24, 60, 10**6)


class Recorder(torch.optim.SGD):
    """An optimizer that keeps the gradients and moves nothing."""

    grads: list[Tensor]

    def step(self, closure: object = None) -> None:  # type: ignore[override]
        self.grads = [weight.grad.clone() for weight in self.param_groups[0]["params"]]


def gradient(
    model: Model, objective: Objective, chosen: Sequence[Row], budget: int
) -> tuple[StepResult, list[Tensor]]:
    recorder = Recorder(model.trainable(), lr=0.0)
    result = train_step(model, objective, chosen, recorder, budget=budget, max_norm=1e9)
    return result, recorder.grads


def require_equal(found: Sequence[Tensor], wanted: Sequence[Tensor], tolerance: float = 1e-5) -> None:
    """The tolerance of all laws about gradients."""
    largest = max(float(tensor.abs().max()) for tensor in wanted)
    for ours, theirs in zip(found, wanted, strict=True):
        scale = max(float(theirs.abs().max()), 1e-3 * largest)
        assert float((ours - theirs).abs().max()) <= tolerance * scale


def require_invariant(model: Model, objective: Objective) -> None:
    """The law: any budget and any order give the loss and the gradient of one tree of all rows."""
    want, want_grads = gradient(model, objective, ROWS, 10**6)
    for budget in BUDGETS:
        for chosen in (ROWS, ROWS[::-1], ROWS[4:] + ROWS[:4]):
            found, grads = gradient(model, objective, chosen, budget)
            assert found.loss == pytest.approx(want.loss, rel=1e-6)
            assert found.units == want.units
            assert found.row_loss == pytest.approx(want.row_loss, rel=1e-5)
            require_equal(grads, want_grads)


def _row_mean(signals: Signals) -> tuple[Tensor, dict[str, Tensor]]:
    count = int(signals.row_M.max()) + 1
    zero_R = torch.zeros(count, dtype=signals.logp_M.dtype)
    nll_R = zero_R.index_add(0, signals.row_M, -signals.weight_M * signals.logp_M)
    return nll_R / zero_R.index_add(0, signals.row_M, signals.weight_M), {}


def _average_of_averages(signals: Signals) -> tuple[Tensor, dict[str, Tensor]]:
    """The planted bug: each micro-tree takes its own mean."""
    loss_M, _ = supervised.loss(signals)
    zero_R = torch.zeros(int(signals.row_M.max()) + 1, dtype=loss_M.dtype)
    return zero_R.index_add(0, signals.row_M, loss_M) / signals.weight_M.sum(), {}


@pytest.fixture(
    scope="module",
    params=gate(
        [("llama", "lora"), ("gpt2", "none"), ("gpt-neo", "none")], [("llama", "lora"), ("gpt-neo", "none")]
    ),
)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    family, adapter = request.param
    loaded = load(tmp_path_factory.mktemp("model"), adapter, family)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in loaded.trainable():  # else B is 0 and hides A's gradient
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return loaded.train()


@pytest.mark.parametrize("objective", [supervised, Objective("row", _row_mean)], ids=["token", "row"])
def test_any_budget_and_order_give_one_loss_and_gradient(model: Model, objective: Objective) -> None:
    assert len(microtrees(ROWS, 24)) >= 3
    require_invariant(model, objective)


def test_the_law_catches_an_average_of_averages(model: Model) -> None:
    with pytest.raises(AssertionError):
        require_invariant(model, Objective("row", _average_of_averages))


def test_a_batch_is_its_parts_over_the_joint_units(model: Model) -> None:
    joint, joint_grads = gradient(model, supervised, ROWS, 60)
    parts = [gradient(model, supervised, part, 60) for part in (ROWS[:2], ROWS[2:])]
    assert joint.units == sum(result.units for result, _ in parts)
    assert joint.loss == pytest.approx(sum(r.loss * r.units for r, _ in parts) / joint.units, rel=1e-6)
    summed = [
        sum(grads[index] * result.units for result, grads in parts) / joint.units
        for index in range(len(joint_grads))
    ]
    require_equal(joint_grads, summed)  # type: ignore[arg-type]


def test_the_loss_is_the_weighted_mean_over_single_rows(model: Model) -> None:
    total = 0.0
    for row in ROWS:
        with torch.no_grad():
            logp_M = model.logprobs(PrefixTree.build([row])).double().numpy()
        total -= float((row.weight[row.weight > 0] * logp_M).sum())
    want = total / sum(float(row.weight.sum()) for row in ROWS)
    for budget in BUDGETS:
        assert gradient(model, supervised, ROWS, budget)[0].loss == pytest.approx(want, rel=1e-6)
        assert evaluate_rows(model, ROWS, budget=budget)[0] == pytest.approx(want, rel=1e-6)
        assert evaluate_rows(model, ROWS[::-1], budget=budget)[0] == pytest.approx(want, rel=1e-6)


def test_rows_without_scored_tokens_change_nothing(model: Model) -> None:
    """Cut off by themselves they make a tree that has no loss."""
    silent = Row([50, 6, 7, 8], [0.0] * 4, id="silent")
    want, want_grads = gradient(model, supervised, ROWS, 10**6)
    for budget in BUDGETS:
        found, grads = gradient(model, supervised, [*ROWS, silent], budget)
        assert found.loss == pytest.approx(want.loss, rel=1e-6)
        require_equal(grads, want_grads)
