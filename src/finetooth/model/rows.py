"""The back-end `rows`: one row a call through the stock model. Slow, and what all others are held to.

Axes: K nodes that are read, M scored tokens of all rows, T tokens of one row, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from finetooth.model.device import on_device
from finetooth.tree import Ints, PrefixTree


def logprobs(logits: Callable[[Ints], Tensor], tree: PrefixTree, temperature: float) -> Tensor:
    """Log-probability of each scored token: [M], nats. logits: T ids -> [T, V], at least float32."""
    pieces = []
    for row in tree.rows:
        at = np.flatnonzero(row.weight)
        if at.size:
            logit_TV = logits(row.tokens)
            logit_KV = logit_TV.index_select(0, on_device(at - 1, logit_TV.device)) / temperature
            token_K = on_device(row.tokens[at], logit_TV.device)
            pieces.append(-functional.cross_entropy(logit_KV, token_K, reduction="none"))
    return torch.cat(pieces)


def hidden(states: Callable[[Ints], Tensor], tree: PrefixTree, nodes_K: Ints) -> Tensor:
    """Last hidden states at these nodes: [K, D]. states: T ids -> [T, D]; called once for each row needed."""
    owner = {int(node): (row, at) for row, path in enumerate(tree.path_R) for at, node in enumerate(path)}
    place_K = [owner[int(node)] for node in nodes_K]
    pieces = {row: states(tree.rows[row].tokens) for row in sorted({row for row, _ in place_K})}
    return torch.stack([pieces[row][at] for row, at in place_K])
