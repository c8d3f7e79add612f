"""`rows`: rows through the stock forward, which is the specification of everything faster.

One row a call, or, where the proof found that it changes nothing, a batch padded on the right, in which a row
that begins another is read there. What stands behind a row's last token is never seen by it.

Axes: M scored tokens, R rows, B rows of one call, T tokens of the longest, K positions or nodes that are
read, D hidden size, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from finetooth.model.device import on_device
from finetooth.model.head import require_output_head
from finetooth.tree import Ints, PrefixTree

TOKENS = 4096  # of one padded call
PLACES = 512  # logits of one padded call: 2 KiB in float32 for each token of the vocabulary


def logprobs(
    logits: Callable[[Sequence[Ints], Ints], Tensor],
    tree: PrefixTree,
    temperature: float,
    padded: bool,
) -> Tensor:
    """Log-probability of each scored token: [M], nats, differentiable, in the rows' order.

    logits: rows and positions -> [B, K, V], at least float32. padded: rows may be computed together. Rows
    that are equal are computed once in any case.
    """
    owner_M = _owners(tree, padded)[tree.row_M]
    at_M, token_M = tree.depth_N[tree.node_M] - 1, tree.token_N[tree.node_M]
    pieces, order = [], []
    for batch in _batches(tree, owner_M, at_M, PLACES if padded else 0):
        place_R = np.full(len(tree.rows), -1)
        place_R[batch] = np.arange(len(batch))
        found = np.flatnonzero(place_R[owner_M] >= 0)
        at_K, which = np.unique(at_M[found], return_inverse=True)
        logit_BKV = logits([tree.rows[row].tokens for row in batch], at_K)
        flat = on_device(place_R[owner_M[found]] * at_K.size + which, logit_BKV.device)
        logit = logit_BKV.flatten(0, 1).index_select(0, flat) / temperature
        token = on_device(token_M[found], logit.device)
        pieces.append(-functional.cross_entropy(logit, token, reduction="none"))
        order.append(found)
    back_M = np.argsort(np.concatenate(order), kind="stable")
    return torch.cat(pieces).index_select(0, on_device(back_M, pieces[0].device))


def logits(hf: Any, rows: Sequence[Ints], at_K: Ints) -> Tensor:
    """The stock logits [B, K, V] of these rows at positions at_K, in one call; padding gets logits too."""
    require_output_head(hf)
    longest = max(row.size for row in rows)
    id_BT = np.zeros((len(rows), longest), np.int64)
    for place, row in enumerate(rows):
        id_BT[place, : row.size] = row
    given: dict[str, Any] = {"input_ids": on_device(id_BT, hf.device), "use_cache": False}
    if min(row.size for row in rows) < longest:
        size_B = np.array([row.size for row in rows])
        mask_BT = np.arange(longest)[None, :] < size_B[:, None]
        given["attention_mask"] = on_device(mask_BT.astype(np.int64), hf.device)
    at = on_device(at_K, hf.device)
    if "logits_to_keep" in inspect.signature(type(hf).forward).parameters:
        kept: Tensor = hf(**given, logits_to_keep=at).logits
        return kept
    every: Tensor = hf(**given).logits
    return every.index_select(1, at)


def _owners(tree: PrefixTree, padded: bool) -> Ints:
    """For each row the row in which it is computed: an equal one, and if padded one that goes on after it."""
    last_R = np.array([path[-1] for path in tree.path_R])
    if not padded:
        _, first, which_R = np.unique(last_R, return_index=True, return_inverse=True)
        return first[which_R]
    leaf_R = np.flatnonzero(tree.end_N[last_R] == last_R + 1)
    leaf_R = leaf_R[np.argsort(last_R[leaf_R], kind="stable")]
    return leaf_R[np.searchsorted(last_R[leaf_R], last_R)]  # the first leaf of the subtree of its last node


def _batches(tree: PrefixTree, owner_M: Ints, at_M: Ints, room: int) -> Iterator[list[int]]:
    """Rows of one call each: of similar length, at most TOKENS tokens, logits at `room` places."""
    owners = np.unique(owner_M)
    batch: list[int] = []
    read: set[int] = set()
    for row in owners[np.argsort([-len(tree.rows[row]) for row in owners], kind="stable")].tolist():
        own = set(at_M[owner_M == row].tolist())
        count = len(batch) + 1
        if batch and (count * len(tree.rows[batch[0]]) > TOKENS or count * len(read | own) > room):
            yield batch
            batch, read = [], set()
        batch.append(row)
        read |= own
    yield batch


def hidden(states: Callable[[Ints], Tensor], tree: PrefixTree, nodes_K: Ints) -> Tensor:
    """Last hidden states at these nodes: [K, D]. states: T ids -> [T, D]; called once for each row needed."""
    owner = {int(node): (row, at) for row, path in enumerate(tree.path_R) for at, node in enumerate(path)}
    place_K = [owner[int(node)] for node in nodes_K]
    pieces = {row: states(tree.rows[row].tokens) for row in sorted({row for row, _ in place_K})}
    return torch.stack([pieces[row][at] for row, at in place_K])
