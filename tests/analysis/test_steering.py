"""Validation rows that choose the next rows, and those that judge the choice: halves, fair and apart."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from finetooth.analysis.answered import AnsweredRow
from finetooth.analysis.steering import choosing_rows, halves, steering
from finetooth.data.split import CLUSTER
from finetooth.errors import ConfigError
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


def test_near_copies_are_on_one_side_and_one_group_cannot_judge_itself() -> None:
    rows = [_row(at, "a") for at in range(40)]
    rows = [replace(row, tags={CLUSTER: f"r{at // 4}"}) for at, row in enumerate(rows)]
    sides = [steering(rows)[at : at + 4] for at in range(0, 40, 4)]
    assert all(len(set(one)) == 1 for one in sides) and 16 <= sum(steering(rows)) <= 24
    one_group = [AnsweredRow(_row(at, "a", "customer"), "b", 0.0) for at in range(20)]
    with pytest.raises(ConfigError, match="one group"):
        choosing_rows(one_group)
    right = [AnsweredRow(_row(at, "a"), "a", 1.0) for at in range(20)]
    with pytest.raises(ConfigError, match="none of the 10 validation rows"):
        choosing_rows(right)


def test_too_few_judging_rows_are_said_before_anything_is_labelled() -> None:
    few = [AnsweredRow(_row(at, "a"), "b", 0.0) for at in range(40)]
    by = {row.id for row in choosing_rows(few)}
    assert len(by) == 20 and "a verdict needs 30" in halves(few, by)
    many = [AnsweredRow(_row(at, "a"), "b", 0.0) for at in range(80)]
    assert "a verdict needs" not in halves(many, {row.id for row in choosing_rows(many)})
