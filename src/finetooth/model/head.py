"""Log-probabilities at scored tokens only, in chunks, so that N x V logits never exist.

Axes: K distinct nodes at which a token is scored, M scored tokens, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from finetooth.tree import Ints

# Logits of one chunk hold at most this many numbers: memory does not grow with the number of scored tokens.
CHUNK_NUMBERS = {"cpu": 1 << 22, "cuda": 1 << 27}


def logprobs(
    head: Callable[[Tensor], Tensor], hidden_ND: Tensor, at_M: Ints, token_M: Ints, temperature: float
) -> Tensor:
    """log softmax(head(hidden[at]) / temperature)[token] for each scored token: float32 (float64 for a
    float64 model), nats, shape [M], differentiable with respect to hidden_ND and the head's weights.

    at_M: the node where each token is read (its parent). Nodes that are read for several tokens (the options
    of a question) pay for their logits once. Chunks are recomputed in the backward pass.
    """
    at_K, read_M = np.unique(at_M, return_inverse=True)
    hidden_KD = hidden_ND.index_select(0, torch.from_numpy(at_K).to(hidden_ND.device))
    order_M = np.argsort(read_M, kind="stable")
    sorted_M = read_M[order_M]
    with torch.no_grad():
        vocabulary = int(head(hidden_KD[:1]).shape[-1])
    rows = max(16, CHUNK_NUMBERS.get(hidden_ND.device.type, 1 << 22) // vocabulary)
    pieces = []
    for start in range(0, at_K.size, rows):
        low, high = np.searchsorted(sorted_M, [start, start + rows])
        chunk = (
            head,
            hidden_KD[start : start + rows],
            torch.from_numpy(sorted_M[low:high] - start).to(hidden_ND.device),
            torch.from_numpy(token_M[order_M[low:high]]).to(hidden_ND.device),
            temperature,
        )
        if torch.is_grad_enabled() and at_K.size > rows:
            pieces.append(checkpoint(_chunk, *chunk, use_reentrant=False, preserve_rng_state=False))
        else:
            pieces.append(_chunk(*chunk))
    back_M = np.empty_like(order_M)
    back_M[order_M] = np.arange(order_M.size)
    return torch.cat(pieces).index_select(0, torch.from_numpy(back_M).to(hidden_ND.device))


def _chunk(
    head: Callable[[Tensor], Tensor], hidden_KD: Tensor, read_M: Tensor, token_M: Tensor, temperature: float
) -> Tensor:
    logit_KV = at_least_float32(head(hidden_KD)) / temperature
    # index_select rather than indexing: its CPU backward is deterministic.
    picked_M = logit_KV.flatten().index_select(0, read_M * logit_KV.shape[-1] + token_M)
    return picked_M - logit_KV.logsumexp(-1).index_select(0, read_M)


def at_least_float32(logits: Tensor) -> Tensor:
    """Half-precision logits become float32 before any softmax; float64 stays."""
    return logits if logits.dtype == torch.float64 else logits.float()
