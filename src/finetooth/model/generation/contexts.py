"""The KV cache of the contexts of one generation call: prefilled once, kept as long as a row needs it.

Axes: R rows of the whole call, C distinct contexts in sorted order (ranks), K tokens of one forward pass, U
segments that are computed together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from finetooth.model.attention.interface import AttentionPlan
from finetooth.model.device import on_device
from finetooth.model.generation.attention import PrefillAttention, PrefixAttention
from finetooth.model.generation.kv_cache import CacheAttention, KVCache, occurrence_index
from finetooth.model.generation.prefixes import PrefixSegment, tails
from finetooth.tree import Ints

# Token ids, their positions, their attention, which of them are read -> last hidden states [K, D] of these.
Forward = Callable[[Ints, Ints, AttentionPlan, Ints], Tensor]
# Tokens of one prefill, by type of device: on the CPU more are slower, since activations leave its cache.
PREFILL_TOKENS = {"cpu": 1024, "cuda": 8192}
TAIL_WIDTHS = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)


class ContextCache:
    """Keys and values of contexts. Segments that several contexts share are kept once; the rest of each, its
    tail, has a lane in the cache of its width.

    rank_R: the context of each row; equal contexts are one. length_C: tokens. hidden_C: rank -> last hidden
    state of a context, while it is kept.
    """

    def __init__(self, forward: Forward, contexts_R: Sequence[Ints], device: torch.device):
        self._forward, self._device = forward, device
        content_R = [tokens.astype(">i8").tobytes() for tokens in contexts_R]  # big-endian: sorts as the ids
        content_C = sorted(set(content_R))
        rank_of = {content: rank for rank, content in enumerate(content_C)}
        self.rank_R = np.array([rank_of[content] for content in content_R], np.int64)
        self._contexts_C = [np.frombuffer(content, ">i8").astype(np.int64) for content in content_C]
        self.length_C = np.array([tokens.size for tokens in self._contexts_C], np.int64)
        self.hidden_C: dict[int, Tensor] = {}
        self._tail_C = tails(self._contexts_C)
        self._users_C = Counter(self.rank_R.tolist())
        self._caches: dict[int, KVCache] = {}  # by width
        self._lane_C: dict[int, tuple[KVCache, int]] = {}
        self._resident: dict[int, PrefixSegment] = {}

    def slots(self) -> int:
        """Slots that are allocated, in use or not."""
        lanes = sum(cache.lanes * cache.width for cache in self._caches.values())
        return lanes + sum(map(len, self._resident.values()))

    def slot_bytes(self) -> int:
        """Bytes of one slot in all layers; known once something was computed."""
        states = next(cache.states for cache in self._caches.values() if cache.states)
        return sum(part[0, :, 0].numel() * part.element_size() for pair in states.values() for part in pair)

    def needs(self, rank: int) -> tuple[int, KVCache | None]:
        """What a context still needs: slots of segments that are not resident, and the cache of its tail if
        that has no free lane.
        """
        if rank in self._lane_C:
            return 0, None
        tail = self._tail_C[rank]
        cache = self._cache_for(len(tail))
        slots = sum(len(segment) for segment in tail.ancestors() if id(segment) not in self._resident)
        return slots, None if cache.free else cache

    def _cache_for(self, size: int) -> KVCache:
        width = next(width for width in TAIL_WIDTHS if width >= size)
        if width not in self._caches:
            self._caches[width] = KVCache(width, self._device)
        return self._caches[width]

    def drop_idle(self) -> bool:
        """Free the caches of which no lane is in use; returns whether there were any."""
        idle = [width for width, cache in self._caches.items() if cache.lanes == len(cache.free) > 0]
        for width in idle:
            del self._caches[width]
        return bool(idle)

    def allocate(self, rank: int) -> None:
        """Give the tail of a context a lane, and make its ancestors resident."""
        if rank in self._lane_C:
            return
        tail = self._tail_C[rank]
        cache = self._cache_for(len(tail))
        lane = cache.take()
        cache.used_B[lane] = len(tail)
        cache.depth_BW[lane, : len(tail)] = np.arange(tail.start, tail.stop)
        self._lane_C[rank] = cache, lane
        self._resident |= {id(segment): segment for segment in tail.ancestors()}

    def release(self, row: int) -> None:
        """A row no longer needs its context. After the last row, free it and what only it needed."""
        rank = int(self.rank_R[row])
        self._users_C[rank] -= 1
        if self._users_C[rank]:
            return
        cache, lane = self._lane_C.pop(rank)
        cache.give(lane)
        del self.hidden_C[rank]
        for segment in self._tail_C[rank].ancestors():
            segment.users -= 1
            if not segment.users:
                del self._resident[id(segment)]
                segment.states.clear()

    def prefix_attention(self, rank_K: Ints, position_K: Ints) -> PrefixAttention:
        """Attention of tokens at these positions to the resident segments. rank_K is sorted."""
        return PrefixAttention(rank_K, position_K, self._resident.values(), self._device)

    def tail_attention(self, rank_K: Ints, position_K: Ints) -> list[CacheAttention]:
        """Attention of tokens at these positions to the tails of their contexts, one for each width."""
        caches_K, lanes_K = zip(*(self._lane_C[rank] for rank in rank_K.tolist()), strict=True)
        width_K, lane_K = np.array([cache.width for cache in caches_K]), np.array(lanes_K)
        parts = []
        for width in np.unique(width_K).tolist():
            cache, at = self._caches[width], np.flatnonzero(width_K == width)
            used_k = cache.used_B[lane_K[at]]
            seen_kW = np.arange(int(used_k.max())) < used_k[:, None]
            every = at.size == rank_K.size
            parts.append(CacheAttention(cache, None if every else at, lane_K[at], seen_kW, position_K[at]))
        return parts

    def prefill(self, ranks: Sequence[int]) -> None:
        """Compute allocated contexts: first the segments before them, level by level, then their tails."""
        ranks = [rank for rank in dict.fromkeys(ranks) if rank not in self.hidden_C]
        levels: dict[int, dict[int, PrefixSegment]] = {}
        for rank in ranks:
            for level, segment in enumerate(self._tail_C[rank].ancestors()):
                if not segment.states:
                    levels.setdefault(level, {})[id(segment)] = segment
        waves = [list(levels[level].values()) for level in sorted(levels)]
        limit = PREFILL_TOKENS.get(self._device.type, PREFILL_TOKENS["cpu"])
        for wave in [*waves, [self._tail_C[rank] for rank in ranks]]:
            batch: list[PrefixSegment] = []
            for segment in sorted(wave, key=lambda segment: segment.low):
                if batch and sum(map(len, batch)) + len(segment) > limit:
                    self._compute(batch)
                    batch = []
                batch.append(segment)
            if batch:
                self._compute(batch)

    def _compute(self, batch: Sequence[PrefixSegment]) -> None:
        """Run the model over these segments and keep their keys and values."""
        call = PrefillAttention(batch, self._contexts_C, self._device)
        tail_u = [number for number, segment in enumerate(batch) if segment is self._tail_C[segment.low]]
        # Where only keys are needed, one token is read all the same: not every module takes an empty input.
        last_u = call.stop_U[tail_u or [-1]] - 1
        hidden_uD = self._forward(call.token_K, call.position_K, call, last_u)[: len(tail_u)]
        self.hidden_C |= {
            batch[number].low: hidden_D for number, hidden_D in zip(tail_u, hidden_uD, strict=True)
        }
        for number in sorted({*range(len(batch))} - {*tail_u}):
            tokens = slice(call.start_U[number], call.stop_U[number])
            for module, pair in call.states.items():
                key, value = (states[:, :, tokens].contiguous() for states in pair)
                batch[number].states[module] = key, value
        width_u = np.array([self._lane_C[batch[number].low][0].width for number in tail_u])
        for width in np.unique(width_u).tolist():
            some_u = np.array(tail_u)[width_u == width]
            size_u = call.stop_U[some_u] - call.start_U[some_u]
            lane_K = np.repeat([self._lane_C[batch[number].low][1] for number in some_u], size_u)
            slot_K = occurrence_index(lane_K)
            lane, slot = on_device(lane_K, self._device), on_device(slot_K, self._device)
            index_K = on_device(slot_K + np.repeat(call.start_U[some_u], size_u), self._device)
            for module, pair in call.states.items():
                key, value = (states.index_select(2, index_K) for states in pair)
                self._caches[width].store(module, lane, slot, key, value)
