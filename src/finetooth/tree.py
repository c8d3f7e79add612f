"""Rows of tokens as a prefix tree, from the data to the gradient. numpy only.

Rows with a common prefix share its nodes, so the prefix is stored, computed and differentiated once.
Unrelated rows are separate roots of one forest. Packing is the special case without shared prefixes; it
needs no extra mask, because the tree itself determines which tokens attend to which.

Axes: N nodes (one token in one context), R rows, M scored tokens of all rows, T tokens of one row.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from finetooth.errors import DataError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
TREE = 32  # what a micro-tree costs beside its tokens, in tokens
RECOMPUTED = 1.1  # the most computed tokens for each distinct one, where memory allows it


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One token sequence with its loss weights.

    tokens: T ids. weight: T numbers >= 0; a token with weight > 0 is scored. weight[0] must be 0, since
    nothing predicts the first token. signals: name -> per-token (T) or per-row array for objectives.
    unit: rows of one unit (a pair, a group) are never split across micro-trees. id: of the row;
    example_id: of its example, which may have several rows. kept: how many tokens at the start and at the
    end of its context truncation never removes. Raises DataError for invalid values.
    """

    tokens: Ints
    weight: Floats
    signals: Mapping[str, Any] = field(default_factory=dict)
    unit: Hashable = None
    id: str = ""
    example_id: str = ""
    kept: tuple[int, int] = (1, 0)

    def __init__(
        self,
        tokens: ArrayLike,
        weight: ArrayLike,
        signals: Mapping[str, Any] | None = None,
        unit: Hashable = None,
        id: str = "",
        example_id: str = "",
        kept: tuple[int, int] = (1, 0),
    ) -> None:
        token_T, weight_T = np.asarray(tokens), np.asarray(weight, dtype=np.float64)
        where = f"Row {id!r}: " if id else "Row: "
        if token_T.ndim != 1 or token_T.size == 0 or token_T.dtype.kind not in "iu":
            raise DataError(f"{where}tokens must be a non-empty list of integers, found {tokens!r:.80}.")
        if weight_T.shape != token_T.shape:
            raise DataError(
                f"{where}{token_T.size} tokens but {weight_T.size} weights; expected one per token."
            )
        if token_T.min() < 0:
            raise DataError(f"{where}token ids must not be negative, found {token_T.min()}.")
        if not np.isfinite(weight_T).all() or weight_T.min() < 0:
            raise DataError(f"{where}weights must be finite and not negative.")
        if weight_T[0] != 0:
            raise DataError(f"{where}weight[0] must be 0: nothing predicts the first token.")
        values: tuple[Any, ...] = (token_T.astype(np.int64), weight_T, signals or {}, unit, id)
        for name, value in zip(self.__slots__, (*values, example_id or id, kept), strict=True):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return int(self.tokens.size)

    def unit_key(self, index: int) -> Hashable:
        """Key of the row's unit within a list of rows in which this one has the index `index`."""
        return ("row", index) if self.unit is None else ("unit", self.unit)


@dataclass(slots=True, eq=False)
class _Segment:
    """A sequence of tokens without a branch: a node of the radix tree while it is built."""

    token_T: Ints
    parent: _Segment | None
    depth: int
    children: dict[int, _Segment] = field(default_factory=dict)
    start: int = 0
    end: int = 0

    def split(self, length: int) -> _Segment:
        """Split after `length` tokens; returns the new upper part, self becomes the lower one."""
        upper = _Segment(self.token_T[:length], self.parent, self.depth)
        upper.children[int(self.token_T[length])] = self
        if self.parent is not None:
            self.parent.children[int(self.token_T[0])] = upper  # same key, so siblings keep their order
        self.token_T, self.parent, self.depth = self.token_T[length:], upper, self.depth + length
        return upper


def _insert(root: _Segment, token_T: Ints) -> _Segment:
    """Insert one row into the radix tree; returns the segment in which the row ends."""
    segment, at = root, 0
    while at < token_T.size:
        child = segment.children.get(int(token_T[at]))
        if child is None:
            child = segment.children[int(token_T[at])] = _Segment(token_T[at:], segment, at)
            return child
        size = min(child.token_T.size, token_T.size - at)
        differing = np.flatnonzero(child.token_T[:size] != token_T[at : at + size])
        common = int(differing[0]) if differing.size else size
        at += common
        if common < child.token_T.size and at < token_T.size:
            child = child.split(common)
        segment = child
    return segment


def _preorder(root: _Segment) -> list[_Segment]:
    """All segments, parents first, siblings in order of appearance; sets the start and end of each."""
    order: list[_Segment] = []
    count = 0
    stack = list(reversed(root.children.values()))
    while stack:
        segment = stack.pop()
        segment.start = count
        count += segment.token_T.size
        order.append(segment)
        stack.extend(reversed(segment.children.values()))
    for segment in reversed(order):
        last = next(reversed(segment.children.values()), None)
        segment.end = last.end if last else segment.start + segment.token_T.size
    return order


def _path(segment: _Segment, length: int) -> Ints:
    """Nodes of a row of `length` tokens that ends in `segment`, first to last."""
    parts: list[Ints] = []
    while segment.parent is not None:  # the root has no token
        parts.append(np.arange(segment.start, segment.start + segment.token_T.size))
        segment = segment.parent
    return np.concatenate(parts[::-1])[:length]


