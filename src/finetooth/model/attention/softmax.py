"""Softmax attention with all scores, and exact attention in parts: over some of the keys, then merged.

Both compute scores themselves: `softmax_attention` is differentiable, `partial_attention` is not. So it
scales in place, folds the query heads of a key head into one product, and returns the log-sum-exp instead of
applying the sink.

Axes: B batch, Q queries, S keys, H query heads, G key/value heads, D head dimension.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class AttentionParams(NamedTuple):
    """How a layer computes attention: its scores are scale * query . key.

    softcap: scores become softcap * tanh(score / softcap). window: number of last positions that are visible.
    sink_H: score of a further key with value 0, which is visible to every query.
    """

    scale: float
    softcap: float | None = None
    window: int | None = None
    sink_H: Tensor | None = None


def softmax_attention(
    query: Tensor, key: Tensor, value: Tensor, params: AttentionParams, mask: Tensor
) -> Tensor:
    """Attention with soft-capping and sinks, which fused kernels lack: query [B, H, Q, D], key and value
    [B, G, S, D], boolean mask [Q, S] -> [B, H, Q, D], differentiable.

    Sources: soft-capping, Gemma Team 2024, "Gemma 2", section 2; sinks, Xiao et al. 2023, "Efficient
    Streaming Language Models with Attention Sinks", as in gpt-oss (one learned score for each head).
    """
    grouped = query.unflatten(1, (key.shape[1], -1))
    score = grouped @ key.unsqueeze(2).transpose(-1, -2) * params.scale  # [B, G, H / G, Q, S]
    if params.softcap is not None:
        score = params.softcap * torch.tanh(score / params.softcap)
    score = score.masked_fill(~mask, float("-inf")).flatten(1, 2)
    if params.sink_H is not None:
        sink = params.sink_H.to(score.dtype).view(1, -1, 1, 1).expand(*score.shape[:-1], 1)
        score = torch.cat([score, sink], -1)
    weight = functional.softmax(score, -1, dtype=torch.promote_types(score.dtype, torch.float32))
    weight = weight[..., : key.shape[-2]].to(value.dtype).unflatten(1, (key.shape[1], -1))
    out: Tensor = (weight @ value.unsqueeze(2)).flatten(1, 2)
    return out


def partial_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    params: AttentionParams,
    mask: Tensor | None = None,
    causal: bool = False,
) -> tuple[Tensor, Tensor]:
    """Attention to some of the keys, and its log-sum-exp [B, H, Q]: query [B, H, Q, D], key and value
    [B, G, S, D] -> [B, H, Q, D]. Without gradient.

    mask: from `additive`, [Q, S] or [B, 1, Q, S]. causal: query i sees the keys up to i. The window and the
    sink of `params` are left to the caller.
    """
    single = query.shape[2] == 1 and key.is_contiguous()  # batched products are then twice as fast
    if query.device.type == "cpu" and params.softcap is None and not single:
        out, lse = flash(query, key, value, 0.0, causal, attn_mask=mask, scale=params.scale)
        return out, lse
    if causal:
        seen = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device)
        mask = additive(seen.tril(), query.dtype)
    grouped = query.reshape(len(key), key.shape[1], -1, query.shape[-1])  # [B, G, H / G * Q, D]
    score = (grouped @ key.transpose(-1, -2)).mul_(params.scale).unflatten(2, (-1, query.shape[2]))
    if params.softcap is not None:
        score = params.softcap * torch.tanh(score / params.softcap)
    if mask is not None:
        score = score + (mask if mask.ndim == 2 else mask.unsqueeze(2))
    lse = score.to(torch.promote_types(score.dtype, torch.float32)).logsumexp(-1)
    weight = (score - lse.unsqueeze(-1)).exp().to(value.dtype)
    return (weight.flatten(2, 3) @ value).reshape(query.shape), lse.flatten(1, 2)


def merge(out: Tensor, lse: Tensor, part: Tensor, part_lse: Tensor) -> None:
    """Merge attention to other keys into out [..., Q, D] and its log-sum-exp [..., Q], in place."""
    total = torch.logaddexp(lse, part_lse)
    out.mul_((lse - total).exp_().unsqueeze(-1)).add_(part * (part_lse - total).exp_().unsqueeze(-1))
    lse.copy_(total)


def additive(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """A boolean mask as numbers to add to scores.

    Hidden keys get a finite number: the log-sum-exp of a query that sees none of the keys is then very low,
    not NaN, and merging drops its part.
    """
    low = torch.finfo(dtype).min / 2
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, low)


def add_sink(out: Tensor, lse: Tensor, sink_H: Tensor | None) -> Tensor:
    """out [1, H, Q, D] after a further key, of value 0 and this score, took its share of the softmax."""
    if sink_H is None:
        return out
    share = torch.sigmoid(lse - sink_H.to(lse.dtype)[None, :, None])
    return out * share.unsqueeze(-1).to(out.dtype)
