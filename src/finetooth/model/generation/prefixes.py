"""Which beginnings contexts share, and which of them are worth keeping once. numpy only.

Contexts are sorted, so that everything under one beginning is one run of ranks and neighbours know what they
share. A stretch of shared tokens is computed once and kept where it is; a context's last tokens, its tail,
are its own. Short stretches that few contexts share are cheaper to compute again than to attend to apart.

Axes: C distinct contexts in sorted order (ranks), T tokens of one context.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from finetooth.tree import Ints

if TYPE_CHECKING:
    from torch import Tensor

WORTH = 64  # a stretch must save at least this many tokens: it costs an attention call in every later step
PIECE = 1024  # longest stretch, and longest tail: longer ones are cut into stretches one after the other


@dataclass(slots=True, eq=False)
class PrefixSegment:
    """Tokens start:stop of the contexts low:high, all of which have them there; `above` is what comes before.

    users: contexts that still need it. kept: attention module -> its keys and values [1, G, S, D], while
    they are kept.
    """

    above: PrefixSegment | None
    start: int
    stop: int
    low: int
    high: int
    users: int = 0
    kept: dict[Any, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.stop - self.start

    def ancestors(self) -> list[PrefixSegment]:
        """The stretches before this one, first to last."""
        found: list[PrefixSegment] = []
        at = self.above
        while at is not None:
            found.append(at)
            at = at.above
        return found[::-1]


def tails(contexts_C: Sequence[Ints]) -> list[PrefixSegment]:
    """The tail of each context, at least its last token, under the stretches that it shares.

    contexts_C: different from each other and sorted, so that those with a common beginning are neighbours.
    """
    above_C: list[PrefixSegment | None] = [None] * len(contexts_C)
    for stop, low, high in sorted(_runs(contexts_C), key=lambda run: (run[1], run[0])):
        above = above_C[low]
        start = above.stop if above else 0
        if (high - low - 1) * (stop - start) >= WORTH:
            last = _pieces(above, start, stop, low, high)
            above_C[low:high] = [last] * (high - low)
    found = []
    for rank, tokens in enumerate(contexts_C):
        start = above.stop if (above := above_C[rank]) else 0
        cut = start + (len(tokens) - 1 - start) // PIECE * PIECE
        above = _pieces(above, start, cut, rank, rank + 1)
        found.append(PrefixSegment(above, cut, len(tokens), rank, rank + 1))
    return found


def _pieces(above: PrefixSegment | None, start: int, stop: int, low: int, high: int) -> PrefixSegment | None:
    """Stretches of at most PIECE tokens from start to stop; returns the last."""
    for at in range(start, stop, PIECE):
        above = PrefixSegment(above, at, min(at + PIECE, stop), low, high, high - low)
    return above


def _runs(contexts_C: Sequence[Ints]) -> Iterator[tuple[int, int, int]]:
    """Every (length, low, high) such that contexts low:high, and no more, begin with the same `length`.

    The intervals of the array of common beginnings (Abouelhoda, Kurtz and Ohlebusch 2004, algorithm 4.1).
    The last token of a context counts as shared with none.
    """
    common = [*(_common(left[:-1], right[:-1]) for left, right in pairwise(contexts_C)), 0]
    open_runs = [(0, 0)]
    for high, length in enumerate(common, start=1):
        low = high - 1
        while open_runs[-1][0] > length:
            longer, low = open_runs.pop()
            yield longer, low, high
        if open_runs[-1][0] < length:
            open_runs.append((length, low))


def _common(left_T: Ints, right_T: Ints) -> int:
    size = min(left_T.size, right_T.size)
    differs = np.flatnonzero(left_T[:size] != right_T[:size])
    return int(differs[0]) if differs.size else size
