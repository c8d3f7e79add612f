"""The contexts of one call of generation: computed once, kept while a row needs them, then given up.

Axes: R rows of the whole call, C distinct contexts in sorted order (ranks), K tokens of one forward pass, U
stretches computed together, T tokens of one context.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from finetooth.model.attention.interface import AttentionPlan
from finetooth.model.device import on_device
from finetooth.model.generation.attention import PrefillAttention, PrefixAttention
from finetooth.model.generation.kv_cache import CacheAttention, KVCache, occurrence_index
from finetooth.model.generation.prefixes import PrefixSegment, tails
from finetooth.tree import Ints

# Last hidden states [K, D] at some of N tokens: ids, positions, their attention, which of them.
Forward = Callable[[Ints, Ints, AttentionPlan, Ints], Tensor]
# Tokens of one forward pass over contexts: more are slower on the CPU, since activations leave the cache.
FILL_TOKENS = {"cpu": 1024, "cuda": 8192}
TAIL_WIDTHS = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)


class ContextCache:
    """What rows go on from. Stretches of tokens that several contexts share are kept where they were
    computed; the rest of each, its tail, is in a lane beside those of others.

    rank_R: the context of each row; equal contexts are one. length_C: tokens. read_C: rank -> hidden state
    after the context, of those that are kept.
    """

    def __init__(self, forward: Forward, contexts_R: Sequence[Ints], device: torch.device):
        self._forward, self._device = forward, device
        content_R = [
            tokens.astype(">i8").tobytes() for tokens in contexts_R
        ]  # big-endian: sorts as the tokens
        content_C = sorted(set(content_R))
        rank_of = {content: rank for rank, content in enumerate(content_C)}
        self.rank_R = np.array([rank_of[content] for content in content_R], np.int64)
        self._token_CT = [np.frombuffer(content, ">i8").astype(np.int64) for content in content_C]
        self.length_C = np.array([tokens.size for tokens in self._token_CT], np.int64)
        self.read_C: dict[int, Tensor] = {}
        self._tail_C = tails(self._token_CT)
        self._rows_C = Counter(self.rank_R.tolist())
        self._lanes: dict[int, KVCache] = {}
        self._lane_C: dict[int, tuple[KVCache, int]] = {}
        self._resident: dict[int, PrefixSegment] = {}

    def slots(self) -> int:
        """Slots for keys that are allocated, in use or not."""
        lanes = sum(lanes.rows * lanes.width for lanes in self._lanes.values())
        return lanes + sum(map(len, self._resident.values()))

    def slot_bytes(self) -> int:
        """What one slot takes in all layers; known once something was computed."""
        states = next(lanes.states for lanes in self._lanes.values() if lanes.states)
        return sum(part[0, :, 0].numel() * part.element_size() for pair in states.values() for part in pair)

    def needs(self, rank: int) -> tuple[int, KVCache | None]:
        """Slots of the stretches that would become resident with this context, and the lanes of its tail when
        none of them is free.
        """
        if rank in self._lane_C:
            return 0, None
        tail = self._tail_C[rank]
        lanes = self._lanes_for(len(tail))
        slots = sum(len(stretch) for stretch in tail.ancestors() if id(stretch) not in self._resident)
        return slots, None if lanes.free else lanes

    def _lanes_for(self, size: int) -> KVCache:
        width = next(width for width in TAIL_WIDTHS if width >= size)
        if width not in self._lanes:
            self._lanes[width] = KVCache(width, self._device)
        return self._lanes[width]

    def drop_idle(self) -> bool:
        """Give up lanes of widths that no context uses; whether there were any."""
        idle = [width for width, lanes in self._lanes.items() if lanes.rows == len(lanes.free) > 0]
        for width in idle:
            del self._lanes[width]
        return bool(idle)

    def allocate(self, rank: int) -> None:
        """Give a context a lane for its tail, and make the stretches above it resident."""
        if rank in self._lane_C:
            return
        tail = self._tail_C[rank]
        lanes = self._lanes_for(len(tail))
        lane = lanes.take()
        lanes.used_B[lane] = len(tail)
        lanes.depth_BW[lane, : len(tail)] = np.arange(tail.start, tail.stop)
        self._lane_C[rank] = lanes, lane
        self._resident |= {id(stretch): stretch for stretch in tail.ancestors()}

    def release(self, row: int) -> None:
        """A row is done with its context; after the last one it is given up, and what only it needed."""
        rank = int(self.rank_R[row])
        self._rows_C[rank] -= 1
        if self._rows_C[rank]:
            return
        lanes, lane = self._lane_C.pop(rank)
        lanes.give(lane)
        del self.read_C[rank]
        for stretch in self._tail_C[rank].ancestors():
            stretch.users -= 1
            if not stretch.users:
                del self._resident[id(stretch)]
                stretch.kept.clear()

    def above(self, rank_K: Ints, place_K: Ints) -> PrefixAttention:
        """What tokens at these positions see of the resident stretches. rank_K is sorted."""
        return PrefixAttention(rank_K, place_K, self._resident.values(), self._device)

    def tail_parts(self, rank_K: Ints, place_K: Ints) -> list[CacheAttention]:
        """What tokens at these positions see of their contexts' tails, for each width of lanes."""
        lanes_K, number_K = zip(*(self._lane_C[rank] for rank in rank_K.tolist()), strict=True)
        width_K, lane_K = np.array([lanes.width for lanes in lanes_K]), np.array(number_K)
        parts = []
        for width in np.unique(width_K).tolist():
            lanes, at = self._lanes[width], np.flatnonzero(width_K == width)
            used_k = lanes.used_B[lane_K[at]]
            seen_kW = np.arange(int(used_k.max())) < used_k[:, None]
            whole = at.size == rank_K.size
            parts.append(CacheAttention(lanes, None if whole else at, lane_K[at], seen_kW, place_K[at]))
        return parts

    def prefill(self, ranks: Sequence[int]) -> None:
        """Compute contexts that have settled, and first what stands above them, level by level."""
        ranks = [rank for rank in dict.fromkeys(ranks) if rank not in self.read_C]
        levels: dict[int, dict[int, PrefixSegment]] = {}
        for rank in ranks:
            for level, stretch in enumerate(self._tail_C[rank].ancestors()):
                if not stretch.kept:
                    levels.setdefault(level, {})[id(stretch)] = stretch
        waves = [list(levels[level].values()) for level in sorted(levels)]
        most = FILL_TOKENS.get(self._device.type, FILL_TOKENS["cpu"])
        for wave in [*waves, [self._tail_C[rank] for rank in ranks]]:
            for pack in _packs(sorted(wave, key=lambda stretch: stretch.low), most):
                self._compute(pack)

    def _compute(self, pack: Sequence[PrefixSegment]) -> None:
        call = PrefillAttention(pack, self._token_CT, self._device)
        tail_k = [number for number, stretch in enumerate(pack) if stretch is self._tail_C[stretch.low]]
        # Where only keys are wanted one token is read all the same: not every module takes none.
        last_k = call.stop_U[tail_k or [-1]] - 1
        hidden_kD = self._forward(call.token_K, call.place_K, call, last_k)[: len(tail_k)]
        self.read_C |= {
            pack[number].low: hidden_D for number, hidden_D in zip(tail_k, hidden_kD, strict=True)
        }
        for number in sorted({*range(len(pack))} - {*tail_k}):
            some = slice(call.start_U[number], call.stop_U[number])
            for module, (key, value) in call.kept.items():
                pack[number].kept[module] = key[:, :, some].contiguous(), value[:, :, some].contiguous()
        width_k = np.array([self._lane_C[pack[number].low][0].width for number in tail_k])
        for width in np.unique(width_k).tolist():
            self._keep_tails(call, np.array(tail_k)[width_k == width], self._lanes[width])

    def _keep_tails(self, call: PrefillAttention, tail_k: Ints, lanes: KVCache) -> None:
        """Put the keys of these of a pack's stretches into their lanes."""
        size_k = call.stop_U[tail_k] - call.start_U[tail_k]
        lane_K = np.repeat([self._lane_C[call.stretches[number].low][1] for number in tail_k], size_k)
        slot_K = occurrence_index(lane_K)
        where = [on_device(at, self._device) for at in (lane_K, slot_K)]
        at_K = on_device(slot_K + np.repeat(call.start_U[tail_k], size_k), self._device)
        for module, pair in call.kept.items():
            key, value = (states.index_select(2, at_K) for states in pair)
            lanes.store(module, where[0], where[1], key, value)


def _packs(stretches: Sequence[PrefixSegment], most: int) -> Iterator[list[PrefixSegment]]:
    """Cut into runs of at most `most` tokens, or of one stretch."""
    pack: list[PrefixSegment] = []
    for stretch in stretches:
        if pack and sum(map(len, pack)) + len(stretch) > most:
            yield pack
            pack = []
        pack.append(stretch)
    if pack:
        yield pack
