"""Attention over a tree, behind one function that transformers' AttentionInterface calls in every layer.

What may be seen is the tree's rule and nothing else: node j is visible to node i when j <= i < end_N[j],
and in a windowed layer when also depth_N[i] - depth_N[j] < window. The back-ends are interchangeable:

* dense: one boolean mask. The reference, and the back-end of devices without a better one.
* segment (CPU): a segment is a run of nodes without a branch. The queries that see its keys are exactly the
  contiguous block from its start to the end of its subtree, so PyTorch's flash kernel with its upper-left
  causal mask computes them without a mask; partial results are merged by log-sum-exp. Small subtrees that
  lie side by side are bundled under one masked call.

Axes: N nodes, H query heads, G key/value heads, D head dimension.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from finetooth.errors import ModelError
from finetooth.tree import PrefixTree

NAME = "finetooth"
# Subtrees up to this many nodes are computed under one mask: below, a kernel call costs more than its work.
BUNDLE = 192
# Arguments that models pass along and that change nothing here. Anything else that is not None is refused.
HARMLESS = frozenset({"position_ids", "use_cache", "cache_position", "output_attentions", "is_causal"})

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class Attends(Protocol):
    """Something that computes one layer's attention; travels as the forward's keyword argument `tree`."""

    def attend(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None
    ) -> Tensor:
        """query [1, H, Q, D], key and value [1, G, Q, D] of the tokens of this call -> [1, H, Q, D]."""


def attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    tree: Attends | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The function registered with transformers. Refuses whatever it does not implement (ModelError)."""
    unknown = [name for name, given in kwargs.items() if given is not None and name not in HARMLESS]
    if unknown or attention_mask is not None or dropout:
        named = unknown or (["attention_mask"] if attention_mask is not None else ["dropout"])
        raise ModelError(f"The tree back-end does not implement {', '.join(named)}.")
    if tree is None:
        raise ModelError("This model computes over trees: call it through finetooth.Model.")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return tree.attend(module, query, key, value, scale, sliding_window).transpose(1, 2), None


@dataclass(frozen=True, slots=True)
class Block:
    """Queries start:query_end against keys start:key_end; causal when mask is None. fresh: nothing to
    merge."""

    start: int
    key_end: int
    query_end: int
    fresh: bool
    mask: Tensor | None


class TreeAttention:
    """The attention of one forward pass over a tree; keeps keys and values per layer when asked to."""

    def __init__(
        self, tree: PrefixTree, kind: str, device: torch.device, dtype: torch.dtype, keep: bool = False
    ):
        self.tree, self.kind, self.device, self.dtype, self.keep = tree, kind, device, dtype, keep
        self.kept: dict[Any, tuple[Tensor, Tensor]] = {}
        self._masks: dict[int | None, Tensor] = {}
        self._blocks: list[Block] | None = None
        self._longest = int(tree.depth_N.max()) + 1
        self._chains = Chains(tree, device) if Chains.fit(tree, kind) else None

    def attend(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None
    ) -> Tensor:
        """See Attends."""
        if self.keep:
            self.kept[module] = (key.detach(), value.detach())
        if window is not None and self._longest <= window:
            window = None
        if self._chains is not None and window is None:
            return self._chains(query, key, value, scale)
        if self.kind == "segment" and window is None:
            if self._blocks is None:
                self._blocks = plan(self.tree, BUNDLE, self.dtype)
            merged: Tensor = _Segments.apply(query, key, value, self._blocks, scale)  # type: ignore
            return merged
        if window not in self._masks:
            self._masks[window] = torch.from_numpy(visible(self.tree, window)).to(self.device)
        grouped = query.shape[1] != key.shape[1]
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask=self._masks[window], scale=scale, enable_gqa=grouped
        )


def visible(tree: PrefixTree, window: int | None = None, start: int = 0, stop: int | None = None) -> Any:
    """Boolean [Q, Q] for nodes start:stop: may row i see column j."""
    node = np.arange(len(tree))[start:stop]
    end, depth = tree.end_N[start:stop], tree.depth_N[start:stop]
    mask = (node[None, :] <= node[:, None]) & (node[:, None] < end[None, :])
    return mask if window is None else mask & (depth[:, None] - depth[None, :] < window)


def plan(tree: PrefixTree, bundle: int, dtype: torch.dtype) -> list[Block]:
    """Cover what each node may see by blocks: one per segment, or one masked block for small neighbours."""
    parent_N, end_N = tree.parent_N, tree.end_N
    children_N = np.bincount(parent_N[parent_N >= 0], minlength=len(tree))
    starts = np.flatnonzero((parent_N < 0) | (children_N[parent_N] > 1))
    blocks: list[Block] = []
    at = 0
    while at < starts.size:
        start = int(starts[at])
        stop = int(end_N[start])
        key_end = int(starts[at + 1]) if at + 1 < starts.size else len(tree)
        fresh = bool(parent_N[start] < 0)
        if stop - start > bundle:
            blocks.append(Block(start, key_end, stop, fresh, None))
            at += 1
            continue
        while stop < len(tree) and parent_N[stop] == parent_N[start] and end_N[stop] - start <= bundle:
            stop = int(end_N[stop])
        if key_end >= stop:
            blocks.append(Block(start, stop, stop, fresh, None))
        else:
            mask = torch.zeros(stop - start, stop - start, dtype=dtype)
            mask.masked_fill_(~torch.from_numpy(visible(tree, None, start, stop)), float("-inf"))
            blocks.append(Block(start, stop, stop, fresh, mask))
        at = int(np.searchsorted(starts, stop))
    return blocks


