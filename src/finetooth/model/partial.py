"""Softmax over some of the keys, and how such parts are put together: exact by their log-sum-exp.

Axes: B batch, Q queries, S keys, H query heads, G key/value heads, D head dimension.
"""

from __future__ import annotations

import torch
from torch import Tensor

flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def merge(out: Tensor, lse: Tensor, part: Tensor, part_lse: Tensor) -> None:
    """Fold a partial softmax over other keys into out [..., Q, D] and its log-sum-exp [..., Q], in place."""
    total = torch.logaddexp(lse, part_lse)
    out.mul_((lse - total).exp_().unsqueeze(-1)).add_(part * (part_lse - total).exp_().unsqueeze(-1))
    lse.copy_(total)


def partial_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    mask: Tensor | None,
    softcap: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Softmax over these keys and its log-sum-exp: query [B, H, Q, D], key and value [B, G, S, D].

    mask: boolean, broadcast to [B, H, Q, S]. A query that sees none of the keys gets zeros and -inf, which
    merge to nothing. softcap: see attention.Attends. Without gradient.
    """
    if query.device.type == "cpu" and mask is None and softcap is None:
        out, lse = flash(query, key, value, 0.0, False, scale=scale)
        return out, lse
    heads = query.shape[1] // key.shape[1]
    grouped = query.unflatten(1, (-1, heads))
    score = grouped @ key.unsqueeze(2).transpose(-1, -2) * scale
    if softcap is not None:
        score = softcap * torch.tanh(score / softcap)
    if mask is not None:
        score = score.masked_fill(~mask.unsqueeze(2), float("-inf"))
    lse = score.logsumexp(-1)
    weight = (score - lse.masked_fill(lse == float("-inf"), 0.0).unsqueeze(-1)).exp()
    return (weight @ value.unsqueeze(2)).flatten(1, 2), lse.flatten(1, 2)
