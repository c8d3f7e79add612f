"""The attention of one forward pass of generation: to shared stretches where they are kept, and to what rows
have of their own side by side; put together exactly by their log-sum-exp.

Axes: K tokens of one call, S keys of a stretch, H query heads, G key/value heads, D head dimension.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from finetooth.model.attention.softmax import AttentionParams, add_sink, additive, merge, partial_attention
from finetooth.model.device import on_device
from finetooth.model.generation.kv_cache import CacheAttention, KVCache, PaddedQueries
from finetooth.model.generation.prefixes import PrefixSegment
from finetooth.tree import Ints


class PrefixAttention:
    """The stretches above the tokens of a call, whose ranks are sorted: each is seen by one run of them."""

    def __init__(self, rank_K: Ints, place_K: Ints, stretches: Iterable[PrefixSegment], device: torch.device):
        self._place_K, self._device = place_K, device
        self._spans: list[tuple[PrefixSegment, int, int]] = []
        for stretch in stretches:
            low, high = np.searchsorted(rank_K, [stretch.low, stretch.high])
            if low < high:
                self._spans.append((stretch, int(low), int(high)))
        self._masks: dict[tuple[int, int], Tensor | None] = {}

    def merge(self, module: Any, query: Tensor, out: Tensor, lse: Tensor, scores: AttentionParams) -> None:
        """Fold attention to the stretches into out [1, H, K, D] and its log-sum-exp [1, H, K]."""
        window = scores.window
        for number, (stretch, low, high) in enumerate(self._spans):
            place_k = self._place_K[low:high]
            mask = None
            if window is not None:
                if place_k.min() - (stretch.stop - 1) >= window:
                    continue
                if place_k.max() - stretch.start >= window:
                    mask = self._near(number, place_k, stretch, window, query.dtype)
            key, value = stretch.kept[module]
            part, part_lse = partial_attention(query[:, :, low:high], key, value, scores, mask)
            merge(out[:, :, low:high], lse[:, :, low:high], part, part_lse)

    def _near(
        self, number: int, place_k: Ints, stretch: PrefixSegment, window: int, dtype: torch.dtype
    ) -> Tensor:
        if (number, window) not in self._masks:
            near_kS = place_k[:, None] - np.arange(stretch.start, stretch.stop) < window
            self._masks[number, window] = additive(on_device(near_kS, self._device), dtype)
        return self._masks[number, window]  # type: ignore[return-value]


class PrefillAttention:
    """Stretches of tokens are computed, several at once: each sees itself causally and what stands above it.

    token_K, place_K: ids and positions, stretch after stretch in the order of their ranks. kept: attention
    module -> keys and values [1, G, K, D], to be put where they belong.
    """

    def __init__(self, stretches: Sequence[PrefixSegment], contexts_C: Sequence[Ints], device: torch.device):
        self.stretches = stretches
        size_U = np.array([len(stretch) for stretch in stretches])
        self.stop_U = np.cumsum(size_U)
        self.start_U = self.stop_U - size_U
        self.turns = int(size_U.max())
        self.token_K = np.concatenate([contexts_C[s.low][s.start : s.stop] for s in stretches])
        self.place_K = np.concatenate([np.arange(s.start, s.stop) for s in stretches])
        rank_K = np.repeat([stretch.low for stretch in stretches], size_U)
        turn_K = np.arange(rank_K.size) - np.repeat(self.start_U, size_U)
        self._grid = PaddedQueries(
            np.repeat(np.arange(size_U.size), size_U) * self.turns + turn_K, size_U.size, self.turns, device
        )
        above = {id(part): part for stretch in stretches for part in stretch.ancestors()}
        self._above = PrefixAttention(rank_K, self.place_K, above.values(), device)
        self._bands: dict[int, Tensor] = {}
        self.kept: dict[Any, tuple[Tensor, Tensor]] = {}
        self.read_K: Tensor | None = None

    def attend(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, scores: AttentionParams
    ) -> Tensor:
        """See attention.AttentionPlan."""
        self.kept[module] = (key, value)
        window = scores.window
        band = None if window is None or window >= self.turns else self._band(window, query)
        query_grid, key_grid, value_grid = (self._grid.scatter(states) for states in (query, key, value))
        own, own_lse = partial_attention(query_grid, key_grid, value_grid, scores, band, band is None)
        out, lse = self._grid.gather(own), self._grid.gather(own_lse)
        self._above.merge(module, query, out, lse, scores)
        return add_sink(out, lse, scores.sink_H)

    def _band(self, window: int, query: Tensor) -> Tensor:
        if window not in self._bands:
            back_TT = np.arange(self.turns)[:, None] - np.arange(self.turns)
            seen = on_device((back_TT >= 0) & (back_TT < window), query.device)
            self._bands[window] = additive(seen, query.dtype)
        return self._bands[window]


class DecodeAttention:
    """Rows are continued by one token each, or by several that are alternatives.

    lanes, lane_K, slot_K: where the tokens' own keys go. own: what each sees there, itself included. tails:
    what they see of their contexts' tails. above: and of the stretches before these.
    """

    def __init__(
        self,
        lanes: KVCache,
        lane_K: Ints,
        slot_K: Ints,
        own: CacheAttention,
        tails: Sequence[CacheAttention],
        above: PrefixAttention,
    ):
        self._lanes, self._own, self._tails, self._above = lanes, own, tails, above
        self._lane_K, self._slot_K = (on_device(at, lanes.device) for at in (lane_K, slot_K))
        self.read_K: Tensor | None = None

    def attend(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, scores: AttentionParams
    ) -> Tensor:
        """See attention.AttentionPlan."""
        self._lanes.store(module, self._lane_K, self._slot_K, key, value)
        out, lse = self._own.attend(module, query, scores)
        for tail in self._tails:
            part, part_lse = tail.attend(module, query, scores)
            if tail.at is None:
                merge(out, lse, part, part_lse)
            else:
                some, some_lse = out.index_select(2, tail.at), lse.index_select(2, tail.at)
                merge(some, some_lse, part, part_lse)
                out.index_copy_(2, tail.at, some)
                lse.index_copy_(2, tail.at, some_lse)
        self._above.merge(module, query, out, lse, scores)
        return add_sink(out, lse, scores.sink_H)
