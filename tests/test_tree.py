"""The tree against its definition, spelled out naively, on random forests."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetooth.errors import DataError
from finetooth.tree import PrefixTree, Row, microtrees

# Three token ids and short rows make shared, nested and duplicate prefixes common.
forests = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), min_size=1, max_size=12)


def rows_of(lists: list[list[int]]) -> list[Row]:
    return [Row(tokens, [0.0] + [1.0 + k for k in range(len(tokens) - 1)]) for tokens in lists]


@given(forests)
@settings(max_examples=200, deadline=None)
def test_nodes_are_the_distinct_prefixes(lists: list[list[int]]) -> None:
    tree = PrefixTree.build(rows_of(lists))
    prefixes = {tuple(tokens[: k + 1]) for tokens in lists for k in range(len(tokens))}
    spelled = {}
    for node in range(len(tree)):
        parent = int(tree.parent_N[node])
        spelled[node] = (spelled[parent] if parent >= 0 else ()) + (int(tree.token_N[node]),)
    assert set(spelled.values()) == prefixes and len(spelled) == len(prefixes)
    for node, path in spelled.items():
        assert tree.depth_N[node] == len(path) - 1
        for other, longer in spelled.items():
            visible = longer[: len(path)] == path
            assert visible == (node <= other < tree.end_N[node])
    for tokens, path in zip(lists, tree.path_R, strict=True):
        assert [int(tree.token_N[node]) for node in path] == tokens


@given(forests)
@settings(max_examples=100, deadline=None)
def test_scored_tokens_come_in_the_callers_order(lists: list[list[int]]) -> None:
    rows = rows_of(lists)
    tree = PrefixTree.build(rows)
    expected = [(r, t) for r, row in enumerate(rows) for t in range(1, len(row))]
    assert list(tree.row_M) == [r for r, _ in expected]
    assert list(tree.node_M) == [tree.path_R[r][t] for r, t in expected]
    assert list(tree.weight_M) == [rows[r].weight[t] for r, t in expected]
    assert (tree.parent_N[tree.node_M] >= 0).all()


@given(forests, st.integers(1, 12), st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_microtrees_partition_the_rows(lists: list[list[int]], budget: int, units: int) -> None:
    rows = [
        Row(row.tokens, row.weight, unit=index % units if units else None, id=str(index))
        for index, row in enumerate(rows_of(lists))
    ]
    trees = microtrees(rows, budget)
    assert sorted(row.id for tree in trees for row in tree.rows) == sorted(row.id for row in rows)
    home = {row.id: number for number, tree in enumerate(trees) for row in tree.rows}
    for unit in {row.unit for row in rows if row.unit is not None}:
        assert len({home[row.id] for row in rows if row.unit == unit}) == 1
    for tree in trees:
        assert len(tree) <= budget or len({row.unit for row in tree.rows}) == 1 or not units
        if not units:
            assert len(tree) <= budget or len({tuple(row.tokens) for row in tree.rows}) == 1
    assert sum(tree.count("token") for tree in trees) == sum(row.weight.sum() for row in rows)


def test_siblings_keep_the_order_of_appearance() -> None:
    tree = PrefixTree.build(rows_of([[5, 9], [5, 1], [2], [5, 9, 3]]))
    assert list(tree.token_N) == [5, 9, 3, 1, 2]
    assert list(tree.parent_N) == [-1, 0, 1, 0, -1]
    assert list(tree.end_N) == [4, 3, 3, 4, 5]


@pytest.mark.parametrize(
    ("tokens", "weight", "says"),
    [
        ([], [], "non-empty"),
        ([1, 2], [0], "2 tokens but 1 weights"),
        ([1, 2], [1, 1], "weight\\[0\\]"),
        ([1, -2], [0, 1], "negative"),
        ([1, 2], [0, float("nan")], "finite"),
        ([1.5, 2.0], [0, 1], "integers"),
    ],
)
def test_rows_that_cannot_be_are_refused(tokens: list[int], weight: list[float], says: str) -> None:
    with pytest.raises(DataError, match=says):
        Row(tokens, weight)


def test_counts() -> None:
    rows = [Row([1, 2, 3], [0, 1, 0.5]), Row([1, 4], [0, 0]), Row([1, 4], [0, 1], unit="a")]
    tree = PrefixTree.build([*rows, Row([1, 4], [0, 1], unit="a")])
    assert (tree.count("token"), tree.count("row"), tree.count("unit")) == (3.5, 4, 3)
    assert np.array_equal(tree.row_M, [0, 0, 2, 3])
    with pytest.raises(DataError, match="at least one row"):
        PrefixTree.build([])


def test_microtrees_are_of_even_size() -> None:
    """Memory goes by the largest tree, so a rest is not left for a small last one."""
    rows = [Row([1, 2, 3, *range(100 * i, 100 * i + 10)], [0.0] * 13) for i in range(1, 12)]
    trees = microtrees(rows, 83)  # 8 rows of 10 and the 3 that they share
    assert [len(tree.rows) for tree in trees] == [6, 5]
