"""Log-probabilities and scores of many rows at once, without gradient: micro-trees of bounded size.

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

TOKENS = 4096  # distinct ones, computed together
UNITS = 512  # pairs of one call, so that memory does not grow with the rows


def row_logprobs(
    model: Model, rows: Sequence[Row], budget: int = TOKENS, temperature: float = 1.0
) -> list[NDArray[np.float64]]:
    """The log-probabilities of each row's scored tokens, nats, in evaluation mode, without gradient.

    budget: of a micro-tree; rows of one unit stay together. rows: different objects.
    """
    found: list[NDArray[np.float64]] = [np.empty(0)] * len(rows)
    for tree, at_R in _trees(rows, budget):
        logp_M = _numbers(model, tree, lambda tree: model.logprobs(tree, temperature))
        for number, index in enumerate(at_R):
            found[index] = logp_M[tree.row_M == number]
    return found


def row_scores(model: Model, rows: Sequence[Row]) -> NDArray[np.float64]:
    """What a reward model takes each row to be worth."""
    found = np.empty(len(rows))
    for tree, at_R in _trees(rows, TOKENS):
        found[at_R] = _numbers(model, tree, model.scores)
    return found


def _trees(rows: Sequence[Row], budget: int) -> Iterator[tuple[PrefixTree, list[int]]]:
    """Micro-trees of the rows, and which of them are in each."""
    for start, stop in _chunks(rows):
        place = {id(row): index for index, row in enumerate(rows[start:stop], start)}
        for tree in microtrees(rows[start:stop], budget):
            yield tree, [place[id(row)] for row in tree.rows]


def _chunks(rows: Sequence[Row]) -> Iterator[tuple[int, int]]:
    """Stretches of about 2 * UNITS rows, which do not end between two rows of one unit."""
    start = 0
    while start < len(rows):
        stop = min(len(rows), start + 2 * UNITS)
        while stop < len(rows) and rows[stop].unit is not None and rows[stop].unit == rows[stop - 1].unit:
            stop += 1
        yield start, stop
        start = stop


def _numbers(model: Model, tree: PrefixTree, measure: Callable[[PrefixTree], Any]) -> NDArray[np.float64]:
    with model.eval_mode(), torch.inference_mode():
        found: NDArray[np.float64] = measure(tree).double().cpu().numpy()
    return found
