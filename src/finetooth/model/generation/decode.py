"""Decoding: rows are admitted, continued token by token, and released.

A row is one completion to be generated or one label search; several rows may have the same context.
`TreeDecoder` computes shared prefixes once, keeps their keys once, and continues any set of rows by one token
each. `RowDecoder` runs every row from its start through the stock forward: slow, and the specification. Both
give next-token logits, so greedy decoding, sampling and label search work with either.

Axes: R rows of the whole call, K tokens of one call, M scored tokens, W slots of a lane, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from finetooth.model.generation.attention import DecodeAttention
from finetooth.model.generation.contexts import ContextCache, Forward
from finetooth.model.generation.kv_cache import CacheAttention, KVCache, occurrence_index
from finetooth.tree import Ints

ROWS = {"cpu": 256, "cuda": 1024}  # rows of a decoding batch, by type of device
# The same for label search: a lane then holds the tokens of all labels. Few rows fill a call where labels are
# many, and with few labels there are as many rows as have this many tokens of labels together.
BRANCHING_ROWS = {"cpu": 32, "cuda": 256}
BRANCHING_TOKENS = {"cpu": 4096, "cuda": 16384}
LOGIT_NUMBERS = 1 << 23  # logits in memory at a time


class Decoder(Protocol):
    """What generation uses. hidden_KD: what `logits` turns into next-token logits: last hidden states [K, D],
    or, for RowDecoder, the logits themselves.
    """

    def admit(self) -> tuple[list[int], Tensor | None]:
        """Admit waiting rows while there is room, at least one if none is in: their numbers and hidden_KD."""

    def extend(
        self, row_K: Sequence[int], parent_K: Sequence[int], token_K: Sequence[int]
    ) -> tuple[Tensor, list[int]]:
        """Append tokens to rows: hidden_KD and the number of each token, which its successors name as parent.

        parent_K: the number of the token before it, -1 for the context. A row may get several tokens.
        """

    def release(self, row: int) -> None:
        """A row is done; free its memory for others."""

    def logits(self, hidden_KD: Tensor) -> Iterator[Tensor]:
        """Next-token logits [k, V], float32 or float64, for some of the K at a time."""

    def logprobs(self, hidden_KD: Tensor, read_M: Ints, token_M: Ints) -> Tensor:
        """Log-probability [M] of tokens, each predicted by row read_M of hidden_KD: nats."""


@dataclass(frozen=True, slots=True)
class Network:
    """The functions of a model that TreeDecoder calls: hidden states, and from these next-token logits [K, V]
    or the log-probabilities [M] of some tokens. vocabulary: V.
    """

    forward: Forward
    logits: Callable[[Tensor], Tensor]
    logprobs: Callable[[Tensor, Ints, Ints], Tensor]
    vocabulary: int
    device: torch.device


class RowDecoder:
    """Computes every row from its start, one at a time. logits: token ids -> next-token logits [V]."""

    def __init__(self, logits: Callable[[Ints], Tensor], contexts_R: Sequence[Ints]):
        self._logits, self._contexts_R, self._next = logits, contexts_R, 0
        self._paths: dict[int, list[tuple[int, ...]]] = {}  # row -> the tokens up to each appended one

    @torch.inference_mode()
    def admit(self) -> tuple[list[int], Tensor | None]:
        """See Decoder."""
        if self._paths or self._next == len(self._contexts_R):
            return [], None
        row, self._next = self._next, self._next + 1
        self._paths[row] = []
        return [row], self._logits(self._contexts_R[row])[None]

    @torch.inference_mode()
    def extend(
        self, row_K: Sequence[int], parent_K: Sequence[int], token_K: Sequence[int]
    ) -> tuple[Tensor, list[int]]:
        """See Decoder."""
        logits, numbers = [], []
        for row, parent, token in zip(row_K, parent_K, token_K, strict=True):
            paths = self._paths[row]
            numbers.append(len(paths))
            paths.append((*(paths[parent] if parent >= 0 else ()), token))
            logits.append(self._logits(np.append(self._contexts_R[row], paths[-1])))
        return torch.stack(logits), numbers

    def release(self, row: int) -> None:
        """See Decoder."""
        del self._paths[row]

    def logits(self, hidden_KD: Tensor) -> Iterator[Tensor]:
        """See Decoder."""
        yield hidden_KD

    def logprobs(self, hidden_KD: Tensor, read_M: Ints, token_M: Ints) -> Tensor:
        """See Decoder."""
        return torch.log_softmax(hidden_KD, -1)[read_M, token_M]


class TreeDecoder:
    """Continues a batch of rows with a KV cache, in which shared prefixes are kept once.

    contexts_R: the context of each row. slots: the most tokens that are appended to a row. memory: bytes for
    all keys and values; a row that needs more runs alone. branching: rows get alternative tokens (label
    search). rows: the largest batch.
    """

    def __init__(
        self,
        network: Network,
        contexts_R: Sequence[Ints],
        slots: int,
        memory: int,
        branching: bool = False,
        rows: int | None = None,
    ):
        self._network, self._memory = network, memory
        kind = network.device.type if network.device.type in ROWS else "cpu"
        fewer = max(BRANCHING_ROWS[kind], BRANCHING_TOKENS[kind] // slots) if branching else ROWS[kind]
        self._rows = rows or min(ROWS[kind], fewer)
        self.contexts = ContextCache(network.forward, contexts_R, network.device)
        self._waiting = np.argsort(self.contexts.rank_R, kind="stable").tolist()[::-1]
        self._own = KVCache(slots, network.device, branching)
        self._lane_R: dict[int, int] = {}
        self._budget: int | None = None
        self._releases_until_refill = 0

    @torch.inference_mode()
    def admit(self) -> tuple[list[int], Tensor | None]:
        """See Decoder."""
        if not self._waiting or (self._lane_R and self._releases_until_refill > 0):
            return [], None
        ranks: list[int] = []
        admitted: list[int] = []
        while self._waiting and len(self._lane_R) < self._rows and self._fits(self._waiting[-1]):
            row = self._waiting.pop()
            self._lane_R[row] = self._own.take()
            admitted.append(row)
            ranks.append(int(self.contexts.rank_R[row]))
            self.contexts.allocate(ranks[-1])
            if self._budget is None:  # the size of a slot is known after the first forward pass
                self.contexts.prefill(ranks)
                self._budget = self._memory // self.contexts.slot_bytes()
        # Prefilling few rows at a time is slow: admit the next when an eighth of these have left.
        self._releases_until_refill = len(self._lane_R) // 8
        self.contexts.prefill(ranks)
        return admitted, torch.stack([self.contexts.hidden_C[rank] for rank in ranks]) if ranks else None

    def release(self, row: int) -> None:
        """See Decoder."""
        self._own.give(self._lane_R.pop(row))
        self.contexts.release(row)
        self._releases_until_refill -= 1

    def slots(self) -> int:
        """Slots of the KV cache that are allocated, in use or not."""
        return self._own.lanes * self._own.width + self.contexts.slots()

    def _fits(self, row: int) -> bool:
        """Whether there is memory for a row; allocates the lanes that it needs."""
        prefixes, tails = self.contexts.needs(int(self.contexts.rank_R[row]))
        full = [cache for cache in (None if self._own.free else self._own, tails) if cache is not None]
        if self._lane_R and self._left() < prefixes + sum(cache.width for cache in full):
            return self.contexts.drop_idle() and self._fits(row)
        for cache in full:
            cache.grow(1)
        for cache in full:
            # As many lanes as will be used, but at most half of the remaining memory: others need some too.
            lanes = (self._left() - prefixes) // 2 // cache.width
            cache.grow(max(0, min(lanes, self._rows - cache.lanes, len(self._waiting) - 1)))
        return True

    def _left(self) -> int:
        return (self._budget or 0) - self.slots()

    @torch.inference_mode()
    def extend(
        self, row_K: Sequence[int], parent_K: Sequence[int], token_K: Sequence[int]
    ) -> tuple[Tensor, list[int]]:
        """See Decoder."""
        rank_K = self.contexts.rank_R[np.asarray(row_K)]
        order_K = np.argsort(rank_K, kind="stable")
        rank_K = rank_K[order_K]
        lane_K = np.array([self._lane_R[row] for row in row_K])[order_K]
        slot_K, position_K, seen_KW = self._append(lane_K, rank_K, np.asarray(parent_K)[order_K])
        call = DecodeAttention(
            self._own,
            lane_K,
            slot_K,
            CacheAttention(self._own, None, lane_K, seen_KW, position_K),
            self.contexts.tail_attention(rank_K, position_K),
            self.contexts.prefix_attention(rank_K, position_K),
        )
        inverse_K = np.argsort(order_K)
        hidden_KD = self._network.forward(np.asarray(token_K)[order_K], position_K, call, inverse_K)
        return hidden_KD, slot_K[inverse_K].tolist()

    def _append(self, lane_K: Ints, rank_K: Ints, parent_K: Ints) -> tuple[Ints, Ints, Any]:
        """A slot of its lane for each token, its position in its row, and which slots of the lane it sees."""
        own = self._own
        slot_K = own.used_B[lane_K] + occurrence_index(lane_K)
        np.add.at(own.used_B, lane_K, 1)
        first_K = parent_K < 0
        position_K = np.where(first_K, self.contexts.length_C[rank_K], own.depth_BW[lane_K, parent_K] + 1)
        own.depth_BW[lane_K, slot_K] = position_K
        width = int(slot_K.max()) + 1
        if own.seen_BWW is None:
            return slot_K, position_K, np.arange(width) <= slot_K[:, None]
        own.seen_BWW[lane_K, slot_K] = own.seen_BWW[lane_K, parent_K] & ~first_K[:, None]
        own.seen_BWW[lane_K, slot_K, slot_K] = True
        return slot_K, position_K, own.seen_BWW[lane_K, slot_K, :width]

    def logits(self, hidden_KD: Tensor) -> Iterator[Tensor]:
        """See Decoder."""
        for part in hidden_KD.split(max(16, LOGIT_NUMBERS // self._network.vocabulary)):
            yield self._network.logits(part)

    def logprobs(self, hidden_KD: Tensor, read_M: Ints, token_M: Ints) -> Tensor:
        """See Decoder."""
        return self._network.logprobs(hidden_KD, read_M, token_M)
