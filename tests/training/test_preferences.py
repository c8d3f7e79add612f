"""Preference objectives: those of their papers on padded rows, and TRL's on the same numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gate import gate
from preferences_for_tests import (
    KEYS,
    by_paper,
    config,
    moved,
    padded_logprobs,
    pairs,
    referenced,
    swapped,
    taken,
)
from scripts_for_tests import load_script
from torch import Tensor
from training_for_tests import load, settings
from transformers import AutoModelForCausalLM

from finetooth.config.task import TrainConfig
from finetooth.errors import ConfigError
from finetooth.model import lora, reward_head
from finetooth.model.api import Model
from finetooth.training import preferences
from finetooth.training.objectives import Signals
from finetooth.training.reference import with_mismatched
from finetooth.training.step import evaluate_rows, train_step
from finetooth.tree import PrefixTree, Row


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


def exact(models: Path, adapter: str) -> Model:
    model = Model.load(models, dtype="float64")
    if adapter == "lora":
        model.add_lora(4, 0)
        model.hf.double()
    return moved(model)


def stock(models: Path, model: Model) -> tuple[Any, list[Tensor]]:
    """transformers' own network and PEFT's own layers with the same weights, and those that are trained."""
    hf = AutoModelForCausalLM.from_pretrained(models, dtype=torch.float64)
    if reward_head.is_reward(model.hf):
        reward_head.attach(hf)
    if model.peft is not None:
        lora.add_lora(hf, 4, 0)
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


def step(
    model: Model, chosen: TrainConfig, rows: Sequence[Row], budget: int = 10**6
) -> tuple[Any, list[Tensor]]:
    recorder = Recorder(model.trainable(), lr=0.0)
    objective = preferences.objective(chosen)
    return train_step(model, objective, rows, recorder, budget=budget, max_norm=1e9), recorder.grads


@pytest.mark.parametrize("adapter", gate(["lora", "none"], ["lora"]))
@pytest.mark.parametrize("method", KEYS)
def test_loss_and_gradient_are_those_of_the_paper_on_padded_rows(
    gpt2: Path, method: str, adapter: str
) -> None:
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
    reward_head.attach(model.hf)
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


golden = json.loads(Path(__file__).with_name("golden_preferences.json").read_text())
trl_losses = load_script("benchmarks/trl_losses.py")


@pytest.mark.parametrize("method", golden["methods"])
def test_loss_and_gradient_are_trls_on_the_same_log_probabilities(method: str) -> None:
    """TRL's numbers, written down by benchmarks/trl_losses.py. Its ORPO computes in float32."""
    want = golden["methods"][method]
    loss, gradient = trl_losses.ours(method, want["keys"], golden["given"])
    assert loss == pytest.approx(want["loss"], abs=1e-8 if method == "orpo" else 1e-12)
    assert gradient == pytest.approx(want["gradient"], abs=1e-9 if method == "orpo" else 1e-12)


@pytest.mark.parametrize("method", ["dpo", "dpo_norm", "ipo", "simpo", "orpo"])
def test_swapped_labels_invert_accuracy_and_margin(models: Path, tmp_path: Path, method: str) -> None:
    model = load(models)
    rows = taken(model, tmp_path, config(method), pairs(7))[0]
    moved(model)
    objective = preferences.objective(config(method))
    _, said = evaluate_rows(model, rows, budget=60, objective=objective)
    _, other = evaluate_rows(model, swapped(rows), budget=60, objective=objective)
    assert 0 < said["accuracy"] < 1 and abs(said["margin"]) > 1e-3
    assert other["accuracy"] == pytest.approx(1 - said["accuracy"])
    assert other["margin"] == pytest.approx(-said["margin"])
    assert other["chosen_reward"] == pytest.approx(said["rejected_reward"])
    assert other["chosen_logp"] == pytest.approx(said["rejected_logp"])


CHANGED = {
    "beta": 0.9,
    "label_smoothing": 0.3,
    "gamma": 0.1,
    "desirable_weight": 2.0,
    "undesirable_weight": 2.0,
}
OF_REWARDS = {"reward": "exact", "group_size": 4, "scale": "none", "resample": 3}


