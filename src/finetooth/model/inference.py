"""Log-probabilities and reward-model scores of many rows, in micro-trees of bounded size, without gradient.

Axes: M scored tokens of a tree, R rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from finetooth.model.api import Model
from finetooth.tree import PrefixTree, Row, microtrees

TOKENS = 4096  # distinct tokens of a micro-tree
UNITS = 512  # pairs that are packed into micro-trees together; bounds the memory


def row_logprobs(
    model: Model, rows: Sequence[Row], budget: int = TOKENS, temperature: float = 1.0
) -> list[NDArray[np.float64]]:
    """The log-probabilities of each row's scored tokens, nats, in evaluation mode, without gradient.

    budget: distinct tokens of a micro-tree; rows of one unit stay together. No row object may occur twice.
    """
    logp_R: list[NDArray[np.float64]] = [np.empty(0)] * len(rows)
    for tree, index_R in _trees(rows, budget):
        logp_M = _computed(model, tree, lambda tree: model.logprobs(tree, temperature))
        for number, index in enumerate(index_R):
            logp_R[index] = logp_M[tree.row_M == number]
    return logp_R


def row_scores(model: Model, rows: Sequence[Row]) -> NDArray[np.float64]:
    """A reward model's score of each row: [R], in evaluation mode, without gradient."""
    score_R = np.empty(len(rows))
    for tree, index_R in _trees(rows, TOKENS):
        score_R[index_R] = _computed(model, tree, model.scores)
    return score_R


def _trees(rows: Sequence[Row], budget: int) -> Iterator[tuple[PrefixTree, list[int]]]:
    """Micro-trees and the indices of their rows: of about 2 * UNITS rows at a time, never half a unit."""
    start = 0
    while start < len(rows):
        stop = min(len(rows), start + 2 * UNITS)
        while stop < len(rows) and rows[stop].unit is not None and rows[stop].unit == rows[stop - 1].unit:
            stop += 1
        index = {id(row): number for number, row in enumerate(rows[start:stop], start)}
        for tree in microtrees(rows[start:stop], budget):
            yield tree, [index[id(row)] for row in tree.rows]
        start = stop


def _computed(model: Model, tree: PrefixTree, function: Callable[[PrefixTree], Any]) -> NDArray[np.float64]:
    with model.eval_mode(), torch.inference_mode():
        values: NDArray[np.float64] = function(tree).double().cpu().numpy()
    return values
