"""Keys and values of rows that are being continued, in lanes that are given to the next row when one leaves.

Axes: B lanes, W slots of a lane, K queries of one call (tokens), U lanes of one call, T queries of one lane
in it, H query heads, G key/value heads, D head dimension.
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
    """The K queries of a call as a batch [U, H, T, D]: place_K says where each stands among U times T."""

    def __init__(self, place_K: Ints, rows: int, turns: int, device: torch.device):
        self.rows, self.turns, self.device = rows, turns, device
        full = place_K.size == rows * turns and bool((place_K == np.arange(place_K.size)).all())
        self.place_K = None if full else on_device(place_K, device)

    def scatter(self, states: Tensor) -> Tensor:
        """[1, H, K, D] -> [U, H, T, D]; places without a query hold zeros."""
        flat = states[0]
        if self.place_K is not None:
            empty = flat.new_zeros((flat.shape[0], self.rows * self.turns, flat.shape[-1]))
            flat = empty.index_copy_(1, self.place_K, flat)
        spread: Tensor = flat.unflatten(1, (self.rows, self.turns))
        return spread.transpose(0, 1)

    def gather(self, states: Tensor) -> Tensor:
        """[U, H, T, ...] -> [1, H, K, ...]."""
        flat = states.transpose(0, 1).flatten(1, 2)
        return (flat if self.place_K is None else flat.index_select(1, self.place_K)).unsqueeze(0)

    def mask(self, seen_KS: Any, dtype: torch.dtype) -> Tensor:
        """Booleans of the queries [K, S] as an additive mask [U, 1, T, S]; empty places see everything."""
        seen = on_device(seen_KS, self.device)
        if self.place_K is not None:
            empty = seen.new_ones((self.rows * self.turns, seen.shape[-1]))
            seen = empty.index_copy_(0, self.place_K, seen)
        mask: Tensor = additive(seen, dtype).unflatten(0, (self.rows, self.turns))
        return mask.unsqueeze(1)


class KVCache:
    """KVCache of `width` slots. used_B: slots that are filled. depth_BW: position in its row of each slot.

    seen_BWW: which slots of the lane each slot's token sees, when a lane holds a tree; None when it holds a
    line, whose tokens see all before them.
    """

    def __init__(self, width: int, device: torch.device, branching: bool = False):
        self.width, self.device, self.rows = width, device, 0
        self.free: list[int] = []
        self.states: dict[Any, list[Tensor]] = {}
        self.used_B = np.zeros(0, np.int64)
        self.depth_BW = np.zeros((0, width), np.int64)
        self.seen_BWW = np.zeros((0, width, width), np.bool_) if branching else None

    def grow(self, rows: int) -> None:
        """Make room for `rows` more lanes."""
        for number in range(self.rows, self.rows + rows):
            heapq.heappush(self.free, number)
        self.rows += rows
        self.used_B = np.pad(self.used_B, (0, rows))
        self.depth_BW = np.pad(self.depth_BW, ((0, rows), (0, 0)))
        if self.seen_BWW is not None:
            self.seen_BWW = np.pad(self.seen_BWW, ((0, rows), (0, 0), (0, 0)))
        for pair in self.states.values():
            pair[:] = [_longer(states, self.rows) for states in pair]

    def take(self) -> int:
        """An empty lane, the lowest."""
        lane = heapq.heappop(self.free)
        self.used_B[lane] = 0
        return lane

    def give(self, lane: int) -> None:
        """Take a lane back."""
        heapq.heappush(self.free, lane)

    def store(self, module: Any, lane_K: Tensor, slot_K: Tensor, key: Tensor, value: Tensor) -> None:
        """Write the states [1, G, K, D] of tokens to their slots."""
        if module not in self.states:
            # Zeros, not memory as it comes: what is masked is still multiplied, and must not be NaN.
            shapes = [(self.rows, s.shape[1], self.width, s.shape[3]) for s in (key, value)]
            self.states[module] = [key.new_zeros(shape) for shape in shapes]
        for buffer, states in zip(self.states[module], (key, value), strict=True):
            buffer[lane_K, :, slot_K] = states[0].transpose(0, 1)


def _longer(states: Tensor, rows: int) -> Tensor:
    grown = states.new_zeros((rows, *states.shape[1:]))
    grown[: states.shape[0]] = states
    return grown


class CacheAttention:
    """What k of a call's queries see in their lanes: planned once, used in every layer.

    at: which of the call's K queries (None: all). lane_k, seen_kW, place_k: for each its lane, which of the
    lane's first slots it sees, and its position in the row.
    """

    def __init__(self, lanes: KVCache, at: Ints | None, lane_k: Ints, seen_kW: Any, place_k: Ints):
        self._lanes, self._lane_k, self._seen_kW, self._place_k = lanes, lane_k, seen_kW, place_k
        self.at = None if at is None else on_device(at, lanes.device)
        lane_U, row_k = np.unique(lane_k, return_inverse=True)
        low, high = int(lane_U[0]), int(lane_U[-1]) + 1
        turn_k = occurrence_index(lane_k)
        self._some: slice | Tensor
        if high - low <= 2 * lane_U.size:  # a view with some idle lanes costs less than a copy
            self._some, row_k, rows = slice(low, high), lane_k - low, high - low
        else:
            self._some, rows = on_device(lane_U, lanes.device), lane_U.size
        most = int(turn_k.max()) + 1
        if most == 1 and 2 * seen_kW.shape[1] > lanes.width:
            # Whole lanes lie one after the other in memory: see partial_attention.
            self._seen_kW = np.pad(seen_kW, ((0, 0), (0, lanes.width - seen_kW.shape[1])))
        self._grid = PaddedQueries(row_k * most + turn_k, rows, most, lanes.device)
        self._masks: dict[int | None, Tensor] = {}

    def attend(self, module: Any, query: Tensor, scores: AttentionParams) -> tuple[Tensor, Tensor]:
        """The queries' partial softmax over their lanes: [1, H, k, D] and [1, H, k]."""
        window = scores.window
        if window not in self._masks:
            self._masks[window] = self._grid.mask(self._visible(window), query.dtype)
        if self.at is not None:
            query = query.index_select(2, self.at)
        width = self._seen_kW.shape[1]
        key, value = (states[self._some][:, :, :width] for states in self._lanes.states[module])
        out, lse = partial_attention(self._grid.scatter(query), key, value, scores, self._masks[window])
        return self._grid.gather(out), self._grid.gather(lse)

    def _visible(self, window: int | None) -> Any:
        if window is None:
            return self._seen_kW
        depth_kW = self._lanes.depth_BW[self._lane_k, : self._seen_kW.shape[1]]
        return self._seen_kW & (self._place_k[:, None] - depth_kW < window)


def occurrence_index(value_K: Ints) -> Ints:
    """How many times each value stood before in the array."""
    order_K = np.argsort(value_K, kind="stable")
    _, first_U, count_U = np.unique(value_K[order_K], return_index=True, return_counts=True)
    turn_K = np.empty(value_K.size, np.int64)
    turn_K[order_K] = np.arange(value_K.size) - np.repeat(first_U, count_U)
    return turn_K
