"""Rows that are shown: of different answers, as far as there are any."""

from __future__ import annotations

import pytest

from finetooth.data.examples import different_first


@pytest.mark.parametrize(
    ("answers", "shown"),
    [
        ("aaabac", [0, 3, 5]),
        ("aaab", [0, 3, 1]),
        ("aaaa", [0, 1, 2]),
        ("abcd", [0, 1, 2]),
        ("ab", [0, 1]),
        ("", []),
    ],
)
def test_rows_of_different_answers_come_first(answers: str, shown: list[int]) -> None:
    items = list(enumerate(answers))
    assert [at for at, _ in different_first(items, lambda item: item[1], 3)] == shown
    everything = different_first(items, lambda item: item[1], len(items))
    assert sorted(everything) == items
