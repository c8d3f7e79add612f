"""Attention in generation: to shared prefixes and to each sequence's own tokens, merged by log-sum-exp.

Axes: K tokens of one call, U segments of one call, S keys of a segment, H query heads, G key/value heads, D
head dimension.
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
    """Attention to the prefix segments of a call's tokens, which are sorted by the ranks of their contexts,
    so that each segment is visible to one run of tokens.
    """

    def __init__(
        self, rank_K: Ints, position_K: Ints, prefixes: Iterable[PrefixSegment], device: torch.device
    ):
        self._position_K, self._device = position_K, device
        self._spans: list[tuple[PrefixSegment, int, int]] = []
        for segment in prefixes:
            low, high = np.searchsorted(rank_K, [segment.low, segment.high])
            if low < high:
                self._spans.append((segment, int(low), int(high)))
        self._masks: dict[tuple[int, int], Tensor] = {}

    def merge(self, module: Any, query: Tensor, out: Tensor, lse: Tensor, params: AttentionParams) -> None:
        """Merge attention to the segments into out [1, H, K, D] and its log-sum-exp [1, H, K]."""
        window = params.window
        for number, (segment, low, high) in enumerate(self._spans):
            position_k = self._position_K[low:high]
            mask = None
            if window is not None:
                if position_k.min() - (segment.stop - 1) >= window:
                    continue
                if position_k.max() - segment.start >= window:
                    if (number, window) not in self._masks:
                        seen_kS = position_k[:, None] - np.arange(segment.start, segment.stop) < window
                        seen = on_device(seen_kS, self._device)
                        self._masks[number, window] = additive(seen, query.dtype)
                    mask = self._masks[number, window]
            key, value = segment.states[module]
            part, part_lse = partial_attention(query[:, :, low:high], key, value, params, mask)
            merge(out[:, :, low:high], lse[:, :, low:high], part, part_lse)


class PrefillAttention:
    """Attention while segments are prefilled, several at once: causal within each, and to its ancestors.

    token_K, position_K: of all segments, one after the other, sorted by rank. start_U, stop_U: where each
    segment's tokens are. states: attention module -> keys and values [1, G, K, D], filled by the forward
    pass.
    """

    def __init__(self, segments: Sequence[PrefixSegment], contexts_C: Sequence[Ints], device: torch.device):
        self.segments = segments
        size_U = np.array([len(segment) for segment in segments])
        self.stop_U = np.cumsum(size_U)
        self.start_U = self.stop_U - size_U
        self._longest = int(size_U.max())
        self.token_K = np.concatenate([contexts_C[s.low][s.start : s.stop] for s in segments])
        self.position_K = np.concatenate([np.arange(s.start, s.stop) for s in segments])
        rank_K = np.repeat([segment.low for segment in segments], size_U)
        column_K = np.arange(rank_K.size) - np.repeat(self.start_U, size_U)
        index_K = np.repeat(np.arange(size_U.size), size_U) * self._longest + column_K
        self._padded = PaddedQueries(index_K, size_U.size, self._longest, device)
        ancestors = {id(part): part for segment in segments for part in segment.ancestors()}
        self._prefixes = PrefixAttention(rank_K, self.position_K, ancestors.values(), device)
        self._bands: dict[int, Tensor] = {}
        self.states: dict[Any, tuple[Tensor, Tensor]] = {}
        self.read_K: Tensor | None = None

    def attend(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, params: AttentionParams
    ) -> Tensor:
        """See attention.AttentionPlan."""
        self.states[module] = (key, value)
        window, band = params.window, None
        if window is not None and window < self._longest:
            if window not in self._bands:
                distance_TT = np.arange(self._longest)[:, None] - np.arange(self._longest)
                seen = on_device((distance_TT >= 0) & (distance_TT < window), query.device)
                self._bands[window] = additive(seen, query.dtype)
            band = self._bands[window]
        queries, keys, values = (self._padded.scatter(states) for states in (query, key, value))
        own, own_lse = partial_attention(queries, keys, values, params, band, band is None)
        out, lse = self._padded.gather(own), self._padded.gather(own_lse)
        self._prefixes.merge(module, query, out, lse, params)
        return add_sink(out, lse, params.sink_H)


class DecodeAttention:
    """Attention while sequences are continued by one token each, or by several alternatives.

    cache, lane_K, slot_K: where the tokens' own keys are stored. own: attention to the generated tokens, each
    token itself included. tails: to the tails of their contexts. prefixes: to the segments before these.
    """

    def __init__(
        self,
        cache: KVCache,
        lane_K: Ints,
        slot_K: Ints,
        own: CacheAttention,
        tails: Sequence[CacheAttention],
        prefixes: PrefixAttention,
    ):
        self._cache, self._own, self._tails, self._prefixes = cache, own, tails, prefixes
        self._lane_K, self._slot_K = (on_device(index, cache.device) for index in (lane_K, slot_K))
        self.read_K: Tensor | None = None

    def attend(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, params: AttentionParams
    ) -> Tensor:
        """See attention.AttentionPlan."""
        self._cache.store(module, self._lane_K, self._slot_K, key, value)
        out, lse = self._own.attend(module, query, params)
        for tail in self._tails:
            part, part_lse = tail.attend(module, query, params)
            if tail.at is None:
                merge(out, lse, part, part_lse)
            else:
                some, some_lse = out.index_select(2, tail.at), lse.index_select(2, tail.at)
                merge(some, some_lse, part, part_lse)
                out.index_copy_(2, tail.at, some)
                lse.index_copy_(2, tail.at, some_lse)
        self._prefixes.merge(module, query, out, lse, params)
        return add_sink(out, lse, params.sink_H)
