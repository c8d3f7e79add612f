"""Rows similar in meaning, by embeddings of the base model, with a threshold calibrated on the data.

Which cosine similarity means "the same" differs between models, so the threshold is the cosine that only a
share RARELY of training rows reach with their nearest other training row. Embeddings of a language model
reflect the topic of a text more than its statement, so the result is only ever for review.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from finetooth.data.split import uniform
from finetooth.quality.findings import View, question
from finetooth.types import Example

RARELY = 0.001
FEWEST = 200  # minimum training rows for calibration
TRAIN, QUERIES = 20_000, 2_000  # maximum rows compared, sampled by a hash of their ids
BLOCK = 500


def nearest(view: View, queries: Sequence[Example]) -> tuple[float, list[tuple[int, int, float]]]:
    """(threshold, [(index in queries, index in train, cosine)]) of rows above it, the nearest first."""
    train = view.sides.get("train", ())
    if view.embed is None or len(train) < FEWEST or not queries:
        return 1.0, []
    of_train, of_queries = _sample(train, view.seed, TRAIN), _sample(queries, view.seed, QUERIES)
    known = np.asarray(view.embed([question(train[at]) for at in of_train]), dtype=np.float32)
    new = np.asarray(view.embed([question(queries[at]) for at in of_queries]), dtype=np.float32)
    centre = known.mean(axis=0)  # the component common to all texts carries no information
    known, new = _unit(known - centre), _unit(new - centre)
    _, among = _best(known[:QUERIES], known, itself=True)
    limit = float(np.quantile(among, 1 - RARELY))
    where, cosine = _best(new, known, itself=False)
    found = [
        (of_queries[k], of_train[int(where[k])], float(cosine[k])) for k in np.flatnonzero(cosine > limit)
    ]
    return limit, sorted(found, key=lambda pair: (-pair[2], pair[0]))


def _sample(rows: Sequence[Example], seed: int, most: int) -> list[int]:
    """Positions of at most `most` rows, independent of their order."""
    order = range(len(rows))
    return sorted(order, key=lambda at: uniform(seed, rows[at].id))[:most]


def _unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))


def _best(
    rows: npt.NDArray[np.float32], others: npt.NDArray[np.float32], itself: bool
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """(index, cosine) of each row's nearest of others. itself: rows are the first of others; skip self."""
    where, cosine = [], []
    for start in range(0, len(rows), BLOCK):
        near = rows[start : start + BLOCK] @ others.T
        if itself:
            near[np.arange(len(near)), np.arange(start, start + len(near))] = -1
        best = near.argmax(axis=1)
        where.append(best)
        cosine.append(near[np.arange(len(near)), best])
    return np.concatenate(where), np.concatenate(cosine)
