"""Pairs of rows, and the objectives of preference tuning written plainly on padded rows by the papers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from training_for_tests import settings

from finetooth.config.task import TrainConfig
from finetooth.model import reward_head
from finetooth.model.api import Model
from finetooth.model.inference import row_logprobs
from finetooth.training import preferences
from finetooth.training.reference import add_reference, with_reference
from finetooth.tree import Row

VOCABULARY = 448
KEYS: dict[str, dict[str, float]] = {
    "dpo": {"beta": 0.3, "label_smoothing": 0.1},
    "dpo_norm": {"beta": 1.5},
    "ipo": {"beta": 0.4},
    "simpo": {"beta": 2.0, "gamma": 0.7},
    "orpo": {"beta": 0.25},
    "kto": {"beta": 0.2, "desirable_weight": 1.3, "undesirable_weight": 0.8},
}
REFERENCE = [method for method in KEYS if preferences.needs_reference(method)]


def pairs(count: int, seed: int = 0, **signals: float) -> list[Row]:
    """Pairs of rows behind prompts of their own, of which some begin alike; answers of 2 to 9 tokens."""
    draw = np.random.default_rng(seed)
    system = draw.integers(10, VOCABULARY, 4).tolist()
    made = []
    for index in range(count):
        prompt = (system if index % 2 else []) + draw.integers(
            10, VOCABULARY, int(draw.integers(3, 8))
        ).tolist()
        for chosen in (1.0, 0.0):
            answer = draw.integers(10, VOCABULARY, int(draw.integers(2, 10))).tolist()
            weight = [0.0] * len(prompt) + [1.0] * len(answer)
            made.append(
                Row(prompt + answer, weight, {"chosen": chosen, **signals}, f"pair-{index}", f"pair-{index}")
            )
    return made


def padded_logprobs(hf: Any, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the next token and the mask of answers, [R, T - 1] each: padding, mask, shift."""
    longest = max(len(row) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    attention = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros(len(rows), longest, dtype=torch.float64)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.from_numpy(row.tokens)
        attention[index, : len(row)] = 1
        mask[index, : len(row)] = torch.from_numpy((row.weight > 0).astype(float))
    logits = hf(input_ids=ids, attention_mask=attention).logits[:, :-1].double()
    logp = logits.log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    return logp, mask[:, 1:]


def by_paper(method: str, policy: Tensor, reference: Tensor, mask: Tensor, keys: dict[str, float]) -> Tensor:
    """The mean loss of rows chosen, rejected, chosen, rejected, ... as their paper writes it, term by term.

    policy, reference: [R, T] log-probabilities; for kto the second half of the rows are the mismatched ones.
    """
    beta, count = keys["beta"], mask.sum(1)
    policy_R, reference_R = (policy * mask).sum(1), (reference * mask).sum(1)
    w, lo = slice(0, None, 2), slice(1, None, 2)  # winners and losers of the papers

    def sigma(x: Tensor) -> Tensor:
        return 1 / (1 + torch.exp(-x))

    if method == "dpo":
        h = (policy_R[w] - reference_R[w]) - (policy_R[lo] - reference_R[lo])
        e = keys["label_smoothing"]
        losses = -(1 - e) * torch.log(sigma(beta * h)) - e * torch.log(1 - sigma(beta * h))
    elif method == "dpo_norm":
        ratio = (policy_R - reference_R) / count
        losses = -torch.log(sigma(beta * ratio[w] - beta * ratio[lo]))
    elif method == "ipo":
        ratio = (policy_R - reference_R) / count
        losses = (ratio[w] - ratio[lo] - 1 / (2 * beta)) ** 2
    elif method == "simpo":
        mean = policy_R / count
        losses = -torch.log(sigma(beta * mean[w] - beta * mean[lo] - keys["gamma"]))
    elif method == "orpo":
        p = torch.exp(policy_R / count)
        odds = p / (1 - p)
        losses = -(policy_R / count)[w] - beta * torch.log(sigma(torch.log(odds[w] / odds[lo])))
    else:
        half = len(mask) // 2
        z0 = (policy_R - reference_R)[half:].mean().clamp(min=0).detach()
        r = (policy_R - reference_R)[:half]
        good = keys["desirable_weight"] * (1 - sigma(beta * (r[w] - z0)))
        bad = keys["undesirable_weight"] * (1 - sigma(beta * (z0 - r[lo])))
        losses = torch.cat([good, bad])
    return losses.mean()


def config(method: str, **changes: object) -> TrainConfig:
    """Settings of a short training by this method, with values that are not the usual ones."""
    return settings(method=method, **{**KEYS.get(method, {}), **changes})


def moved(model: Model, seed: int = 0, by: float = 0.1) -> Model:
    """The model with noise on what is trained; else B is 0 and hides A's gradient."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.trainable():
            weight.add_(by * torch.randn(weight.shape, generator=generator).to(weight.dtype))
    return model


def referenced(model: Model, rows: Sequence[Row]) -> list[Row]:
    """The rows with their log-probabilities by this model."""
    return add_reference(rows, row_logprobs(model, rows))


def taken(model: Model, run: Path, chosen: TrainConfig, *sides: Sequence[Row]) -> list[list[Row]]:
    """The sides as the method takes them, with the reference of this model, kept in the run."""
    return with_reference(model, sides, chosen, run, lambda text: None)


def swapped(rows: Sequence[Row]) -> list[Row]:
    """The same pairs, labelled the other way round."""
    return [preferences.with_signals(row, {"chosen": 1 - row.signals["chosen"]}) for row in rows]


def scoring(models: Path, adapter: str = "lora") -> Model:
    """A reward model before training."""
    model = Model.load(models)
    reward_head.attach(model.hf)
    if adapter == "lora":
        model.add_lora(4, 0)
    return model
