"""Rows of tokens that share beginnings, kept as one tree from the data to the gradient. numpy only.

Rows that start with the same tokens share the nodes of that beginning: it is stored, computed and
differentiated once. Unrelated rows are several roots of one forest, which makes packing the degenerate case:
there is nothing to mask, because visibility is a fact of the tree.

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


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One token sequence and what is asked of it.

    tokens: T ids. weight: T numbers >= 0; a token with weight > 0 is scored. weight[0] must be 0, since
    nothing predicts the first token. signals: name -> per-token (T) or per-row array, carried along for
    objectives. unit: rows of one unit (a pair, a group) are never split over micro-trees. id: its
    own; example_id: of the example it came from, which may have several rows. kept: how many tokens at the
    start and at the end of its context truncation must leave. Raises DataError for impossible values.
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
            raise DataError(f"{where}{token_T.size} tokens but {weight_T.size} weights; one each is needed.")
        if token_T.min() < 0:
            raise DataError(f"{where}token ids must not be negative, found {token_T.min()}.")
        if not np.isfinite(weight_T).all() or weight_T.min() < 0:
            raise DataError(f"{where}weights must be finite and not negative.")
        if weight_T[0] != 0:
            raise DataError(f"{where}weight[0] must be 0: nothing predicts the first token.")
        values = (token_T.astype(np.int64), weight_T, signals or {}, unit, id, example_id or id, kept)
        for name, value in zip(self.__slots__, values, strict=True):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return int(self.tokens.size)

    def unit_key(self, index: int) -> Hashable:
        """What names the row's unit among rows of which this is number `index`."""
        return ("row", index) if self.unit is None else ("unit", self.unit)


@dataclass(slots=True, eq=False)
class _Run:
    """A stretch of tokens without a branch, while the tree is being built."""

    token_T: Ints
    parent: _Run | None
    depth: int
    children: dict[int, _Run] = field(default_factory=dict)
    start: int = 0
    end: int = 0

    def split(self, length: int) -> _Run:
        """Cut after `length` tokens; returns the new upper part, self stays the lower one."""
        upper = _Run(self.token_T[:length], self.parent, self.depth)
        upper.children[int(self.token_T[length])] = self
        if self.parent is not None:
            self.parent.children[int(self.token_T[0])] = upper  # same key, so siblings keep their order
        self.token_T, self.parent, self.depth = self.token_T[length:], upper, self.depth + length
        return upper


def _shared(left_T: Ints, right_T: Ints) -> int:
    """How many tokens two sequences have in common at their start."""
    size = min(left_T.size, right_T.size)
    differs = np.flatnonzero(left_T[:size] != right_T[:size])
    return int(differs[0]) if differs.size else size


def _insert(root: _Run, token_T: Ints) -> _Run:
    """Walk and extend the radix tree by one row; returns the run in which the row ends."""
    run, at = root, 0
    while at < token_T.size:
        child = run.children.get(int(token_T[at]))
        if child is None:
            child = run.children[int(token_T[at])] = _Run(token_T[at:], run, at)
            return child
        common = _shared(child.token_T, token_T[at:])
        at += common
        if common < child.token_T.size and at < token_T.size:
            child = child.split(common)
        run = child
    return run


def _preorder(root: _Run) -> list[_Run]:
    """All runs, parents before children, siblings by first appearance; sets each run's start and end."""
    order: list[_Run] = []
    count = 0
    stack = list(reversed(root.children.values()))
    while stack:
        run = stack.pop()
        run.start = count
        count += run.token_T.size
        order.append(run)
        stack.extend(reversed(run.children.values()))
    for run in reversed(order):
        last = next(reversed(run.children.values()), None)
        run.end = last.end if last else run.start + run.token_T.size
    return order


def _path(run: _Run, length: int) -> Ints:
    """The nodes of a row of `length` tokens that ends in `run`, first to last."""
    pieces: list[Ints] = []
    while run.parent is not None:  # the root holds no token
        pieces.append(np.arange(run.start, run.start + run.token_T.size))
        run = run.parent
    return np.concatenate(pieces[::-1])[:length]


