"""Laws 1 and 2 for learning from rewards: the loss and its gradient are those of the papers' formulas on
padded rows through the stock model, in float64, whatever the budget and the order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from gate import gate
from laws.test_batch_invariance import gradient, require_equal
from torch import Tensor
from training_for_tests import VOCABULARY, load

from finetooth.model.api import Model
from finetooth.training.rl import policy
from finetooth.training.step import evaluate_rows
from finetooth.tree import Row

LONGEST, LOW, HIGH, TEMPERATURE = 12, 0.2, 0.28, 0.8
AVERAGES = ("token", "row", "length")
STOCK: list[Model] = [None]  # type: ignore[list-item]  # the same weights behind transformers' own forward


@pytest.fixture(scope="module", params=["lora", "none"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    place = tmp_path_factory.mktemp("model")
    load(place, family="gpt2")  # transformers computes Llama's norms in float32, whatever the model
    loaded = [Model.load(place, dtype="float64", attention=kind) for kind in ("auto", "rows")]
    for one in loaded:
        if request.param == "lora":
            one.add_lora(4, 0)
            one.hf.double()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in one.trainable():
                weight.add_(0.1 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype))
    model, STOCK[0] = loaded
    assert model.attention != "rows"
    return model.train()


def rollouts(average: str, reference: bool) -> list[Row]:
    """Three groups of four answers behind one prompt each, of 1 to 9 tokens, far enough from where they were
    sampled that some ratios are clipped.
    """
    draw = np.random.default_rng(3)
    rows = []
    for group in range(3):
        prompt = draw.integers(10, VOCABULARY, 5 + group).tolist()
        for member in range(4):
            answer = draw.integers(10, VOCABULARY, int(draw.integers(1, 10))).tolist()
            size = len(prompt) + len(answer)
            signals = {
                "advantage": float(np.float32(draw.normal())),
                "sampled_logp": (-8.0 + 2 * draw.normal(size=size)).astype(np.float32),
            }
            if reference:
                signals["reference_logp"] = (-8.0 + draw.normal(size=size)).astype(np.float32)
            weight = np.zeros(size)
            weight[len(prompt) :] = policy.token_weight(average, len(answer), LONGEST)
            rows.append(Row([*prompt, *answer], weight, signals, id=f"{group}.{member}"))
    return rows


def padded(rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
    """[R, T]: log-probabilities of each row's tokens at the temperature, by the stock model; and the mask."""
    longest = max(map(len, rows))
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    real = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros(len(rows), longest, dtype=torch.float64)
    for at, row in enumerate(rows):
        ids[at, : len(row)] = torch.tensor(row.tokens)
        real[at, : len(row)] = 1
        mask[at, : len(row)] = torch.tensor(row.weight > 0, dtype=torch.float64)
    logits = STOCK[0].hf(input_ids=ids, attention_mask=real, use_cache=False).logits[:, :-1] / TEMPERATURE
    logp = torch.zeros_like(mask)
    logp[:, 1:] = logits.log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    return logp, mask


def signal(rows: Sequence[Row], name: str, like: Tensor) -> Tensor:
    filled = torch.zeros_like(like)
    for at, row in enumerate(rows):
        filled[at, : len(row)] = torch.tensor(np.asarray(row.signals[name]), dtype=torch.float64)
    return filled


def formula(rows: Sequence[Row], average: str, kl: float) -> Tensor:
    """The objective as the papers write it."""
    logp, mask = padded(rows)
    ratio = (logp - signal(rows, "sampled_logp", logp)).exp()
    advantage = torch.tensor([row.signals["advantage"] for row in rows], dtype=torch.float64)[:, None]
    gain = torch.minimum(ratio * advantage, ratio.clamp(1 - LOW, 1 + HIGH) * advantage)
    if kl:
        apart = signal(rows, "reference_logp", logp) - logp
        gain = gain - kl * (apart.exp() - apart - 1)
    gain = gain * mask
    if average == "token":
        return -gain.sum() / mask.sum()
    if average == "row":
        return -(gain.sum(1) / mask.sum(1)).mean()
    return -gain.sum() / (len(rows) * LONGEST)


