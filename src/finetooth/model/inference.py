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
from finetooth.tree import RECOMPUTED, PrefixTree, Row, microtrees

TOKENS = 4096  # distinct tokens of a micro-tree
LARGEST = 2 * TOKENS  # the same where rows share a long prefix
UNITS = 512  # pairs that are packed into micro-trees together; bounds the memory


def row_logprobs(
    model: Model, rows: Sequence[Row], budget: int = TOKENS, temperature: float = 1.0
) -> list[NDArray[np.float64]]:
    """The log-probabilities of each row's scored tokens, nats, in evaluation mode, without gradient.

    budget: distinct tokens of a micro-tree, as in `inference_trees`; rows of one unit stay together. No row
    object may occur twice.
    """
    logp_R: list[NDArray[np.float64]] = [np.empty(0)] * len(rows)
    for tree, index_R in _trees(model, rows, budget):
        logp_M = _computed(model, tree, lambda tree: model.logprobs(tree, temperature))
        for number, index in enumerate(index_R):
            logp_R[index] = logp_M[tree.row_M == number]
    return logp_R


def row_scores(model: Model, rows: Sequence[Row]) -> NDArray[np.float64]:
    """A reward model's score of each row: [R], in evaluation mode, without gradient."""
    score_R = np.empty(len(rows))
    for tree, index_R in _trees(model, rows, TOKENS):
        score_R[index_R] = _computed(model, tree, model.scores)
    return score_R


def inference_trees(model: Model, rows: Sequence[Row], budget: int) -> list[PrefixTree]:
    """Micro-trees for passes without gradient, of at most `budget` nodes.

    Of more, up to LARGEST, where rows share so much that smaller trees would compute it more than a tenth
    again: without gradient a token takes the memory of one layer, not of all.
    """
    trees = microtrees(rows, budget)
    if len(trees) == 1 or model.attention == "rows":  # `rows` shares nothing
        return trees
    distinct = len(PrefixTree.build(rows))
    largest = min(LARGEST, budget * int(getattr(model.hf.config, "num_hidden_layers", 1)))
    while budget < largest and sum(map(len, trees)) > RECOMPUTED * distinct:
        budget = min(2 * budget, largest)
        trees = microtrees(rows, budget)
    return trees


def _trees(model: Model, rows: Sequence[Row], budget: int) -> Iterator[tuple[PrefixTree, list[int]]]:
    """Micro-trees and the indices of their rows: of about 2 * UNITS rows at a time, never half a unit."""
    start = 0
    while start < len(rows):
        stop = min(len(rows), start + 2 * UNITS)
        while stop < len(rows) and rows[stop].unit is not None and rows[stop].unit == rows[stop - 1].unit:
            stop += 1
        index = {id(row): number for number, row in enumerate(rows[start:stop], start)}
        for tree in inference_trees(model, rows[start:stop], budget):
            yield tree, [index[id(row)] for row in tree.rows]
        start = stop


def _computed(model: Model, tree: PrefixTree, function: Callable[[PrefixTree], Any]) -> NDArray[np.float64]:
    with model.eval_mode(), torch.inference_mode():
        values: NDArray[np.float64] = function(tree).double().cpu().numpy()
    return values