@dataclass(frozen=True, slots=True, eq=False)
class PrefixTree:
    """A forest of token nodes in depth-first order, and where each scored token of each row lives in it.

    token_N: ids. parent_N: the token before it in its row, -1 at a root. end_N: node j is visible to node i
    exactly when j <= i < end_N[j]. depth_N: position in the row, which is the position id.
    node_M, row_M, weight_M: the node of each scored token, whose row it is, its loss weight; rows in the
    caller's order, tokens in reading order. path_R: the nodes of each row.
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
        """The tree of these rows. Raises DataError when there are none."""
        rows = tuple(rows)
        if not rows:
            raise DataError("A tree needs at least one row, found none.")
        root = _Run(np.empty(0, np.int64), None, 0)
        ends = [_insert(root, row.tokens) for row in rows]
        runs = _preorder(root)
        token_N = np.concatenate([run.token_T for run in runs])
        parent_N = np.arange(-1, token_N.size - 1)
        for run in runs:
            above = run.parent
            parent_N[run.start] = above.start + above.token_T.size - 1 if above and above is not root else -1
        size_S = np.array([run.token_T.size for run in runs])
        offset_N = np.arange(token_N.size) - np.repeat([run.start for run in runs], size_S)
        path_R = tuple(_path(end, len(row)) for end, row in zip(ends, rows, strict=True))
        scored_R = [np.flatnonzero(row.weight) for row in rows]
        return cls(
            rows=rows,
            token_N=token_N,
            parent_N=parent_N,
            end_N=np.repeat([run.end for run in runs], size_S),
            depth_N=np.repeat([run.depth for run in runs], size_S) + offset_N,
            node_M=np.concatenate([path[at] for path, at in zip(path_R, scored_R, strict=True)]),
            row_M=np.repeat(np.arange(len(rows)), [at.size for at in scored_R]),
            weight_M=np.concatenate([row.weight[at] for row, at in zip(rows, scored_R, strict=True)]),
            path_R=path_R,
        )

    def __len__(self) -> int:
        return int(self.token_N.size)

    def count(self, unit: str) -> float:
        """How many units a loss over this tree is divided by: "token" (sum of weights), "row" or "unit"."""
        if unit == "token":
            return float(self.weight_M.sum())
        if unit == "row":
            return float(len(self.rows))
        return float(len({row.unit_key(index) for index, row in enumerate(self.rows)}))


def microtrees(rows: Sequence[Row], budget: int) -> list[PrefixTree]:
    """Cut rows into trees of at most `budget` distinct tokens, keeping neighbours in the tree together.

    As few trees as filling one after the other gives, then of even size: memory goes by the largest. Rows of
    one unit stay in one tree; a row or unit larger than the budget gets a tree of its own. Every row is in
    exactly one tree. The loss of a step does not depend on the budget (law 2), only memory does.
    """
    joint = PrefixTree.build(rows)
    groups: dict[Hashable, list[int]] = {}
    for index in sorted(range(len(rows)), key=lambda index: (int(joint.path_R[index][-1]), index)):
        groups.setdefault(rows[index].unit_key(index), []).append(index)
    members = list(groups.values())
    nodes = [np.unique(np.concatenate([joint.path_R[index] for index in group])) for group in members]
    bins = _fill(nodes, len(joint), budget)
    low, high = -(-len(joint) // len(bins)), budget
    while low < high:  # the smallest capacity that needs no further tree
        tighter = _fill(nodes, len(joint), middle := (low + high) // 2)
        if len(tighter) > len(bins):
            low = middle + 1
        else:
            bins, high = tighter, middle
    chosen = (sorted(index for group in bin for index in members[group]) for bin in bins)
    return [PrefixTree.build(rows[index] for index in bin) for bin in chosen]


def _fill(nodes: Sequence[Ints], total: int, capacity: int) -> list[list[int]]:
    """Groups into bins, in order, each of at most `capacity` distinct nodes (or of one group)."""
    owner_N = np.full(total, -1)
    bins: list[list[int]] = [[]]
    used = 0
    for group, node in enumerate(nodes):
        fresh = int((owner_N[node] != len(bins)).sum())
        if bins[-1] and used + fresh > capacity:
            bins.append([])
            used, fresh = 0, node.size
        owner_N[node] = len(bins)
        used += fresh
        bins[-1].append(group)
    return bins
