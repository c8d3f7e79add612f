"""Going on from contexts one token at a time, with everything that contexts share computed and kept once.

`TreeDecoder` prefills the tree of the contexts, keeps its keys and values, and then extends any set of rows
by one token each. `RowDecoder` does the same by running every row from its start through the stock forward:
slow, and the specification. Both give next-token logits, so greedy decoding, sampling and label search are
written once.

Axes: B contexts, K contexts extended in one call, V vocabulary, L slots of a row's own keys, H query heads,
G key/value heads, J = H / G, D head dimension, S keys of a shared stretch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from finetooth.model.attention import TreeAttention, merge
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
        """Append one token to a path of each row (a row at most once): logits [K, V] and the new paths."""


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
        order_K = np.argsort(rank_K)
        self._rank_K = rank_K[order_K]
        self._slot_K = self._used_B[self._rank_K]
        self._grow(int(self._slot_K.max()) + 1)
        self._used_B[self._rank_K] += 1
        chosen = [paths[index] for index in order_K]
        self._place_K = self._length_B[self._rank_K] + [len(path.tokens) for path in chosen]
        self._depth_BL[self._rank_K, self._slot_K] = self._place_K
        seen_KL = np.arange(self._width)[None, :] < self._own_B[self._rank_K, None]
        for index, path in enumerate(chosen):
            seen_KL[index, list(path.slots)] = True
        seen_KL[np.arange(len(chosen)), self._slot_K] = True
        self._seen_KL = seen_KL
        token = torch.tensor([token_K[index] for index in order_K], device=self._device)
        hidden_KD = self._forward(token, torch.from_numpy(self._place_K).to(self._device), self)
        back_K = np.argsort(order_K)
        slots = self._slot_K[back_K]
        longer = [
            Path((*path.tokens, token), (*path.slots, int(slot)))
            for path, token, slot in zip(paths, token_K, slots, strict=True)
        ]
        return self._head(hidden_KD).index_select(0, torch.from_numpy(back_K).to(self._device)), longer

    def attend(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None
    ) -> Tensor:
        """See attention.Attends: each row's own slots, then the stretches it shares, merged."""
        key_BGLD, value_BGLD = self._slots[module]
        rank_K, slot_K = (
            torch.from_numpy(self._rank_K).to(self._device),
            torch.from_numpy(self._slot_K).to(self._device),
        )
        key_BGLD[rank_K, :, slot_K] = key[0].transpose(0, 1)
        value_BGLD[rank_K, :, slot_K] = value[0].transpose(0, 1)
        groups = key.shape[1]
        query_KGJD = query[0].transpose(0, 1).unflatten(1, (groups, -1))
        seen_KL = self._seen_KL
        if window is not None:
            seen_KL = seen_KL & (self._place_K[:, None] - self._depth_BL[self._rank_K] < window)
        width = int(self._slot_K.max()) + 1
        out, lse = _partial(
            query_KGJD,
            key_BGLD.index_select(0, rank_K)[:, :, :width],
            value_BGLD.index_select(0, rank_K)[:, :, :width],
            scale,
            torch.from_numpy(seen_KL[:, None, None, :width]).to(self._device),
        )
        kept_key, kept_value = self._kept[module]
        for stretch in self._shared:
            low, high = np.searchsorted(self._rank_K, [stretch.low, stretch.high])
            if low == high:
                continue
            mask = None
            if window is not None:
                depth_S = self._tree.depth_N[stretch.start : stretch.stop]
                near_SK = self._place_K[None, low:high] - depth_S[:, None] < window
                mask = torch.from_numpy(near_SK.T[:, None, None, :]).to(self._device)
            part, part_lse = _partial(
                query_KGJD[low:high],
                kept_key[:, :, stretch.start : stretch.stop],
                kept_value[:, :, stretch.start : stretch.stop],
                scale,
                mask,
            )
            merge(out[low:high], lse[low:high], part, part_lse)
        return out.flatten(1, 2).transpose(0, 1).unsqueeze(0)

    def _grow(self, width: int) -> None:
        if width <= self._width:
            return
        more = max(width - self._width, self._width // 2)
        for pair in self._slots.values():
            for index, states in enumerate(pair):
                pair[index] = torch.nn.functional.pad(states, (0, 0, 0, more))
        self._depth_BL = np.pad(self._depth_BL, ((0, 0), (0, more)))
        self._width += more


def _partial(
    query: Tensor, key: Tensor, value: Tensor, scale: float, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Softmax over these keys and its log-sum-exp: query [K, G, J, D], key and value [K or 1, G, S, D].

    A query that sees none of the keys gets -inf and zeros, which merge to nothing.
    """
    if key.shape[0] == 1:  # the same keys for all: one product of K * J queries a group
        count = query.shape[0]
        score = (query.transpose(0, 1).flatten(1, 2) @ key[0].transpose(-1, -2) * scale).unflatten(
            1, (count, -1)
        )
        score = score.transpose(0, 1)
    else:
        score = query @ key.transpose(-1, -2) * scale
    if mask is not None:
        score = score.masked_fill(~mask, float("-inf"))
    lse = score.logsumexp(-1)
    weight = (score - lse.masked_fill(lse == float("-inf"), 0.0).unsqueeze(-1)).exp()
    return weight @ value, lse


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