@pytest.mark.parametrize(
    ("method", "key"),
    [
        pytest.param(method, key, marks=() if method in ("dpo", "simpo", "kto") else pytest.mark.full)
        for method, keys in preferences.PREFERENCE_METHODS.items()
        for key in keys
    ],
)
def test_changing_a_key_changes_the_loss(models: Path, method: str, key: str) -> None:
    model = moved(load(models))
    rows = with_mismatched(pairs(4), model.max_tokens) if method == "kto" else pairs(4)
    rows = referenced(load(models), rows)
    losses = [
        evaluate_rows(model, rows, budget=60, objective=preferences.objective(chosen))[0]
        for chosen in (config(method), config(method, **{key: CHANGED[key]}))
    ]
    assert abs(losses[0] - losses[1]) > 1e-4


@pytest.mark.parametrize(
    ("method", "key"),
    [
        ("sft", "beta"),
        ("dpo", "gamma"),
        ("ipo", "label_smoothing"),
        ("simpo", "desirable_weight"),
        ("reward_model", "beta"),
        ("sft", "reward"),
        ("dpo", "group_size"),
        ("grpo", "gamma"),
        ("rloo", "scale"),
        ("reinforce", "resample"),
    ],
)
def test_a_key_that_the_method_does_not_read_is_an_error(method: str, key: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"train\.{key} is set, but train\.method {method} does not read it"
    ):
        preferences.reject_unused_keys(settings(method=method, **{key: {**CHANGED, **OF_REWARDS}[key]}))


def test_orpo_stays_finite_where_an_answer_is_nearly_certain() -> None:
    """log(1 - p) loses all digits near p = 1 when it is computed as it is written."""
    logp = torch.tensor([-1e-12, -1e-9, -0.3, -0.7, -40.0], dtype=torch.float64, requires_grad=True)
    found = preferences._log1mexp(logp)
    want = [math.log(-math.expm1(value)) for value in logp.tolist()]
    assert found.tolist() == pytest.approx(want, rel=1e-12)
    assert bool(torch.isfinite(torch.autograd.grad(found.sum(), logp)[0]).all())


def test_the_kl_of_a_step_is_that_of_all_its_mismatched_rows(models: Path) -> None:
    start, model = load(models), moved(load(models), 3)
    rows = referenced(start, with_mismatched(pairs(5), 256))
    prepared = preferences.with_kl(model, rows, 30)
    others = [row for row in rows if row.signals["mismatched"]]
    assert len(prepared) == len(others) == 10
    added = []
    for row in others:
        tree = PrefixTree.build([row])
        with torch.no_grad():
            added.append(float((model.logprobs(tree) - start.logprobs(tree)).double().sum()))
    assert prepared[0].signals["kl"] == pytest.approx(max(0.0, float(np.mean(added))), abs=1e-4)
    assert prepared[0].signals["kl"] == prepared[-1].signals["kl"]


def test_mismatched_rows_have_their_context_and_anothers_answer() -> None:
    rows = pairs(4)
    made = [row for row in with_mismatched(rows, 256) if row.signals["mismatched"]]
    for index, (row, other) in enumerate(zip(rows, made, strict=True)):
        lender = rows[(index + 2) % 8]
        at, begins = (int(np.flatnonzero(r.weight)[0]) for r in (row, lender))
        assert other.tokens.tolist() == [*row.tokens[:at], *lender.tokens[begins:]]
        assert other.signals["chosen"] == row.signals["chosen"] and other.unit == row.unit
    assert len(with_mismatched(rows[:2], 256)) == 2  # one pair has nobody to lend an answer
    longest = max(map(len, rows))
    assert all(len(row) <= longest for row in with_mismatched(rows, longest))


def test_signals_know_the_pair_of_each_row() -> None:
    rows = pairs(3)
    tree = PrefixTree.build([*rows[::2], *rows[1::2], Row([5, 6], [0, 1], {"chosen": 1.0})])
    signals = Signals.of(tree, torch.zeros(tree.node_M.size))
    assert signals.unit_R.tolist() == [0, 1, 2, 0, 1, 2, 3]
    assert signals.units == 4
