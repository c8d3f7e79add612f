"""The back-end `rows`: the stock forward, row by row. It is the specification of the faster back-ends.

A call computes one row, or, where the proof showed that it changes nothing, a batch that is padded on the
right. A row that is a prefix of another is then read off that one. Causal attention sees no padding.

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
from finetooth.model.reward_head import require_output_head
from finetooth.tree import Ints, PrefixTree

TOKENS = 4096  # of one padded call
PLACES = 512  # positions with logits in one padded call: 2 KiB in float32 for each token of the vocabulary


def logprobs(
    logits: Callable[[Sequence[Ints], Ints], Tensor],
    tree: PrefixTree,
    temperature: float,
    padded: bool,
) -> Tensor:
    """Log-probability of each scored token: [M], nats, differentiable, in the rows' order.

    logits: rows and positions -> [B, K, V], float32 or float64. padded: a call may have several rows. Equal
    rows are computed once in any case.
    """
    last_R = np.array([path[-1] for path in tree.path_R])
    if padded:  # each row is computed as part of the first leaf below its last node
        leaf_R = np.flatnonzero(tree.end_N[last_R] == last_R + 1)
        leaf_R = leaf_R[np.argsort(last_R[leaf_R], kind="stable")]
        owner_R = leaf_R[np.searchsorted(last_R[leaf_R], last_R)]
    else:
        _, first, unique_R = np.unique(last_R, return_index=True, return_inverse=True)
        owner_R = first[unique_R]
    owner_M = owner_R[tree.row_M]
    position_M, token_M = tree.depth_N[tree.node_M] - 1, tree.token_N[tree.node_M]
    pieces, order = [], []
    for batch in _batches(tree, owner_M, position_M, PLACES if padded else 0):
        index_R = np.full(len(tree.rows), -1)
        index_R[batch] = np.arange(len(batch))
        scored = np.flatnonzero(index_R[owner_M] >= 0)
        position_K, column = np.unique(position_M[scored], return_inverse=True)
        logit_BKV = logits([tree.rows[row].tokens for row in batch], position_K)
        flat = on_device(index_R[owner_M[scored]] * position_K.size + column, logit_BKV.device)
        logit = logit_BKV.flatten(0, 1).index_select(0, flat) / temperature
        token = on_device(token_M[scored], logit.device)
        pieces.append(-functional.cross_entropy(logit, token, reduction="none"))
        order.append(scored)
    inverse_M = np.argsort(np.concatenate(order), kind="stable")
    return torch.cat(pieces).index_select(0, on_device(inverse_M, pieces[0].device))


def logits(hf: Any, rows: Sequence[Ints], at_K: Ints) -> Tensor:
    """The stock logits [B, K, V] of these rows at positions at_K, in one call; padding has logits too."""
    require_output_head(hf)
    size_B = np.array([row.size for row in rows])
    longest = int(size_B.max())
    id_BT = np.zeros((len(rows), longest), np.int64)
    for index, row in enumerate(rows):
        id_BT[index, : row.size] = row
    inputs: dict[str, Any] = {"input_ids": on_device(id_BT, hf.device), "use_cache": False}
    if size_B.min() < longest:
        mask_BT = np.arange(longest)[None, :] < size_B[:, None]
        inputs["attention_mask"] = on_device(mask_BT.astype(np.int64), hf.device)
    at = on_device(at_K, hf.device)
    if "logits_to_keep" in inspect.signature(type(hf).forward).parameters:
        kept: Tensor = hf(**inputs, logits_to_keep=at).logits
        return kept
    every: Tensor = hf(**inputs).logits
    return every.index_select(1, at)


def _batches(tree: PrefixTree, owner_M: Ints, position_M: Ints, limit: int) -> Iterator[list[int]]:
    """The rows of each call: of similar length, at most TOKENS tokens, logits at `limit` positions."""
    owners = np.unique(owner_M)
    batch: list[int] = []
    read: set[int] = set()
    for row in owners[np.argsort([-len(tree.rows[row]) for row in owners], kind="stable")].tolist():
        own = set(position_M[owner_M == row].tolist())
        count = len(batch) + 1
        if batch and (count * len(tree.rows[batch[0]]) > TOKENS or count * len(read | own) > limit):
            yield batch
            batch, read = [], set()
        batch.append(row)
        read |= own
    yield batch


def hidden(states: Callable[[Ints], Tensor], tree: PrefixTree, nodes_K: Ints) -> Tensor:
    """Last hidden states at these nodes: [K, D]. states: T ids -> [T, D], called once for each row needed."""
    where = {int(node): (row, at) for row, path in enumerate(tree.path_R) for at, node in enumerate(path)}
    where_K = [where[int(node)] for node in nodes_K]
    state_TD = {row: states(tree.rows[row].tokens) for row in sorted({row for row, _ in where_K})}
    return torch.stack([state_TD[row][at] for row, at in where_K])
