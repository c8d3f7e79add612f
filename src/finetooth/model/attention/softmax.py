"""Softmax over some of the keys, and how such parts are put together: exact by their log-sum-exp.

Axes: B batch, Q queries, S keys, H query heads, G key/value heads, D head dimension.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def merge(out: Tensor, lse: Tensor, part: Tensor, part_lse: Tensor) -> None:
    """Fold a partial softmax over other keys into out [..., Q, D] and its log-sum-exp [..., Q], in place."""
    total = torch.logaddexp(lse, part_lse)
    out.mul_((lse - total).exp_().unsqueeze(-1)).add_(part * (part_lse - total).exp_().unsqueeze(-1))
    lse.copy_(total)


class AttentionParams(NamedTuple):
    """What a layer asks of attention: scores are scale * query . key.

    softcap: they become softcap * tanh(score / softcap). window: only the keys of so many last positions are
    seen. sink_H: the score of one more key with value 0, seen by every query.
    """

    scale: float
    softcap: float | None = None
    window: int | None = None
    sink_H: Tensor | None = None


def partial_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scores: AttentionParams,
    mask: Tensor | None = None,
    causal: bool = False,
) -> tuple[Tensor, Tensor]:
    """Softmax over these keys and its log-sum-exp: query [B, H, Q, D], key and value [B, G, S, D].

    mask: of `additive`, [Q, S] or [B, 1, Q, S]. causal: query i sees the keys up to i. Window and sink are
    the caller's. Without gradient.
    """
    single = query.shape[2] == 1 and key.is_contiguous()  # batched products then take half as long
    if query.device.type == "cpu" and scores.softcap is None and not single:
        out, lse = flash(query, key, value, 0.0, causal, attn_mask=mask, scale=scores.scale)
        return out, lse
    if causal:
        seen = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device)
        mask = additive(seen.tril(), query.dtype)
    grouped = query.reshape(len(key), key.shape[1], -1, query.shape[-1])  # [B, G, H / G * Q, D]
    score = (grouped @ key.transpose(-1, -2)).mul_(scores.scale).unflatten(2, (-1, query.shape[2]))
    if scores.softcap is not None:
        score = scores.softcap * torch.tanh(score / scores.softcap)
    if mask is not None:
        score = score + (mask if mask.ndim == 2 else mask.unsqueeze(2))
    lse = score.to(torch.promote_types(score.dtype, torch.float32)).logsumexp(-1)
    weight = (score - lse.unsqueeze(-1)).exp().to(value.dtype)
    return (weight.flatten(2, 3) @ value).reshape(query.shape), lse.flatten(1, 2)


def additive(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """A boolean mask as numbers to add to scores.

    What is not seen gets a finite number: a query that sees none of the keys has a tiny log-sum-exp then, and
    no NaN, and its part vanishes when it is merged.
    """
    low = torch.finfo(dtype).min / 2
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, low)


def add_sink(out: Tensor, lse: Tensor, sink_H: Tensor | None) -> Tensor:
    """out [1, H, Q, D] when one more key, of value 0 and this score, takes its share of the softmax."""
    if sink_H is None:
        return out
    share = torch.sigmoid(lse - sink_H.to(lse.dtype)[None, :, None])
    return out * share.unsqueeze(-1).to(out.dtype)
