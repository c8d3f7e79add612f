"""Going on from contexts one token at a time, with everything that contexts share computed and kept once.

`TreeDecoder` prefills the tree of the contexts, keeps its keys and values, and then extends any set of rows
by one token each. `RowDecoder` does the same by running every row from its start through the stock forward:
slow, and the specification. Both give next-token logits, so greedy decoding, sampling and label search are
written once.

Axes: B contexts, K tokens of one call, U contexts among them, W tokens of one context, V vocabulary, L
slots of a row's own keys, S keys of a shared stretch, H query heads, G key/value heads, D head dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from finetooth.model.attention import TreeAttention
from finetooth.model.partial import merge, partial_attention
from finetooth.tree import Ints, PrefixTree, Row

Forward = Callable[[Tensor, Tensor, Any], Tensor]


class Path(NamedTuple):
    """A continuation of one context: its tokens so far and the slots of the context's row that hold them."""

    tokens: tuple[int, ...] = ()
    slots: tuple[int, ...] = ()


class Decoder(Protocol):
    """What generation needs: logits after each context, and after one more token of some of them."""

    def first(self) -> Tensor:
        """Logits [B, V] after the contexts."""

    def extend(
        self, row_K: Sequence[int], paths: Sequence[Path], token_K: Sequence[int]
    ) -> tuple[Tensor, list[Path]]:
        """Append one token to a path of each row (also several of one row): logits [K, V] and the new
        paths.
        """


class RowDecoder:
    """Every answer computed from the start of its row by the stock model."""

    def __init__(self, logits: Callable[[Ints], Tensor], contexts: Sequence[Row]):
        self._logits, self._contexts = logits, contexts

    def first(self) -> Tensor:
        """See Decoder."""
        return torch.stack([self._logits(row.tokens)[-1] for row in self._contexts])

    def extend(
        self, row_K: Sequence[int], paths: Sequence[Path], token_K: Sequence[int]
    ) -> tuple[Tensor, list[Path]]:
        """See Decoder."""
        longer = [Path((*path.tokens, token)) for path, token in zip(paths, token_K, strict=True)]
        logits = [
            self._logits(np.append(self._contexts[row].tokens, path.tokens))[-1]
            for row, path in zip(row_K, longer, strict=True)
        ]
        return torch.stack(logits), longer


@dataclass(slots=True)
class _Shared:
    """Nodes start:stop, seen in full by the ranks low:high of the contexts (in the tree's order)."""

    start: int
    stop: int
    low: int
    high: int


class _Call(NamedTuple):
    """One call of `extend`, its K tokens sorted by rank: U rows with up to `turns` tokens each.

    flat_K: where each token stands in a [U, turns] grid. slot_K, place_K: its slot and its position in the
    row. seen_KL: which slots of its row it sees.
    """

    rank_K: Ints
    rank_U: Ints
    flat_K: Ints
    turns: int
    slot_K: Ints
    place_K: Ints
    seen_KL: Any