@pytest.mark.parametrize("kl", gate([0.0, 0.1], [0.1]))
@pytest.mark.parametrize("average", AVERAGES)
def test_loss_and_gradient_are_the_formulas(model: Model, average: str, kl: float) -> None:
    rows = rollouts(average, reference=kl > 0)
    objective = policy.clipped_surrogate(average, LOW, HIGH, kl, TEMPERATURE)
    want = formula(rows, average, kl)
    want_grads = torch.autograd.grad(want, STOCK[0].trainable())
    for budget in (1, 40, 10**6):
        for chosen in (rows, rows[::-1]):
            found, grads = gradient(model, objective, chosen, budget)
            assert found.loss == pytest.approx(want.item(), rel=1e-6)
            require_equal(grads, want_grads, tolerance=1e-6)
    assert 0 < found.metrics["clipped"] < 1


def test_half_of_a_batch_is_its_part_of_the_loss(model: Model) -> None:
    for average in AVERAGES:
        rows, objective = rollouts(average, False), policy.clipped_surrogate(average, LOW, HIGH)
        joint, joint_grads = gradient(model, objective, rows, 40)
        parts = [gradient(model, objective, part, 40) for part in (rows[:5], rows[5:])]
        assert joint.loss == pytest.approx(sum(r.loss * r.units for r, _ in parts) / joint.units, rel=1e-6)
        summed = [
            sum(grads[at] * result.units for result, grads in parts) / joint.units
            for at in range(len(joint_grads))
        ]
        require_equal(joint_grads, summed)  # type: ignore[arg-type]


def test_the_largest_gap_does_not_depend_on_the_budget(model: Model) -> None:
    rows, objective = rollouts("row", False), policy.clipped_surrogate("row", LOW, HIGH, 0.0, TEMPERATURE)
    logp, mask = padded(rows)
    apart = ((logp - signal(rows, "sampled_logp", logp)).abs() * mask).detach()
    for budget in (1, 40, 10**6):
        found, _ = gradient(model, objective, rows, budget)
        assert found.metrics["gap_max"] == pytest.approx(float(apart.max()), rel=1e-5)
        _, metrics = evaluate_rows(model, rows, budget=budget, objective=objective)
        assert metrics["gap_max"] == pytest.approx(float(apart.max()), rel=1e-5)
        assert found.metrics["gap"] == pytest.approx(float((apart.sum(1) / mask.sum(1)).mean()), rel=1e-5)


def test_at_the_first_update_the_gradient_is_reinforce(model: Model) -> None:
    """Ratios are 1, so nothing is clipped, and the gradient is that of advantage * logp."""
    rows = rollouts("token", False)
    with torch.no_grad():
        logp, mask = padded(rows)
    for at, row in enumerate(rows):
        row.signals["sampled_logp"] = logp[at, : len(row)].numpy()  # type: ignore[index]
    found, grads = gradient(model, policy.clipped_surrogate("token", LOW, HIGH, 0.0, TEMPERATURE), rows, 40)
    logp, mask = padded(rows)
    advantage = torch.tensor([row.signals["advantage"] for row in rows], dtype=torch.float64)[:, None]
    want = torch.autograd.grad(-(advantage * logp * mask).sum() / mask.sum(), STOCK[0].trainable())
    require_equal(grads, want, tolerance=2e-6)
    assert found.metrics["clipped"] == 0.0
    assert found.metrics["gap_max"] < 1e-6


def _forgets_the_mask(signals: policy.Signals) -> tuple[Tensor, dict[str, Tensor]]:
    """A planted bug: every token of a row weighs the same, whatever the row says."""
    whole = policy.clipped_surrogate("token", LOW, HIGH, 0.0, TEMPERATURE).loss
    loss_M, metrics = whole(signals)
    return loss_M / signals.weight_M, metrics


def test_the_law_catches_a_lost_weight(model: Model) -> None:
    rows = rollouts("length", False)
    want = formula(rows, "length", 0.0)
    planted = replace(policy.clipped_surrogate("token", LOW, HIGH, 0.0, TEMPERATURE), loss=_forgets_the_mask)
    found, _ = gradient(model, planted, rows, 40)
    assert found.loss != pytest.approx(float(want), rel=1e-3)
