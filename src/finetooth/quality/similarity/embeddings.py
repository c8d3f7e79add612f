"""Rows alike in meaning, by vectors of the base model: a comparison that has to calibrate itself.

Which cosine means "the same" differs from model to model, so the limit comes from the data: the cosine that
only a share RARELY of training rows reach with their nearest other training row. Vectors of a language model
tell what a text is about better than what it says, so this is only ever something to look at.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from finetooth.data.split import uniform
from finetooth.quality.findings import View, question
from finetooth.types import Example

RARELY = 0.001
FEWEST = 200  # training rows below which there is no telling what is rare
TRAIN, ASKED = 20_000, 2_000  # rows compared at most, drawn by the hash of their ids
BLOCK = 500


def nearest(view: View, asked: Sequence[Example]) -> tuple[float, list[tuple[int, int, float]]]:
    """(limit, [(index in asked, index in train, cosine)]) of the rows beyond the limit, the nearest first."""
    train = view.sides.get("train", ())
    if view.embed is None or len(train) < FEWEST or not asked:
        return 1.0, []
    of_train, of_asked = _drawn(train, view.seed, TRAIN), _drawn(asked, view.seed, ASKED)
    known = np.asarray(view.embed([question(train[at]) for at in of_train]), dtype=np.float32)
    new = np.asarray(view.embed([question(asked[at]) for at in of_asked]), dtype=np.float32)
    centre = known.mean(axis=0)  # what all texts have in common says nothing about two of them
    known, new = _unit(known - centre), _unit(new - centre)
    _, among = _best(known[:ASKED], known, itself=True)
    limit = float(np.quantile(among, 1 - RARELY))
    where, cosine = _best(new, known, itself=False)
    found = [(of_asked[k], of_train[int(where[k])], float(cosine[k])) for k in np.flatnonzero(cosine > limit)]
    return limit, sorted(found, key=lambda pair: (-pair[2], pair[0]))


def _drawn(rows: Sequence[Example], seed: int, most: int) -> list[int]:
    """Positions of at most so many rows, the same whatever the order."""
    order = range(len(rows))
    return sorted(order, key=lambda at: uniform(seed, rows[at].id))[:most]


def _unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))


def _best(
    rows: npt.NDArray[np.float32], others: npt.NDArray[np.float32], itself: bool
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """The nearest other of each row and its cosine; itself: rows are the first of others and not counted."""
    where, cosine = [], []
    for start in range(0, len(rows), BLOCK):
        near = rows[start : start + BLOCK] @ others.T
        if itself:
            near[np.arange(len(near)), np.arange(start, start + len(near))] = -1
        best = near.argmax(axis=1)
        where.append(best)
        cosine.append(near[np.arange(len(near)), best])
    return np.concatenate(where), np.concatenate(cosine)
