"""Which prefixes contexts share, and which of them are worth keeping once in the KV cache. numpy only.

Contexts are sorted, so that all contexts with a common prefix are one run of ranks. A shared segment of
tokens is computed once and kept in one place; a context's last tokens, its tail, are its own. Short segments
that few contexts share are cheaper to compute again than to attend to separately.

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

MIN_SAVED = 64  # tokens that a shared segment must save: it costs an attention call in every later step
MAX_SEGMENT = 1024  # longest segment, and longest tail: longer ones are split


@dataclass(slots=True, eq=False)
class PrefixSegment:
    """Tokens start:stop of the contexts low:high, which all have the same tokens there and before.

    parent: the segment before it. users: contexts that still need it. states: attention module -> its keys
    and values [1, G, S, D], once computed.
    """

    parent: PrefixSegment | None
    start: int
    stop: int
    low: int
    high: int
    users: int = 0
    states: dict[Any, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.stop - self.start

    def ancestors(self) -> list[PrefixSegment]:
        """The segments before this one, first to last."""
        found: list[PrefixSegment] = []
        segment = self.parent
        while segment is not None:
            found.append(segment)
            segment = segment.parent
        return found[::-1]


def tails(contexts_C: Sequence[Ints]) -> list[PrefixSegment]:
    """The tail of each context, at least its last token, with the segments that it shares as ancestors.

    contexts_C: distinct and sorted, so that those with a common prefix are neighbours.
    """
    parent_C: list[PrefixSegment | None] = [None] * len(contexts_C)
    for stop, low, high in sorted(_shared_prefixes(contexts_C), key=lambda run: (run[1], run[0])):
        parent = parent_C[low]
        start = parent.stop if parent else 0
        if (high - low - 1) * (stop - start) >= MIN_SAVED:
            last = _split(parent, start, stop, low, high)
            parent_C[low:high] = [last] * (high - low)
    found = []
    for rank, tokens in enumerate(contexts_C):
        parent = parent_C[rank]
        start = parent.stop if parent else 0
        cut = start + (len(tokens) - 1 - start) // MAX_SEGMENT * MAX_SEGMENT
        parent = _split(parent, start, cut, rank, rank + 1)
        found.append(PrefixSegment(parent, cut, len(tokens), rank, rank + 1))
    return found


def _split(parent: PrefixSegment | None, start: int, stop: int, low: int, high: int) -> PrefixSegment | None:
    """Segments of at most MAX_SEGMENT tokens from start to stop; returns the last."""
    for at in range(start, stop, MAX_SEGMENT):
        parent = PrefixSegment(parent, at, min(at + MAX_SEGMENT, stop), low, high, high - low)
    return parent


def _shared_prefixes(contexts_C: Sequence[Ints]) -> Iterator[tuple[int, int, int]]:
    """Every (length, low, high) such that exactly the contexts low:high share their first `length` tokens.

    The intervals of the LCP array (Abouelhoda, Kurtz and Ohlebusch 2004, algorithm 4.1). The last token of a
    context never counts as shared.
    """
    common = []
    for left, right in pairwise(contexts_C):
        size = min(left.size, right.size) - 1
        differs = np.flatnonzero(left[:size] != right[:size])
        common.append(int(differs[0]) if differs.size else size)
    open_runs = [(0, 0)]
    for high, length in enumerate([*common, 0], start=1):
        low = high - 1
        while open_runs[-1][0] > length:
            longer, low = open_runs.pop()
            yield longer, low, high
        if open_runs[-1][0] < length:
            open_runs.append((length, low))
