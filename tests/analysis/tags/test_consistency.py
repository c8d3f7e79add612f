"""Answers that change when the question is asked again."""

from __future__ import annotations

import pytest

from finetooth.analysis.answered import AnsweredRow
from finetooth.analysis.tags import TagContext, tag_rows
from finetooth.analysis.tags.consistency import flips, inconsistent
from finetooth.types import Answer, Example, Message


def test_form_is_no_change_and_entropy_is_in_bits() -> None:
    same = flips("Paris", ["paris.", ' "Paris" ', "Answer: PARIS"])
    assert (same.rate, same.entropy, same.unstable) == (0, 0, False)
    half = flips("Paris", ["Rome", "Rome", "Paris"])
    assert half.rate == pytest.approx(2 / 3) and half.entropy == pytest.approx(1) and half.unstable
    assert flips("a", ["b", "c", "d"]).entropy == pytest.approx(2)
    assert flips("a", ["b"]).unstable is False  # one other answer proves little
    assert flips("a", []).rate == 0


def test_wrong_but_stable_is_told_from_unstable() -> None:
    assert flips("x", ["x", "x", "x"]).words(True) == "wrong but stable"
    assert flips("x", ["x", "x", "x"]).words(False) == "stable"
    assert flips("x", ["y", "z", "x"]).words(True) == "unstable"


def test_the_tag_reads_the_given_answers_by_id() -> None:
    rows = [AnsweredRow(Example(id, (Message("user", "q"),), (Answer("x"),)), "x", 1.0) for id in "abc"]
    tag = inconsistent({"a": ["y", "z"], "b": ["x", "x"]})
    found = tag_rows(rows, TagContext(), [tag])
    assert [row.keys() for row in found] == [{"inconsistent"}, set(), set()]
    assert found[0]["inconsistent"].words == "2 of 2 answers to the same question differ (1.6 bits)"
