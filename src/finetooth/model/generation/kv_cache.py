"""The KV cache of sequences in generation. A lane holds one sequence, and is reused when that has ended.

Axes: B lanes, W slots (tokens) of a lane, K queries (tokens) of one call, k some of them, U lanes of one
call, T queries of one lane in it, H query heads, G key/value heads, D head dimension.
"""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
import torch
from torch import Tensor

from finetooth.model.attention.softmax import AttentionParams, additive, partial_attention
from finetooth.model.device import on_device
from finetooth.tree import Ints


class PaddedQueries:
    """The K queries of a call as a padded batch [U, H, T, D]. index_K: the place of each among the U x T."""

    def __init__(self, index_K: Ints, rows: int, columns: int, device: torch.device):
        self.rows, self.columns, self.device = rows, columns, device
        full = index_K.size == rows * columns and bool((index_K == np.arange(index_K.size)).all())
        self.index_K = None if full else on_device(index_K, device)

    def scatter(self, states: Tensor) -> Tensor:
        """[1, H, K, D] -> [U, H, T, D]; zeros as padding."""
        flat = states[0]
        if self.index_K is not None:
            empty = flat.new_zeros((flat.shape[0], self.rows * self.columns, flat.shape[-1]))
            flat = empty.index_copy_(1, self.index_K, flat)
        padded: Tensor = flat.unflatten(1, (self.rows, self.columns))
        return padded.transpose(0, 1)

    def gather(self, states: Tensor) -> Tensor:
        """[U, H, T, ...] -> [1, H, K, ...]."""
        flat = states.transpose(0, 1).flatten(1, 2)
        return (flat if self.index_K is None else flat.index_select(1, self.index_K)).unsqueeze(0)

    def mask(self, seen_KS: Any, dtype: torch.dtype) -> Tensor:
        """A boolean mask [K, S] as an additive mask [U, 1, T, S]; padding sees everything."""
        seen = on_device(seen_KS, self.device)
        if self.index_K is not None:
            empty = seen.new_ones((self.rows * self.columns, seen.shape[-1]))
            seen = empty.index_copy_(0, self.index_K, seen)
        mask: Tensor = additive(seen, dtype).unflatten(0, (self.rows, self.columns))
        return mask.unsqueeze(1)


class KVCache:
    """Keys and values of B lanes of `width` slots. lanes: B. free: lanes without a sequence, as a heap.

    states: attention module -> keys and values [B, G, W, D]. used_B: slots in use. depth_BW: the position of
    each slot's token in its row. seen_BWW: which slots of its lane each token sees, when a lane holds a tree;
    None when it holds a line, whose tokens see all before them.
    """

    def __init__(self, width: int, device: torch.device, branching: bool = False):
        self.width, self.device, self.lanes = width, device, 0
        self.free: list[int] = []
        self.states: dict[Any, list[Tensor]] = {}
        self.used_B = np.zeros(0, np.int64)
        self.depth_BW = np.zeros((0, width), np.int64)
        self.seen_BWW = np.zeros((0, width, width), np.bool_) if branching else None

    def grow(self, count: int) -> None:
        """Add `count` lanes."""
        for lane in range(self.lanes, self.lanes + count):
            heapq.heappush(self.free, lane)
        self.lanes += count
        self.used_B = np.pad(self.used_B, (0, count))
        self.depth_BW = np.pad(self.depth_BW, ((0, count), (0, 0)))
        if self.seen_BWW is not None:
            self.seen_BWW = np.pad(self.seen_BWW, ((0, count), (0, 0), (0, 0)))
        for pair in self.states.values():
            for number, states in enumerate(pair):
                pair[number] = states.new_zeros((self.lanes, *states.shape[1:]))
                pair[number][: states.shape[0]] = states

    def take(self) -> int:
        """The lowest free lane, emptied."""
        lane = heapq.heappop(self.free)
        self.used_B[lane] = 0
        return lane

    def give(self, lane: int) -> None:
        """Free a lane."""
        heapq.heappush(self.free, lane)

    def store(self, module: Any, lane_K: Tensor, slot_K: Tensor, key: Tensor, value: Tensor) -> None:
        """Write keys and values [1, G, K, D] of tokens to their slots."""
        if module not in self.states:
            # Zeros, not uninitialised memory: masked values are multiplied too, and must not be NaN.
            shapes = [(self.lanes, s.shape[1], self.width, s.shape[3]) for s in (key, value)]
            self.states[module] = [key.new_zeros(shape) for shape in shapes]
        for buffer, states in zip(self.states[module], (key, value), strict=True):
            buffer[lane_K, :, slot_K] = states[0].transpose(0, 1)


class CacheAttention:
    """Attention of k of a call's queries to their lanes: planned once, used in every layer.

    at: which of the call's K queries (None: all). lane_k, seen_kW, position_k: the lane of each query, which
    of the lane's first slots it sees, and its position in the row.
    """

    def __init__(self, cache: KVCache, at: Ints | None, lane_k: Ints, seen_kW: Any, position_k: Ints):
        self._cache, self._lane_k, self._seen_kW, self._position_k = cache, lane_k, seen_kW, position_k
        self.at = None if at is None else on_device(at, cache.device)
        lane_U, row_k = np.unique(lane_k, return_inverse=True)
        low, high = int(lane_U[0]), int(lane_U[-1]) + 1
        column_k = occurrence_index(lane_k)
        self._lanes: slice | Tensor
        if high - low <= 2 * lane_U.size:  # a view with some idle lanes costs less than a copy
            self._lanes, row_k, rows = slice(low, high), lane_k - low, high - low
        else:
            self._lanes, rows = on_device(lane_U, cache.device), lane_U.size
        columns = int(column_k.max()) + 1
        if columns == 1 and 2 * seen_kW.shape[1] > cache.width:
            # Whole lanes are contiguous in memory: see partial_attention.
            self._seen_kW = np.pad(seen_kW, ((0, 0), (0, cache.width - seen_kW.shape[1])))
        self._padded = PaddedQueries(row_k * columns + column_k, rows, columns, cache.device)
        self._masks: dict[int | None, Tensor] = {}

    def attend(self, module: Any, query: Tensor, params: AttentionParams) -> tuple[Tensor, Tensor]:
        """Attention of the queries to their lanes and its log-sum-exp: [1, H, k, D] and [1, H, k]."""
        window, width = params.window, self._seen_kW.shape[1]
        if window not in self._masks:
            seen_kW = self._seen_kW
            if window is not None:
                depth_kW = self._cache.depth_BW[self._lane_k, :width]
                seen_kW = seen_kW & (self._position_k[:, None] - depth_kW < window)
            self._masks[window] = self._padded.mask(seen_kW, query.dtype)
        if self.at is not None:
            query = query.index_select(2, self.at)
        key, value = (states[self._lanes][:, :, :width] for states in self._cache.states[module])
        out, lse = partial_attention(self._padded.scatter(query), key, value, params, self._masks[window])
        return self._padded.gather(out), self._padded.gather(lse)


def occurrence_index(value_K: Ints) -> Ints:
    """How often each value occurred before in the array."""
    order_K = np.argsort(value_K, kind="stable")
    _, first_U, count_U = np.unique(value_K[order_K], return_index=True, return_counts=True)
    index_K = np.empty(value_K.size, np.int64)
    index_K[order_K] = np.arange(value_K.size) - np.repeat(first_U, count_U)
    return index_K
