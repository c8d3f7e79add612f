"""The back-end `flex`: FlexAttention on CUDA with the tree's visibility rule as its block mask.

No mask of single tokens is ever built. Whether a block of 128 x 128 is empty, full or mixed follows from
end_N and depth_N on the host; within mixed blocks the kernel evaluates the rule. Lengths are padded to a few
sizes, because every size is compiled once. Padding nodes see only themselves and cost next to nothing, since
their blocks are empty. Only attention is padded: the rest of the model computes N nodes.

Source: Dong et al. 2024, "Flex Attention: A Programming Model for Generating Optimized Attention Kernels".

Axes: N nodes, P nodes after padding, B = P / 128 blocks, H query heads, G key/value heads, D head dimension.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch._dynamo
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from finetooth.errors import ModelError
from finetooth.model.device import on_device
from finetooth.tree import PrefixTree

BLOCK = 128
# Compiled kernels of one process: sizes x windows x (training, scoring, generation). torch's default is 8.
COMPILED = 256

Rule = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def bucket(size: int) -> int:
    """The padded length of `size` nodes: the next of 1, 2, 3, 4, 6, 8, 12, 16, 24 ... blocks."""
    blocks = -(-size // BLOCK)
    power = 1 << (blocks - 1).bit_length()
    return BLOCK * (3 * power // 4 if 3 * power // 4 >= blocks else power)


def visible_blocks(end_P: Any, depth_P: Any, window: int | None) -> tuple[Any, Any]:
    """Two boolean [B, B] for pairs of blocks (query, key): some pair of nodes is visible, all pairs are.

    The keys of an earlier block that a block of queries may see are ancestors of its first node, and end_P
    says where their descendants end. So the smallest end of a block of keys decides whether all of them are
    visible, the largest whether any is. In a windowed layer the nearest query below an ancestor decides.
    """
    start_B = np.arange(0, end_P.size, BLOCK)
    some_BB = np.maximum.reduceat(end_P, start_B)[None, :] > start_B[:, None]
    full_BB = np.minimum.reduceat(end_P, start_B)[None, :] >= start_B[:, None] + BLOCK
    earlier_BB = np.tri(start_B.size, k=-1, dtype=bool)
    if window is not None:
        deepest_B = np.maximum.reduceat(depth_P, start_B)
        full_BB &= deepest_B[:, None] - np.minimum.reduceat(depth_P, start_B)[None, :] < window
        for block, start in enumerate(start_B):
            above = np.flatnonzero(end_P[:start] > start)  # ancestors of the block's first node
            nearest = np.minimum.accumulate(depth_P[start : start + BLOCK])
            last = np.minimum(end_P[above] - start, BLOCK) - 1
            seen = above[nearest[last] - depth_P[above] < window]
            some_BB[block] = np.bincount(seen // BLOCK, minlength=start_B.size) > 0
    # A block sees itself, and never in full: its first node does not see its last.
    return some_BB & earlier_BB | np.eye(start_B.size, dtype=bool), full_BB & earlier_BB


def rule(end_P: Tensor, depth_P: Tensor, window: int | None) -> Rule:
    """The visibility rule as FlexAttention's mask_mod: (batch, head, query, key) -> is the key visible."""

    def ancestor(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (query < end_P[key])

    if window is None:
        return ancestor
    limit = window

    def near_ancestor(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (query < end_P[key]) & (depth_P[query] - depth_P[key] < limit)

    return near_ancestor


@lru_cache
def capped(softcap: float) -> Callable[..., Tensor]:
    """The score function softcap * tanh(score / softcap)."""

    def cap(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return softcap * torch.tanh(score / softcap)

    return cap


class TreeBlockMasks:
    """The block masks of one tree, built once for each window."""

    def __init__(self, tree: PrefixTree, device: torch.device):
        self.device, self.size = device, bucket(len(tree))
        padded = np.arange(len(tree), self.size)
        self._end_P = np.concatenate([tree.end_N, padded + 1]).astype(np.int32)
        self._depth_P = np.concatenate([tree.depth_N, np.zeros_like(padded)]).astype(np.int32)
        self._end, self._depth = on_device(self._end_P, device), on_device(self._depth_P, device)
        self._masks: dict[int | None, BlockMask] = {}

    def mask(self, window: int | None) -> BlockMask:
        """The block mask of all nodes, padded, on the device."""
        if window not in self._masks:
            some_BB, full_BB = visible_blocks(self._end_P, self._depth_P, window)
            mixed_BB = some_BB & ~full_BB
            by_query, full_by_query, by_key, full_by_key = (
                [on_device(part[None, None], self.device) for part in _compressed(seen_BB)]
                for seen_BB in (mixed_BB, full_BB, mixed_BB.T, full_BB.T)
            )
            self._masks[window] = BlockMask(
                seq_lengths=(self.size, self.size),
                kv_num_blocks=by_query[0],
                kv_indices=by_query[1],
                full_kv_num_blocks=full_by_query[0],
                full_kv_indices=full_by_query[1],
                q_num_blocks=by_key[0],
                q_indices=by_key[1],
                full_q_num_blocks=full_by_key[0],
                full_q_indices=full_by_key[1],
                BLOCK_SIZE=(BLOCK, BLOCK),
                mask_mod=rule(self._end, self._depth, window),
            )
        return self._masks[window]


def _compressed(seen_BB: Any) -> tuple[Any, Any]:
    """The number of true columns in each row, and all column indices, the true ones first, in order."""
    order_BB = np.argsort(~seen_BB, axis=-1, kind="stable")
    return seen_BB.sum(-1).astype(np.int32), order_BB.astype(np.int32)


@lru_cache
def _compiled(backend: str) -> Callable[..., Tensor]:
    return torch.compile(flex_attention, backend=backend, dynamic=False, fullgraph=True)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    masks: TreeBlockMasks,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """query [1, H, N, D], key and value [1, G, N, D] -> [1, H, N, D], differentiable on CUDA.

    On the CPU FlexAttention has no backward pass and is not fused; it serves for comparison and scoring.
    Raises ModelError there when a gradient is needed.
    """
    cuda = query.device.type == "cuda"
    if not cuda and (query.requires_grad or key.requires_grad or value.requires_grad):
        raise ModelError(
            "attention 'flex' has no backward pass on the CPU. Train with attention auto or segment there; "
            "for scoring with flex, use torch.no_grad()."
        )
    nodes = query.shape[2]
    padding = (0, 0, 0, masks.size - nodes)
    padded = [torch.nn.functional.pad(states, padding).contiguous() for states in (query, key, value)]
    with (
        torch._dynamo.config.patch(recompile_limit=COMPILED, accumulated_recompile_limit=4 * COMPILED),
        torch.autocast(query.device.type, enabled=False),  # dtypes already agree; saves compiling a kernel
    ):
        out = _compiled("inductor" if cuda else "eager")(
            *padded,
            score_mod=None if softcap is None else capped(softcap),
            block_mask=masks.mask(window),
            scale=scale,
            enable_gqa=query.shape[1] != key.shape[1],
        )
    return out[:, :, :nodes]