class TreeDecoder:
    """Contexts as one tree: shared stretches are attended to where they are, a row's own tail in slots."""

    def __init__(
        self, forward: Forward, head: Callable[[Tensor], Tensor], tree: PrefixTree, prefill: TreeAttention
    ):
        self._forward, self._head, self._tree = forward, head, tree
        device = self._device = prefill.device
        last_B = np.array([path[-1] for path in tree.path_R])
        self._context_B = np.argsort(last_B, kind="stable")  # rank -> context
        self._rank_B = np.argsort(self._context_B)  # context -> rank
        users_N = np.zeros(len(tree), np.int64)
        for path in tree.path_R:
            users_N[path] += 1
        self._shared = _shared_stretches(tree, users_N, last_B[self._context_B])
        own = [tree.path_R[context][users_N[tree.path_R[context]] == 1] for context in self._context_B]
        self._used_B = np.array([nodes.size for nodes in own])
        self._length_B = np.array([len(tree.rows[context]) for context in self._context_B])
        self._width = int(self._used_B.max()) + 16
        node_BL = np.zeros((len(own), self._width), np.int64)
        for rank, nodes in enumerate(own):
            node_BL[rank, : nodes.size] = nodes
        self._own_B = self._used_B.copy()
        self._depth_BL = tree.depth_N[node_BL]
        hidden_ND = forward(
            torch.from_numpy(tree.token_N).to(device), torch.from_numpy(tree.depth_N).to(device), prefill
        )
        self._first = head(hidden_ND.index_select(0, torch.from_numpy(last_B).to(device)))
        node_X = torch.from_numpy(node_BL.ravel()).to(device)
        self._kept = prefill.kept
        self._slots: dict[Any, list[Tensor]] = {}
        for module, pair in prefill.kept.items():
            # [1, G, N, D] -> [B, G, L, D]
            self._slots[module] = [
                states[0].index_select(1, node_X).unflatten(1, (-1, self._width)).transpose(0, 1).contiguous()
                for states in pair
            ]

    def first(self) -> Tensor:
        """See Decoder."""
        return self._first

    def extend(
        self, row_K: Sequence[int], paths: Sequence[Path], token_K: Sequence[int]
    ) -> tuple[Tensor, list[Path]]:
        """See Decoder."""
        rank_K = self._rank_B[np.asarray(row_K)]
        order_K = np.argsort(rank_K, kind="stable")
        self._call = call = self._plan(rank_K[order_K], [paths[index] for index in order_K])
        token = torch.tensor([token_K[index] for index in order_K], device=self._device)
        hidden_KD = self._forward(token, torch.from_numpy(call.place_K).to(self._device), self)
        back_K = np.argsort(order_K)
        longer = [
            Path((*path.tokens, token), (*path.slots, int(slot)))
            for path, token, slot in zip(paths, token_K, call.slot_K[back_K], strict=True)
        ]
        return self._head(hidden_KD.index_select(0, torch.from_numpy(back_K).to(self._device))), longer

    def _plan(self, rank_K: Ints, paths: Sequence[Path]) -> _Call:
        """Give each new token a slot in its row, and say what it sees there. rank_K is sorted."""
        rank_U, first_U, count_U = np.unique(rank_K, return_index=True, return_counts=True)
        turn_K = np.arange(rank_K.size) - np.repeat(first_U, count_U)
        slot_K = self._used_B[rank_K] + turn_K
        self._grow(int(slot_K.max()) + 1)
        self._used_B[rank_U] += count_U
        place_K = self._length_B[rank_K] + [len(path.tokens) for path in paths]
        self._depth_BL[rank_K, slot_K] = place_K
        width = int(slot_K.max()) + 1
        seen_KL = np.arange(width)[None, :] < self._own_B[rank_K, None]
        for index, path in enumerate(paths):
            seen_KL[index, list(path.slots)] = True
        seen_KL[np.arange(rank_K.size), slot_K] = True
        turns = int(count_U.max())
        return _Call(
            rank_K,
            rank_U,
            np.repeat(np.arange(rank_U.size), count_U) * turns + turn_K,
            turns,
            slot_K,
            place_K,
            seen_KL,
        )

    def attend(
        self,
        module: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scale: float,
        window: int | None,
        softcap: float | None = None,
        sink_H: Tensor | None = None,
    ) -> Tensor:
        """See attention.Attends: each row's own slots, then the stretches it shares, merged."""
        call = self._call
        self._store(module, key, value)
        out, lse = self._own(module, query, scale, window, softcap)
        kept_key, kept_value = self._kept[module]
        for stretch in self._shared:
            low, high = np.searchsorted(call.rank_K, [stretch.low, stretch.high])
            if low == high:
                continue
            mask = None
            if window is not None:
                depth_S = self._tree.depth_N[stretch.start : stretch.stop]
                near_KS = call.place_K[low:high, None] - depth_S[None, :] < window
                mask = torch.from_numpy(near_KS[None, None]).to(self._device)
            part, part_lse = partial_attention(
                query[:, :, low:high],
                kept_key[:, :, stretch.start : stretch.stop],
                kept_value[:, :, stretch.start : stretch.stop],
                scale,
                mask,
                softcap,
            )
            merge(out[:, :, low:high], lse[:, :, low:high], part, part_lse)
        if sink_H is not None:  # one more key, of value 0, takes its share of the softmax
            out *= torch.sigmoid(lse - sink_H.to(lse.dtype)[None, :, None]).unsqueeze(-1).to(out.dtype)
        return out

    def _store(self, module: Any, key: Tensor, value: Tensor) -> None:
        rank_K, slot_K = (
            torch.from_numpy(at).to(self._device) for at in (self._call.rank_K, self._call.slot_K)
        )
        for buffer, states in zip(self._slots[module], (key, value), strict=True):
            buffer[rank_K, :, slot_K] = states[0].transpose(0, 1)

    def _own(
        self, module: Any, query: Tensor, scale: float, window: int | None, softcap: float | None
    ) -> tuple[Tensor, Tensor]:
        """Attention to the slots of a query's own row: [1, H, K, D]; queries of one row share its keys."""
        call = self._call
        seen_KL, width = call.seen_KL, call.seen_KL.shape[1]
        if window is not None:
            seen_KL = seen_KL & (call.place_K[:, None] - self._depth_BL[call.rank_K, :width] < window)
        flat_K = torch.from_numpy(call.flat_K).to(self._device)
        rows = call.rank_U.size
        key_UGLD, value_UGLD = self._slots[module]
        if rows < key_UGLD.shape[0]:
            rank_U = torch.from_numpy(call.rank_U).to(self._device)
            key_UGLD, value_UGLD = key_UGLD.index_select(0, rank_U), value_UGLD.index_select(0, rank_U)

        def grid(states_K: Tensor) -> Tensor:
            """[K, ...] -> [U, turns, ...]; places without a query hold zeros."""
            empty = states_K.new_zeros((rows * call.turns, *states_K.shape[1:]))
            filled: Tensor = empty.index_copy(0, flat_K, states_K).unflatten(0, (rows, call.turns))
            return filled

        query_UHWD = grid(query[0].transpose(0, 1)).transpose(1, 2)
        seen_UWL = grid(torch.from_numpy(seen_KL).to(self._device))
        out, lse = partial_attention(
            query_UHWD, key_UGLD[:, :, :width], value_UGLD[:, :, :width], scale, seen_UWL[:, None], softcap
        )
        out_KHD = out.transpose(1, 2).flatten(0, 1).index_select(0, flat_K)
        lse_KH = lse.transpose(1, 2).flatten(0, 1).index_select(0, flat_K)
        return out_KHD.transpose(0, 1).unsqueeze(0), lse_KH.transpose(0, 1).unsqueeze(0)

    def _grow(self, width: int) -> None:
        if width <= self._width:
            return
        more = max(width - self._width, self._width // 2)
        for pair in self._slots.values():
            for index, states in enumerate(pair):
                pair[index] = torch.nn.functional.pad(states, (0, 0, 0, more))
        self._depth_BL = np.pad(self._depth_BL, ((0, 0), (0, more)))
        self._width += more


def _shared_stretches(tree: PrefixTree, users_N: Ints, last_B: Ints) -> list[_Shared]:
    """Maximal runs of nodes that the same two or more contexts contain. last_B: sorted last nodes."""
    breaks_N = (tree.parent_N != np.arange(len(tree)) - 1) | (users_N != np.roll(users_N, 1))
    breaks_N[0] = True
    stretches = []
    for start, stop in pairwise(np.append(np.flatnonzero(breaks_N), len(tree))):
        if users_N[start] > 1:
            low = int(np.searchsorted(last_B, stop - 1))
            stretches.append(_Shared(int(start), int(stop), low, low + int(users_N[start])))
    return stretches
