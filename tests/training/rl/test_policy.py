"""The clipped surrogate: TRL's loss on the same log-probabilities, and what a token's gradient is worth.

golden_policy.json is written by benchmarks/trl_grpo_loss.py, where TRL is installed.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from finetooth.training.objectives import Objective, Signals
from finetooth.training.rl import policy

GOLDEN: dict[str, Any] = json.loads(Path(__file__).with_name("golden_policy.json").read_text())
SIZES = [len(row) for row in GOLDEN["logp"]]
AVERAGES = {"grpo": "row", "dapo": "token", "dr_grpo": "length"}  # TRL's loss_type


def flat(name: str) -> Tensor:
    return torch.tensor([value for row in GOLDEN[name] for value in row], dtype=torch.float64)


def signals(average: str, logp_M: Tensor, reference: bool) -> Signals:
    weight = [policy.token_weight(average, size, GOLDEN["longest"]) for size in SIZES for _ in range(size)]
    by_name = {
        "advantage": torch.tensor(GOLDEN["advantage"], dtype=torch.float64),
        "sampled_logp": flat("old"),
    }
    return Signals(
        logp_M=logp_M,
        weight_M=torch.tensor(weight, dtype=torch.float64),
        row_M=torch.repeat_interleave(torch.arange(len(SIZES)), torch.tensor(SIZES)),
        by_name=by_name | ({"reference_logp": flat("reference")} if reference else {}),
        unit_R=torch.arange(len(SIZES)),
        units=len(SIZES),
    )


def units(objective: Objective, given: Signals) -> float:
    return float(given.weight_M.sum()) if objective.unit == "token" else len(SIZES)


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: f"{case['loss_type']}-{case['beta']}")
def test_loss_and_gradient_are_those_of_trl(case: dict[str, Any]) -> None:
    average = AVERAGES[case["loss_type"]]
    objective = policy.clipped_surrogate(average, *GOLDEN["clip"], kl=case["beta"])
    logp_M = flat("logp").requires_grad_()
    given = signals(average, logp_M, case["beta"] > 0)
    loss_U, metrics = objective.loss(given)
    assert loss_U.shape == ((sum(SIZES),) if objective.unit == "token" else (len(SIZES),))
    loss = loss_U.sum() / units(objective, given)
    (grad_M,) = torch.autograd.grad(loss, logp_M)
    assert loss.item() == pytest.approx(case["loss"], abs=1e-12)
    want = torch.tensor([value for row in case["gradient"] for value in row], dtype=torch.float64)
    torch.testing.assert_close(grad_M, want, rtol=0, atol=1e-12)
    assert {"gap", "gap_max", "clipped"} <= set(metrics)


def test_the_choices_are_different_losses() -> None:
    found = {case["loss_type"]: case["loss"] for case in GOLDEN["cases"]}
    assert len({round(value, 6) for value in found.values()}) == 3


def one(ratio: float, advantage: float, low: float = 0.2, high: float = 0.28) -> tuple[float, float]:
    """The loss of one token at this ratio, and its derivative by the log-probability."""
    logp_M = torch.tensor([0.0], dtype=torch.float64, requires_grad=True)
    old_M = -torch.tensor([ratio], dtype=torch.float64).log()
    by_name = {"advantage": torch.tensor([advantage], dtype=torch.float64), "sampled_logp": old_M}
    given = Signals(
        logp_M,
        torch.ones(1, dtype=torch.float64),
        torch.zeros(1, dtype=torch.long),
        by_name,
        unit_R=torch.zeros(1, dtype=torch.long),
        units=1,
    )
    loss_M, _ = policy.clipped_surrogate("token", low, high).loss(given)
    (grad,) = torch.autograd.grad(loss_M.sum(), logp_M)
    return loss_M.item(), grad.item()


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "grad"),
    [
        (1.0, 2.0, -2.0, -2.0),
        (1.27, 1.0, -1.27, -1.27),  # clip-higher: 1.2 would have stopped it
        (1.3, 1.0, -1.28, 0.0),
        (0.7, 1.0, -0.7, -0.7),  # a good token that became rarer is pulled back
        (0.7, -1.0, 0.8, 0.0),
        (1.5, -1.0, 1.5, 1.5),  # a bad one that became likelier is pushed down in full
    ],
)
def test_what_clipping_stops(ratio: float, advantage: float, loss: float, grad: float) -> None:
    assert one(ratio, advantage) == pytest.approx((loss, grad))


def test_a_tokens_own_advantage_counts_where_it_is_given() -> None:
    given = signals("token", flat("logp"), False)
    spread_M = given.by_name["advantage"].index_select(0, given.row_M)
    want, _ = policy.clipped_surrogate("token", 0.2, 0.28).loss(given)
    by_token = {"token_advantage": spread_M, "sampled_logp": given.by_name["sampled_logp"]}
    got, _ = policy.clipped_surrogate("token", 0.2, 0.28).loss(replace(given, by_name=by_token))
    torch.testing.assert_close(got, want)


def test_metrics_are_means_over_tokens_whatever_the_unit() -> None:
    away_M = (flat("logp") - flat("old")).abs()
    for average in ("row", "length"):
        given = signals(average, flat("logp"), True)
        _, metrics = policy.clipped_surrogate(average, 0.2, 0.28).loss(given)
        want = torch.stack([away_M[given.row_M == row].mean() for row in range(len(SIZES))])
        torch.testing.assert_close(metrics["gap"], want)
        assert (metrics["kl"] >= 0).all()
