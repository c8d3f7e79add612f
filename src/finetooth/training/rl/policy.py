"""The policy objective of reinforcement learning: PPO's clipped surrogate, a pure function.

Rows carry: advantage, one number per row (or token_advantage, one per token); sampled_logp, the
log-probability with which each token was sampled; and, where the KL divergence is measured, reference_logp,
that of the initial model. All log-probabilities are in nats, at the sampling temperature.

Axes: M scored tokens of all rows, R rows.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from finetooth.training.objectives import Loss, Objective, Signals, read_logprobs

UNITS = {"token": "token", "row": "row", "length": "row"}  # train.average -> unit of the loss


def clipped_surrogate(
    average: str, low: float, high: float, kl: float = 0.0, temperature: float = 1.0
) -> Objective:
    """PPO's clipped surrogate (Schulman et al. 2017, equation 7) per token, and the KL to the initial model.

    -min(ratio * advantage, clip(ratio, 1 - low, 1 + high) * advantage) + kl * divergence, with ratio =
    exp(logp - sampled_logp). low and high may differ: clip-higher (DAPO: Yu et al. 2025, section 3.1). In the
    first update on a rollout every ratio is 1, and the gradient is that of advantage * logp. divergence =
    exp(d) - d - 1, d = reference_logp - logp: k3 of Schulman 2020, unbiased and never negative.

    average: token (the unit is the token), or row and length (the unit is the row, a sum over its tokens,
    weighted as `token_weight` says).
    """

    def loss(signals: Signals) -> Loss:
        advantage_M = signals.by_name.get("token_advantage")
        if advantage_M is None:
            advantage_M = signals.by_name["advantage"].index_select(0, signals.row_M)
        log_ratio_M = signals.logp_M - signals.by_name["sampled_logp"]
        ratio_M = log_ratio_M.exp()
        within_M = ratio_M.clamp(1 - low, 1 + high)
        loss_M = -torch.minimum(ratio_M * advantage_M, within_M * advantage_M)
        with torch.no_grad():
            gap_M = log_ratio_M.abs()
            clipped_M = (ratio_M * advantage_M > within_M * advantage_M).to(gap_M.dtype)
            metrics = {"gap": gap_M, "clipped": clipped_M}
        if "reference_logp" in signals.by_name:
            difference_M = signals.by_name["reference_logp"] - signals.logp_M
            divergence_M = difference_M.exp() - difference_M - 1
            metrics["kl"] = divergence_M.detach()
            if kl:
                loss_M = loss_M + kl * divergence_M
        weighted_M = signals.weight_M * loss_M
        largest = {"gap_max": gap_M}
        if UNITS[average] == "token":
            return weighted_M, {name: signals.weight_M * value for name, value in metrics.items()} | largest
        by_row = {name: _row_mean(signals, value) for name, value in metrics.items()}
        return _by_row(signals, weighted_M), by_row | largest

    return Objective(UNITS[average], loss, partial(read_logprobs, temperature=temperature))


def token_weight(average: str, tokens: int, longest: int) -> float:
    """The loss weight of each token of a rollout. token: 1. row: the row is a mean over its tokens (GRPO).
    length: the sum is divided by the longest allowed length (Dr. GRPO, which has no length bias).
    """
    return {"token": 1.0, "row": 1.0 / tokens, "length": 1.0 / longest}[average]


def _by_row(signals: Signals, value_M: Tensor) -> Tensor:
    known = signals.by_name.get("advantage")
    count = known.numel() if known is not None else int(signals.row_M.max()) + 1
    return value_M.new_zeros(count).index_add(0, signals.row_M, value_M)


def _row_mean(signals: Signals, value_M: Tensor) -> Tensor:
    weight_R = _by_row(signals, signals.weight_M)
    return _by_row(signals, signals.weight_M * value_M) / weight_R.clamp(min=torch.finfo(weight_R.dtype).tiny)
