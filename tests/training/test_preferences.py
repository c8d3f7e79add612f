"""Preference objectives: equal to their papers on padded rows, to TRL's on the same numbers, and not swappable."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from preferences_for_tests import by_paper, padded_logprobs, pairs
from torch import Tensor
from transformers import AutoModelForCausalLM
from training_for_tests import fit, load, settings

from finetooth.config import TrainConfig
from finetooth.errors import ConfigError, Interrupted, TrainError
from finetooth.evaluation.preference import row_logprobs
from finetooth.model import adapters, reward
from finetooth.model.api import Model
from finetooth.training import preferences, reference
from finetooth.training.objectives import Signals
from finetooth.training.reference import require_start, with_mismatched, with_reference
from finetooth.training.step import evaluate_rows, train_step
from finetooth.tree import PrefixTree, Row

KEYS: dict[str, dict[str, float]] = {
    "dpo": {"beta": 0.3, "label_smoothing": 0.1},
    "dpo_norm": {"beta": 1.5},
    "ipo": {"beta": 0.4},
    "simpo": {"beta": 2.0, "gamma": 0.7},
    "orpo": {"beta": 0.25},
    "kto": {"beta": 0.2, "desirable_weight": 1.3, "undesirable_weight": 0.8},
}
REFERENCE = [method for method in KEYS if preferences.needs_reference(method)]


def config(method: str, **changes: object) -> TrainConfig:
    return settings(method=method, **{**KEYS.get(method, {}), **changes})


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model")
    load(directory)
    return directory


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network all of which is float64 when asked: others compute norms in float32 whatever they are."""
    directory = tmp_path_factory.mktemp("gpt2")
    load(directory, family="gpt2")
    return directory


def moved(model: Model, seed: int = 0, by: float = 0.1) -> Model:
    """The model with noise on what is trained; else B is 0 and hides A's gradient."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.trainable():
            weight.add_(by * torch.randn(weight.shape, generator=generator).to(weight.dtype))
    return model


def exact(models: Path, adapter: str) -> Model:
    model = Model.load(models, dtype="float64")
    if adapter == "lora":
        model.add_lora(4, 0)
        model.hf.double()
    return moved(model)


def stock(models: Path, model: Model) -> tuple[Any, list[Tensor]]:
    """transformers' own network and PEFT's own layers with the same weights, and those that are trained."""
    hf = AutoModelForCausalLM.from_pretrained(models, dtype=torch.float64)
    if reward.is_reward(model.hf):
        reward.attach(hf)
    if model.peft is not None:
        adapters.add_lora(hf, 4, 0)
    hf.double()
    weights = dict(hf.named_parameters())
    with torch.no_grad():
        for name, weight in model.named_trainable().items():
            weights[name].copy_(weight)
    return hf, [weights[name] for name in model.named_trainable()]


def require_same(grads: Sequence[Tensor], want: Tensor, weights: Sequence[Tensor]) -> None:
    """Gradients to 1e-6 of the largest."""
    want_grads = torch.autograd.grad(want, weights, allow_unused=True)
    largest = max(float(grad.abs().max()) for grad in want_grads if grad is not None)
    assert largest > 1e-4
    for ours, theirs in zip(grads, want_grads, strict=True):
        theirs = torch.zeros_like(ours) if theirs is None else theirs
        assert float((ours - theirs).abs().max()) <= 1e-6 * largest


class Recorder(torch.optim.SGD):
    """An optimizer that keeps the gradients and moves nothing."""

    grads: list[Tensor]

    def step(self, closure: object = None) -> None:  # type: ignore[override]
        self.grads = [weight.grad.clone() for weight in self.param_groups[0]["params"]]


def step(model: Model, chosen: TrainConfig, rows: Sequence[Row], budget: int = 10**6) -> tuple[Any, list[Tensor]]:
    recorder = Recorder(model.trainable(), lr=0.0)
    objective = preferences.objective(chosen)
    return train_step(model, objective, rows, recorder, budget=budget, max_norm=1e9), recorder.grads


def referenced(model: Model, rows: Sequence[Row]) -> list[Row]:
    """The rows with their log-probabilities by this model."""
    logp = row_logprobs(model, rows)
    return [
        preferences.replaced(row, {"reference_logp": reference._placed(row, own)})
        for row, own in zip(rows, logp, strict=True)
    ]


@pytest.mark.parametrize("adapter", ["lora", "none"])
@pytest.mark.parametrize("method", KEYS)
def test_loss_and_gradient_are_those_of_the_paper_on_padded_rows(gpt2: Path, method: str, adapter: str) -> None:
    model, start = exact(gpt2, adapter), exact(gpt2, adapter)
    moved(start, 1)
    rows = pairs(5)
    if method == "kto":
        rows = with_mismatched(rows, model.max_tokens)
    rows = referenced(start, rows)
    found, grads = step(model, config(method), rows)
    matched = [row for row in rows if not row.signals.get("mismatched")]
    others = [row for row in rows if row.signals.get("mismatched")]
    hf, weights = stock(gpt2, model)
    policy, mask = padded_logprobs(hf, [*matched, *others])
    with torch.no_grad():
        before, _ = padded_logprobs(stock(gpt2, start)[0], [*matched, *others])
    want = by_paper(method, policy, before, mask, {"label_smoothing": 0.0, **KEYS[method]})
    assert found.loss == pytest.approx(float(want.detach()), abs=1e-6)
    require_same(grads, want, weights)


def test_a_reward_model_is_bradley_terry_on_the_score_of_the_last_token(gpt2: Path) -> None:
    model = Model.load(gpt2, dtype="float64")
    reward.attach(model.hf)
    model.hf.double()
    moved(model)
    rows = pairs(5)
    found, grads = step(model, config("reward_model"), rows)
    hf, weights = stock(gpt2, model)
    score_R = torch.stack(
        [
            hf.base_model(input_ids=torch.from_numpy(row.tokens)[None]).last_hidden_state[0, -1]
            @ hf.score.weight[0]
            for row in rows
        ]
    )
    want = -torch.log(1 / (1 + torch.exp(-(score_R[0::2] - score_R[1::2])))).mean()
    assert found.loss == pytest.approx(float(want.detach()), abs=1e-6)
    require_same(grads, want, weights)