@dataclass(frozen=True, slots=True, eq=False)
class PrefixTree:
    """A forest of token nodes in depth-first order, with the scored tokens of each row.

    token_N: ids. parent_N: node of the preceding token, -1 at a root. end_N: node i attends to node j exactly
    when j <= i < end_N[j]. depth_N: position in the row, which is the position id.
    node_M, row_M, weight_M: node, row index and loss weight of each scored token; rows in the caller's
    order, tokens in reading order. path_R: the nodes of each row.
    A token's log-probability is read at its parent: parent_N[node_M], never -1.
    """

    rows: tuple[Row, ...]
    token_N: Ints
    parent_N: Ints
    end_N: Ints
    depth_N: Ints
    node_M: Ints
    row_M: Ints
    weight_M: Floats
    path_R: tuple[Ints, ...]

    @classmethod
    def build(cls, rows: Iterable[Row]) -> PrefixTree:
        """The prefix tree of these rows. Raises DataError when there are none."""
        rows = tuple(rows)
        if not rows:
            raise DataError("A tree needs at least one row, found none.")
        root = _Segment(np.empty(0, np.int64), None, 0)
        ends = [_insert(root, row.tokens) for row in rows]
        segments = _preorder(root)
        token_N = np.concatenate([segment.token_T for segment in segments])
        parent_N = np.arange(-1, token_N.size - 1)
        for segment in segments:
            if (above := segment.parent) is not None:  # the root itself is not among the segments
                parent_N[segment.start] = above.start + above.token_T.size - 1 if above is not root else -1
        size_S = np.array([segment.token_T.size for segment in segments])
        offset_N = np.arange(token_N.size) - np.repeat([segment.start for segment in segments], size_S)
        path_R = tuple(_path(end, len(row)) for end, row in zip(ends, rows, strict=True))
        scored_R = [np.flatnonzero(row.weight) for row in rows]
        return cls(
            rows=rows,
            token_N=token_N,
            parent_N=parent_N,
            end_N=np.repeat([segment.end for segment in segments], size_S),
            depth_N=np.repeat([segment.depth for segment in segments], size_S) + offset_N,
            node_M=np.concatenate([path[at] for path, at in zip(path_R, scored_R, strict=True)]),
            row_M=np.repeat(np.arange(len(rows)), [at.size for at in scored_R]),
            weight_M=np.concatenate([row.weight[at] for row, at in zip(rows, scored_R, strict=True)]),
            path_R=path_R,
        )

    def __len__(self) -> int:
        return int(self.token_N.size)

    def count(self, unit: str) -> float:
        """Number of units that a loss is averaged over: "token" (sum of weights), "row" or "unit"."""
        if unit == "token":
            return float(self.weight_M.sum())
        if unit == "row":
            return float(len(self.rows))
        return float(len({row.unit_key(index) for index, row in enumerate(self.rows)}))


def microtrees(rows: Sequence[Row], budget: int) -> list[PrefixTree]:
    """Split rows into micro-trees of at most `budget` nodes, in the way that computes the fewest tokens.

    In depth-first order the rows with a common prefix stand side by side, and each tree is a run of them; no
    other way to cut this order has fewer nodes in all trees, each of which counts TREE more. Of equal ways
    the most even one is taken, because the largest tree determines peak memory. Rows of one unit stay in one
    tree; a row or unit larger than the budget gets its own. Every row is in exactly one tree. The loss of a
    step does not depend on the budget (law 2).
    """
    joint = PrefixTree.build(rows)
    groups: dict[Hashable, list[int]] = {}
    for index in sorted(range(len(rows)), key=lambda index: (int(joint.path_R[index][-1]), index)):
        groups.setdefault(rows[index].unit_key(index), []).append(index)
    members = list(groups.values())
    nodes = [np.unique(np.concatenate([joint.path_R[index] for index in group])) for group in members]
    runs = (sorted(index for group in members[run] for index in group) for run in _runs(nodes, joint, budget))
    return [PrefixTree.build(rows[index] for index in run) for run in runs]


def _runs(nodes: Sequence[Ints], joint: PrefixTree, budget: int) -> list[slice]:
    """The best cut of groups with these nodes into runs, by dynamic programming over where a run starts."""
    last_N = np.full(len(joint), -1)  # the last group so far that has the node
    size_S, first = np.zeros(0, np.int64), 0  # nodes of the runs that start at first, first + 1, ...
    cost, starts = np.zeros(len(nodes) + 1), [0]  # of the best way to cut the groups so far
    even = 0.5 / len(joint) / sum(map(len, nodes))  # all squares of sizes together stay below a token
    for stop, node in enumerate(nodes, start=1):
        before = np.sort(last_N[node])
        last_N[node] = stop - 1
        size_S = np.append(size_S, 0) + np.searchsorted(before, np.arange(first, stop))
        over = min(int((size_S > budget).sum()), size_S.size - 1)  # the longest runs; one group always fits
        size_S, first = size_S[over:], first + over
        cost_S = cost[first:stop] + size_S + TREE + even * size_S**2
        starts.append(stop - 1 - int(cost_S[::-1].argmin()))  # of equal ones the latest
        cost[stop] = cost_S.min()
    runs, stop = [], len(nodes)
    while stop:
        runs.append(slice(starts[stop], stop))
        stop = starts[stop]
    return runs[::-1]