class Chains:
    """Rows that share nothing, as a batch padded on the right: causal attention then needs no mask at all.

    What stands behind a row's last token is never seen by it, and its results are not read back.
    """

    def __init__(self, tree: PrefixTree, device: torch.device):
        start_R = np.flatnonzero(tree.parent_N < 0)
        size_R = np.diff(start_R, append=len(tree))
        place_T = np.arange(int(size_R.max()))
        inside_RT = place_T < size_R[:, None]
        node_RT = np.where(inside_RT, start_R[:, None] + place_T, start_R[:, None])
        self.shape = node_RT.shape
        self.gather = torch.from_numpy(node_RT.ravel()).to(device)
        self.back = torch.from_numpy(np.flatnonzero(inside_RT)).to(device)

    @staticmethod
    def fit(tree: PrefixTree, kind: str) -> bool:
        """Nothing branches, and padding costs less than what the back-end would do instead.

        segment computes no padding but one call a row: half of the tokens again is the limit. dense computes
        all pairs of nodes.
        """
        start_R = np.flatnonzero(tree.parent_N < 0)
        if np.count_nonzero(tree.parent_N != np.arange(-1, len(tree) - 1)) != start_R.size - 1:
            return False
        longest = int(np.diff(start_R, append=len(tree)).max())
        padded = longest * start_R.size
        return padded <= 1.5 * len(tree) or (kind == "dense" and padded * longest < len(tree) ** 2)

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """[1, H, N, D] -> [1, H, N, D]."""

        def batch(states: Tensor) -> Tensor:
            padded: Tensor = states[0].index_select(1, self.gather).unflatten(1, self.shape)
            return padded.transpose(0, 1)

        out = functional.scaled_dot_product_attention(
            batch(query),
            batch(key),
            batch(value),
            is_causal=True,
            scale=scale,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        return out.transpose(0, 1).flatten(1, 2).index_select(1, self.back).unsqueeze(0)


def merge(out: Tensor, lse: Tensor, part: Tensor, part_lse: Tensor) -> None:
    """Fold a partial softmax over other keys into out [..., Q, D] and its log-sum-exp [..., Q], in place."""
    total = torch.logaddexp(lse, part_lse)
    out.mul_((lse - total).exp_().unsqueeze(-1)).add_(part * (part_lse - total).exp_().unsqueeze(-1))
    lse.copy_(total)


def partial_attention(
    query: Tensor, key: Tensor, value: Tensor, scale: float, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Softmax over these keys and its log-sum-exp: query [B, H, Q, D], key and value [B, G, S, D].

    mask: boolean, broadcast to [B, H, Q, S]. A query that sees none of the keys gets zeros and -inf, which
    merge to nothing. Without gradient.
    """
    if query.device.type == "cpu" and mask is None:
        out, lse = _flash(query, key, value, 0.0, False, scale=scale)
        return out, lse
    heads = query.shape[1] // key.shape[1]
    grouped = query.unflatten(1, (-1, heads))
    score = grouped @ key.unsqueeze(2).transpose(-1, -2) * scale
    if mask is not None:
        score = score.masked_fill(~mask.unsqueeze(2), float("-inf"))
    lse = score.logsumexp(-1)
    weight = (score - lse.masked_fill(lse == float("-inf"), 0.0).unsqueeze(-1)).exp()
    return (weight @ value.unsqueeze(2)).flatten(1, 2), lse.flatten(1, 2)


class _Segments(torch.autograd.Function):
    """Exact attention by blocks; the backward calls the matching kernel with the merged output."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, blocks: list[Block], scale: float
    ) -> Tensor:
        out = torch.zeros_like(query)
        lse = query.new_full(query.shape[:-1], float("-inf"))
        for block in blocks:
            queries, keys = slice(block.start, block.query_end), slice(block.start, block.key_end)
            part, part_lse = _flash(
                query[:, :, queries],
                key[:, :, keys],
                value[:, :, keys],
                0.0,
                block.mask is None,
                attn_mask=block.mask,
                scale=scale,
            )
            if block.fresh:
                out[:, :, queries] = part
                lse[:, :, queries] = part_lse
            else:
                merge(out[:, :, queries], lse[:, :, queries], part, part_lse)
        ctx.save_for_backward(query, key, value, out, lse)
        ctx.blocks, ctx.scale = blocks, scale
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        query, key, value, out, lse = ctx.saved_tensors
        grad = grads[0].contiguous()
        grad_query = torch.zeros_like(query)
        grad_key, grad_value = torch.empty_like(key), torch.empty_like(value)
        for block in ctx.blocks:
            queries, keys = slice(block.start, block.query_end), slice(block.start, block.key_end)
            part_query, part_key, part_value = _flash_backward(
                grad[:, :, queries],
                query[:, :, queries],
                key[:, :, keys],
                value[:, :, keys],
                out[:, :, queries],
                lse[:, :, queries],
                0.0,
                block.mask is None,
                attn_mask=block.mask,
                scale=ctx.scale,
            )
            grad_query[:, :, queries] += part_query
            grad_key[:, :, keys] = part_key
            grad_value[:, :, keys] = part_value
        return grad_query, grad_key, grad_value, None, None
