"""The back-end `segment`: exact attention over a tree on the CPU, without a mask where nothing branches.

A segment is a run of nodes without a branch. The queries that see its keys are exactly the contiguous block
from its start to the end of its subtree, so PyTorch's causal flash kernel computes them without a mask.
Partial results are merged by their log-sum-exp. Adjacent small subtrees are bundled in one masked call.

Axes: N nodes, Q queries, H query heads, G key/value heads, D head dimension.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from finetooth.model.attention.softmax import flash, flash_backward, merge
from finetooth.tree import PrefixTree

BUNDLE = 192  # nodes of subtrees that share one masked call, at most: for fewer, the call itself costs most


@dataclass(frozen=True, slots=True)
class Block:
    """Queries start:query_end with keys start:key_end, causal if mask is None.

    root: the queries have no ancestors before the block, so there is nothing to merge with.
    """

    start: int
    key_end: int
    query_end: int
    root: bool
    mask: Tensor | None


def visible(tree: PrefixTree, window: int | None = None, start: int = 0, stop: int | None = None) -> Any:
    """Boolean [Q, Q] of the nodes start:stop: whether node j (column) is visible to node i (row)."""
    node = np.arange(len(tree))[start:stop]
    end, depth = tree.end_N[start:stop], tree.depth_N[start:stop]
    mask = (node[None, :] <= node[:, None]) & (node[:, None] < end[None, :])
    return mask if window is None else mask & (depth[:, None] - depth[None, :] < window)


def plan(tree: PrefixTree, dtype: torch.dtype) -> list[Block]:
    """Blocks that cover every visible pair once: one for each segment, or a masked one for small subtrees."""
    parent_N, end_N = tree.parent_N, tree.end_N
    children_N = np.bincount(parent_N[parent_N >= 0], minlength=len(tree))
    starts = np.flatnonzero((parent_N < 0) | (children_N[parent_N] > 1))
    blocks: list[Block] = []
    number = 0
    while number < starts.size:
        start = int(starts[number])
        stop = int(end_N[start])
        key_end = int(starts[number + 1]) if number + 1 < starts.size else len(tree)
        root = bool(parent_N[start] < 0)
        if stop - start > BUNDLE:
            blocks.append(Block(start, key_end, stop, root, None))
            number += 1
            continue
        while stop < len(tree) and parent_N[stop] == parent_N[start] and end_N[stop] - start <= BUNDLE:
            stop = int(end_N[stop])
        if key_end >= stop:
            blocks.append(Block(start, stop, stop, root, None))
        else:
            mask = torch.zeros(stop - start, stop - start, dtype=dtype)
            mask.masked_fill_(~torch.from_numpy(visible(tree, None, start, stop)), float("-inf"))
            blocks.append(Block(start, stop, stop, root, mask))
        number = int(np.searchsorted(starts, stop))
    return blocks


def attend(query: Tensor, key: Tensor, value: Tensor, blocks: list[Block], scale: float) -> Tensor:
    """query [1, H, N, D], key and value [1, G, N, D] -> [1, H, N, D], differentiable. blocks: from `plan`."""
    merged: Tensor = _Segments.apply(query, key, value, blocks, scale)  # type: ignore[no-untyped-call]
    return merged


class _Segments(torch.autograd.Function):
    """Attention by blocks; the backward pass calls the matching kernel with the merged output."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, blocks: list[Block], scale: float
    ) -> Tensor:
        out = torch.zeros_like(query)
        wide = torch.promote_types(query.dtype, torch.float32)  # as the kernel's log-sum-exp
        lse = query.new_full(query.shape[:-1], float("-inf"), dtype=wide)
        for block in blocks:
            queries, keys = slice(block.start, block.query_end), slice(block.start, block.key_end)
            part, part_lse = flash(
                query[:, :, queries],
                key[:, :, keys],
                value[:, :, keys],
                0.0,
                block.mask is None,
                attn_mask=block.mask,
                scale=scale,
            )
            if block.root:
                out[:, :, queries] = part
                lse[:, :, queries] = part_lse
            else:
                merge(out[:, :, queries], lse[:, :, queries], part, part_lse)
        ctx.save_for_backward(query, key, value, out, lse)
        ctx.blocks, ctx.scale = blocks, scale
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        query, key, value, out, lse = ctx.saved_tensors
        grad = grads[0]
        grad_query = torch.zeros_like(query)
        grad_key, grad_value = torch.empty_like(key), torch.empty_like(value)
        for block in ctx.blocks:
            queries, keys = slice(block.start, block.query_end), slice(block.start, block.key_end)
            part_query, part_key, part_value = flash_backward(
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
