"""Pairs of rows, and the objectives of preference tuning written plainly on padded rows by the papers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from finetooth.tree import Row

VOCABULARY = 448


def pairs(count: int, seed: int = 0, **signals: float) -> list[Row]:
    """Pairs of rows behind prompts of their own, of which some begin alike; answers of 2 to 9 tokens."""
    draw = np.random.default_rng(seed)
    system = draw.integers(10, VOCABULARY, 4).tolist()
    made = []
    for index in range(count):
        prompt = (system if index % 2 else []) + draw.integers(10, VOCABULARY, int(draw.integers(3, 8))).tolist()
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
    w, l = slice(0, None, 2), slice(1, None, 2)  # winners and losers, as the papers call them

    def sigma(x: Tensor) -> Tensor:
        return 1 / (1 + torch.exp(-x))

    if method == "dpo":
        h = (policy_R[w] - reference_R[w]) - (policy_R[l] - reference_R[l])
        e = keys["label_smoothing"]
        losses = -(1 - e) * torch.log(sigma(beta * h)) - e * torch.log(1 - sigma(beta * h))
    elif method == "dpo_norm":
        ratio = (policy_R - reference_R) / count
        losses = -torch.log(sigma(beta * ratio[w] - beta * ratio[l]))
    elif method == "ipo":
        ratio = (policy_R - reference_R) / count
        losses = (ratio[w] - ratio[l] - 1 / (2 * beta)) ** 2
    elif method == "simpo":
        mean = policy_R / count
        losses = -torch.log(sigma(beta * mean[w] - beta * mean[l] - keys["gamma"]))
    elif method == "orpo":
        p = torch.exp(policy_R / count)
        odds = p / (1 - p)
        losses = -(policy_R / count)[w] - beta * torch.log(sigma(torch.log(odds[w] / odds[l])))
    else:
        half = len(mask) // 2
        z0 = (policy_R - reference_R)[half:].mean().clamp(min=0).detach()
        r = (policy_R - reference_R)[:half]
        good = keys["desirable_weight"] * (1 - sigma(beta * (r[w] - z0)))
        bad = keys["undesirable_weight"] * (1 - sigma(beta * (z0 - r[l])))
        losses = torch.cat([good, bad])
    return losses.mean()
