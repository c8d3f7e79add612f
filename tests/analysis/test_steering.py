"""Validation rows that choose the next rows, and those that judge the choice: halves, fair and apart."""

from __future__ import annotations

from collections import Counter

from finetooth.analysis.steering import steering
from finetooth.types import Answer, Example, Message


def _row(at: int, label: str, group: str = "") -> Example:
    tags = {"group": group} if group else {}
    return Example(f"r{at}", (Message("user", f"question {at}"),), (Answer(label),), tags)


def test_each_half_has_half_of_every_answer() -> None:
    rows = [_row(at, label) for at, label in enumerate(["rare"] * 6 + ["usual"] * 41 + ["odd"] * 7)]
    chosen = steering(rows)
    counts = Counter(row.target for row, one in zip(rows, chosen, strict=True) if one)
    assert abs(counts["rare"] - 3) <= 1 and abs(counts["usual"] - 20.5) <= 1 and abs(counts["odd"] - 3.5) <= 1
    turned = steering(rows[::-1])
    assert turned[::-1] == chosen, "the order of the rows is nothing"


def test_a_group_is_never_on_both_sides() -> None:
    rows = [_row(at, f"answer {at}", f"customer {at % 9}") for at in range(90)]
    sides: dict[object, set[bool]] = {}
    for row, one in zip(rows, steering(rows), strict=True):
        sides.setdefault(row.tags["group"], set()).add(one)
    assert all(len(one) == 1 for one in sides.values())
    assert 40 <= sum(steering(rows)) <= 50
