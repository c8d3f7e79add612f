"""Going on from contexts one token at a time: rows come in, are continued, and leave.

`TreeDecoder` computes what contexts share once, keeps its keys once, and continues any set of rows by one
token each. `RowDecoder` does the same by running every row from its start through the stock forward: slow,
and the specification. Both give next-token logits, so greedy decoding, sampling and label search are written
once. A row is one answer to be written, or one search for a label; several rows may have the same context.

Axes: R rows of the whole call, K tokens of one call, W slots of a lane, V vocabulary.
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

ROWS = {"cpu": 256, "cuda": 1024}  # rows that are continued side by side
# Where each has alternatives: a lane then holds all labels' tokens, and few rows fill a call with theirs.
BRANCHING_ROWS = {"cpu": 32, "cuda": 256}
LOGIT_NUMBERS = 1 << 23  # logits that exist at a time


class Decoder(Protocol):
    """What generation needs. Reads [K, ...] are what next-token logits are made of."""

    def admit(self) -> tuple[list[int], Tensor | None]:
        """Let waiting rows in while there is room (at least one when none is in): their numbers and reads."""

    def extend(
        self, row_K: Sequence[int], after_K: Sequence[int], token_K: Sequence[int]
    ) -> tuple[Tensor, list[int]]:
        """Append tokens to rows: reads, and for each token the number by which it is gone on from.

        after_K: the number of the token before it, -1 for the context. One row may get several tokens.
        """

    def release(self, row: int) -> None:
        """A row is done; what it held is free for another."""

    def logits(self, read_KD: Tensor) -> Iterator[Tensor]:
        """Next-token logits [k, V] at least in float32, some rows of the reads at a time."""

    def logprobs(self, read_KD: Tensor, read_M: Ints, token_M: Ints) -> Tensor:
        """Log-probability [M] of tokens, each after one of the reads: nats."""


@dataclass(frozen=True, slots=True)
class Network:
    """What TreeDecoder asks of a model: hidden states, and next-token logits [K, V] or log-probabilities [M]
    of some tokens after them. vocabulary: V.
    """

    forward: Forward
    logits: Callable[[Tensor], Tensor]
    logprobs: Callable[[Tensor, Ints, Ints], Tensor]
    vocabulary: int
    device: torch.device


class RowDecoder:
    """Every row computed from its start by the stock model. logits: ids of a row -> [V] after it."""

    def __init__(self, logits: Callable[[Ints], Tensor], contexts_R: Sequence[Ints]):
        self._logits, self._contexts_R, self._next = logits, contexts_R, 0
        self._written: dict[int, list[tuple[int, ...]]] = {}

    @torch.inference_mode()
    def admit(self) -> tuple[list[int], Tensor | None]:
        """See Decoder. One row at a time."""
        if self._written or self._next == len(self._contexts_R):
            return [], None
        row, self._next = self._next, self._next + 1
        self._written[row] = []
        return [row], self._logits(self._contexts_R[row])[None]

    @torch.inference_mode()
    def extend(
        self, row_K: Sequence[int], after_K: Sequence[int], token_K: Sequence[int]
    ) -> tuple[Tensor, list[int]]:
        """See Decoder."""
        reads, numbers = [], []
        for row, after, token in zip(row_K, after_K, token_K, strict=True):
            written = self._written[row]
            numbers.append(len(written))
            written.append((*(written[after] if after >= 0 else ()), token))
            reads.append(self._logits(np.append(self._contexts_R[row], written[-1])))
        return torch.stack(reads), numbers

    def release(self, row: int) -> None:
        """See Decoder."""
        del self._written[row]

    def logits(self, read_KD: Tensor) -> Iterator[Tensor]:
        """See Decoder."""
        yield read_KD

    def logprobs(self, read_KD: Tensor, read_M: Ints, token_M: Ints) -> Tensor:
        """See Decoder."""
        return torch.log_softmax(read_KD, -1)[read_M, token_M]


class TreeDecoder:
    """Rows continued side by side in lanes; the keys of their contexts are computed and kept once.

    network: the model. contexts_R, slots: the context of each row, and the most tokens that are appended to
    one. memory: bytes that all keys and values may take; a row that needs more than that runs alone.
    branching: rows get alternatives (label search), not one line of tokens. rows: the most that are in at a
    time.
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
        most = BRANCHING_ROWS if branching else ROWS
        self._rows = rows or most.get(network.device.type, most["cpu"])
        self.contexts = ContextCache(network.forward, contexts_R, network.device)
        self._waiting = np.argsort(self.contexts.rank_R, kind="stable").tolist()[::-1]
        self._own = KVCache(slots, network.device, branching)
        self._lane_R: dict[int, int] = {}
        self._budget: int | None = None
        self._patience = 0

    @torch.inference_mode()
    def admit(self) -> tuple[list[int], Tensor | None]:
        """See Decoder."""
        if not self._waiting or (self._lane_R and self._patience > 0):
            return [], None
        ranks: list[int] = []
        entered: list[int] = []
        while self._waiting and len(self._lane_R) < self._rows and self._fits(self._waiting[-1]):
            row = self._waiting.pop()
            self._lane_R[row] = self._own.take()
            entered.append(row)
            ranks.append(int(self.contexts.rank_R[row]))
            self.contexts.allocate(ranks[-1])
            if self._budget is None:  # what a slot takes is known after the first forward pass
                self.contexts.prefill(ranks)
                self._budget = self._memory // self.contexts.slot_bytes()
        # A few rows at a time would be computed at a bad rate: the next come when an eighth of these left.
        self._patience = len(self._lane_R) // 8
        self.contexts.prefill(ranks)
        return entered, torch.stack([self.contexts.read_C[rank] for rank in ranks]) if ranks else None

    def release(self, row: int) -> None:
        """See Decoder."""
        self._own.give(self._lane_R.pop(row))
        self.contexts.release(row)
        self._patience -= 1

    def slots(self) -> int:
        """Slots for keys that are allocated, in use or not."""
        return self._own.rows * self._own.width + self.contexts.slots()

    def _fits(self, row: int) -> bool:
        """Whether a row can come in; makes the lanes that it needs."""
        stretches, tails = self.contexts.needs(int(self.contexts.rank_R[row]))
        grow = [lanes for lanes in (None if self._own.free else self._own, tails) if lanes is not None]
        if self._lane_R and self._left() < stretches + sum(lanes.width for lanes in grow):
            return self.contexts.drop_idle() and self._fits(row)
        for lanes in grow:
            lanes.grow(1)
        for lanes in grow:
            # At once as many as can be of use, but no more than half of what is left: others want some too.
            room = (self._left() - stretches) // 2 // lanes.width
            lanes.grow(max(0, min(room, self._rows - lanes.rows, len(self._waiting) - 1)))
        return True

    def _left(self) -> int:
        return (self._budget or 0) - self.slots()

    @torch.inference_mode()
    def extend(
        self, row_K: Sequence[int], after_K: Sequence[int], token_K: Sequence[int]
    ) -> tuple[Tensor, list[int]]:
        """See Decoder."""
        rank_K = self.contexts.rank_R[np.asarray(row_K)]
        order_K = np.argsort(rank_K, kind="stable")
        rank_K = rank_K[order_K]
        lane_K = np.array([self._lane_R[row] for row in row_K])[order_K]
        slot_K, place_K, seen_KW = self._append(lane_K, rank_K, np.asarray(after_K)[order_K])
        call = DecodeAttention(
            self._own,
            lane_K,
            slot_K,
            CacheAttention(self._own, None, lane_K, seen_KW, place_K),
            self.contexts.tail_parts(rank_K, place_K),
            self.contexts.above(rank_K, place_K),
        )
        back_K = np.argsort(order_K)
        reads = self._network.forward(np.asarray(token_K)[order_K], place_K, call, back_K)
        return reads, slot_K[back_K].tolist()

    def _append(self, lane_K: Ints, rank_K: Ints, after_K: Ints) -> tuple[Ints, Ints, Any]:
        """A slot of its lane for each token, its position in its row, and which slots of the lane it sees."""
        own = self._own
        slot_K = own.used_B[lane_K] + occurrence_index(lane_K)
        np.add.at(own.used_B, lane_K, 1)
        first_K = after_K < 0
        place_K = np.where(first_K, self.contexts.length_C[rank_K], own.depth_BW[lane_K, after_K] + 1)
        own.depth_BW[lane_K, slot_K] = place_K
        width = int(slot_K.max()) + 1
        if own.seen_BWW is None:
            return slot_K, place_K, np.arange(width) <= slot_K[:, None]
        own.seen_BWW[lane_K, slot_K] = own.seen_BWW[lane_K, after_K] & ~first_K[:, None]
        own.seen_BWW[lane_K, slot_K, slot_K] = True
        return slot_K, place_K, own.seen_BWW[lane_K, slot_K, :width]

    def logits(self, read_KD: Tensor) -> Iterator[Tensor]:
        """See Decoder."""
        for part in read_KD.split(max(16, LOGIT_NUMBERS // self._network.vocabulary)):
            yield self._network.logits(part)

    def logprobs(self, read_KD: Tensor, read_M: Ints, token_M: Ints) -> Tensor:
        """See Decoder."""
        return self._network.logprobs(read_KD, read_M, token_M)
