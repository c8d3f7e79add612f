"""Rows that an earlier run has too stay on their side, and no test row was ever trained on."""

from __future__ import annotations

from finetooth.data.inherited_split import ParentRun, inherit_split
from finetooth.types import Answer, Example, Message

SHARES = {"validation": 0.1, "test": 0.2}


def rows(*numbers: int, answer: str = "yes") -> list[Example]:
    return [Example(f"{answer}{n}", (Message("user", f"Q {n}?"),), (Answer(answer),)) for n in numbers]


FORMER = ParentRun(
    "runs/first", "qa", (), {"train": rows(1, 2, 3), "validation": rows(4), "test": rows(5, 6)}
)


def ids(sides: dict[str, list[Example]]) -> dict[str, list[str]]:
    return {side: [row.id for row in found] for side, found in sides.items()}


def test_known_rows_go_where_they_were_and_new_ones_where_the_split_puts_them() -> None:
    """Other answers to the same question are the same row; what is asked counts without case."""
    own = rows(6, 5, 4, 3, 2, 1, 7, 8, answer="no")
    drawn = {"train": own[:4], "validation": own[4:6], "test": own[6:]}
    found = inherit_split(own, drawn, FORMER, SHARES)
    assert ids(found.sides) == {
        "train": ["no3", "no2", "no1"],
        "validation": ["no4"],
        "test": ["no6", "no5", "no7", "no8"],
    }
    assert not found.sealed and "6 of 8 rows" in found.notes[0]


def test_other_rows_are_left_as_they_were_split() -> None:
    own = rows(7, 8, 9)
    drawn = {"train": own[:1], "validation": own[1:2], "test": own[2:]}
    assert inherit_split(own, drawn, FORMER, SHARES).sides == drawn


def test_pairs_of_training_rows_are_tested_on_the_rows_that_were_sealed() -> None:
    own = rows(1, 2, 3, answer="pair")
    drawn = {"train": own[:1], "validation": own[1:2], "test": own[2:]}
    found = inherit_split(own, drawn, FORMER, SHARES)
    assert found.sealed
    assert ids(found.sides) == {
        "train": ["pair1", "pair3"],
        "validation": ["pair2"],
        "test": ["yes5", "yes6"],
    }
    without = inherit_split(own, drawn, FORMER, {"validation": 0.0, "test": 0.0})
    assert not without.sealed
    assert ids(without.sides) == {"train": ["pair1", "pair2", "pair3"], "validation": [], "test": []}


def test_what_two_runs_have_trained_on_is_never_in_the_test() -> None:
    """A third run: the first of all has trained on a row that the second has sealed, as it was told to."""
    before = {"train": rows(6), "validation": [], "test": rows(3)}
    third = ParentRun("runs/second", "qa", (), FORMER.sides, before)
    own = rows(3, 6, 5, answer="no")
    sides = inherit_split(own, {"train": own, "validation": [], "test": []}, third, SHARES).sides
    assert ids(sides)["test"] == ["no5"] and ids(sides)["train"] == ["no3", "no6"]
