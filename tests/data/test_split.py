"""Splits: by hash, stable when rows are added, copies and groups together, inherited, leaks found exactly."""

from __future__ import annotations

import random

import pytest

from finetooth.data.examples import content_id, from_json, normalise, to_json
from finetooth.data.split import (
    ParentRun,
    connected_components,
    exact_leaks,
    inherit_split,
    label_notes,
    split_keys,
    uniform,
)
from finetooth.data.split import split as split_by
from finetooth.errors import DataError
from finetooth.types import Answer, Example, Message


def example(id: str, text: str, label: str = "x", **tags: object) -> Example:
    return Example(id, (Message("user", text),), (Answer(label),), {"label": label, **tags})


ROWS = [example(f"r{k}", f"text number {k}") for k in range(2000)]


def split(rows: list[Example], seed: int, test: float, validation: float) -> dict[str, list[Example]]:
    """By context and group alone; that near-duplicates stay together is tested with the clusters."""
    return split_by(rows, split_keys(rows), seed, test, validation)


def side_of(sides: dict[str, list[Example]]) -> dict[str, str]:
    return {row.id: side for side, rows in sides.items() for row in rows}


def test_shares_are_met_and_the_seed_decides() -> None:
    sides = split(ROWS, 1, 0.2, 0.1)
    assert sum(map(len, sides.values())) == 2000
    assert abs(len(sides["test"]) - 400) < 4 * (2000 * 0.2 * 0.8) ** 0.5
    assert abs(len(sides["validation"]) - 200) < 4 * (2000 * 0.1 * 0.9) ** 0.5
    assert split(ROWS, 1, 0.2, 0.1) == sides
    assert split(ROWS, 2, 0.2, 0.1) != sides


def test_uniform_is_a_known_function() -> None:
    """The first 8 bytes of sha256("1\\0user\\0text number 0"), by sha256sum: a new version moves no row."""
    assert uniform(1, "user\0text number 0") == pytest.approx(int("800ba89e4b95f94b", 16) / 2**64)


def test_adding_rows_and_changing_the_order_moves_none() -> None:
    before = side_of(split(ROWS[:1000], 1, 0.2, 0.1))
    shuffled = ROWS.copy()
    random.Random(0).shuffle(shuffled)
    after = side_of(split(shuffled, 1, 0.2, 0.1))
    assert all(after[id] == side for id, side in before.items())


def test_a_changed_validation_share_moves_no_row_into_or_out_of_the_test() -> None:
    one, two = split(ROWS, 1, 0.2, 0.1), split(ROWS, 1, 0.2, 0.3)
    assert one["test"] == two["test"]


def test_copies_never_straddle() -> None:
    rows = [
        example(f"r{k}-{c}", text, str(c))
        for k in range(300)
        for c, text in enumerate(
            (f"Text number {k}!", f"text  number {k}", f"TEXT NUMBER {k}", f" text number {k}. ")
        )
    ]
    sides = side_of(split(rows, 1, 0.3, 0.3))
    for k in range(300):
        assert len({sides[f"r{k}-{c}"] for c in range(4)}) == 1
    assert set(sides.values()) == {"train", "validation", "test"}


def test_groups_never_straddle_even_through_a_common_text() -> None:
    rows = [example(f"r{k}", f"text {k}", group=f"g{k // 4}") for k in range(400)]
    linked = [example(f"c{k}", f"text {4 * k}", group=f"g{k + 50}") for k in range(50)]  # g0 ~ g50, ...
    sides = side_of(split(rows + linked, 1, 0.3, 0.3))
    for group in range(100):
        assert len({sides[f"r{4 * group + k}"] for k in range(4)}) == 1
    assert all(sides[f"c{k}"] == sides[f"r{4 * k}"] == sides[f"r{4 * (k + 50)}"] for k in range(50))


def test_rows_added_to_a_group_move_none_of_it() -> None:
    rows = [example(f"r{k}", f"text {k}", group=f"g{k // 4}") for k in range(400)]
    more = [example(f"a{k}", f"z added {k}", group=f"g{k % 100}") for k in range(300)]
    before, after = side_of(split(rows, 1, 0.3, 0.3)), side_of(split(more + rows, 1, 0.3, 0.3))
    assert all(after[id] == side for id, side in before.items())


def test_leaks_are_found_exactly() -> None:
    sides = {
        "train": [example("a", "The quick fox."), example("b", "another")],
        "validation": [example("c", "a third", line=3, file="v.csv")],
        "test": [example("d", "the QUICK  fox", "y", line=7, file="t.csv"), example("e", "the quick foxes")],
    }
    found = exact_leaks(sides, groups=False)
    assert [(one, left.id, two, right.id) for one, left, two, right in found] == [("train", "a", "test", "d")]
    assert not exact_leaks(split(ROWS, 1, 0.2, 0.1), groups=True)


def test_a_group_on_two_sides_is_a_leak_where_groups_are_asked_for() -> None:
    sides = {
        "train": [example("a", "one", group="g")],
        "validation": [],
        "test": [example("b", "two", group="g")],
    }
    assert len(exact_leaks(sides, groups=True)) == 1
    assert not exact_leaks(sides, groups=False)
    sides["validation"] = [example("c", "three", group="g")]
    sides["test"] += [example("d", "four", group="g"), example("e", "ONE", group="g"), example("f", "five")]
    found = [(one, left.id, two, right.id) for one, left, two, right in exact_leaks(sides, groups=True)]
    assert found == [
        ("train", "a", "validation", "c"),
        *(("train", "a", "test", id) for id in "bde"),  # every row that is to be taken out, each once
        *(("validation", "c", "test", id) for id in "bde"),
    ]


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("Hello,  World!", "hello, world", True),
        ("ＦＵＬＬ width", "full width", True),
        ("Straße", "STRASSE", True),
        ("a\n\tb", "a b", True),
        ("it's", "its", False),
        ("?", "!", False),
        ("5 apples", "6 apples", False),
    ],
)
def test_normalisation(one: str, two: str, same: bool) -> None:
    assert (normalise(one) == normalise(two)) is same


def test_the_roles_and_the_shape_are_part_of_the_content() -> None:
    text = Example("", (), (Answer("a"),))
    asked = Example("", (Message("user", "a"),), (Answer("a"),))
    ordered = Example("", (Message("system", "a"),), (Answer("a"),))
    assert len({content_id(text), content_id(asked), content_id(ordered)}) == 3


def test_examples_travel_through_json() -> None:
    row = example("a", "text", line=3)
    assert from_json(to_json(row)) == row
    with pytest.raises(DataError, match="Not an example"):
        from_json({"id": "a"})


def test_label_shares_are_compared_with_chance() -> None:
    def rows(ham: int, spam: int) -> list[Example]:
        return [example(f"h{k}", f"h {k}", "ham") for k in range(ham)] + [
            example(f"s{k}", f"s {k}", "spam") for k in range(spam)
        ]

    assert not label_notes({"train": rows(800, 200), "test": rows(78, 22)})
    notes = label_notes({"train": rows(800, 200), "test": rows(50, 50)})
    assert "'ham' is 80% of train but 50% of test." in notes
    new = label_notes({"train": rows(80, 0), "test": rows(79, 1)})
    assert new == [], "the rule unseen-label says it"


# With a parent run: a row that it has too keeps its side, and no test row was ever trained on.
SHARES = {"validation": 0.1, "test": 0.2}


def questions(*numbers: int, answer: str = "yes") -> list[Example]:
    return [Example(f"{answer}{n}", (Message("user", f"Q {n}?"),), (Answer(answer),)) for n in numbers]


PARENT = ParentRun(
    "runs/first", "qa", (), {"train": questions(1, 2, 3), "validation": questions(4), "test": questions(5, 6)}
)


def ids(sides: dict[str, list[Example]]) -> dict[str, list[str]]:
    return {side: [row.id for row in rows] for side, rows in sides.items()}


def test_known_rows_go_where_they_were_and_new_ones_where_the_split_puts_them() -> None:
    """Other answers to the same question are the same row; what is asked counts without case."""
    own = questions(6, 5, 4, 3, 2, 1, 7, 8, answer="no")
    sampled = {"train": own[:4], "validation": own[4:6], "test": own[6:]}
    found = inherit_split(own, sampled, PARENT, SHARES)
    assert ids(found.sides) == {
        "train": ["no3", "no2", "no1"],
        "validation": ["no4"],
        "test": ["no6", "no5", "no7", "no8"],
    }
    assert not found.sealed and "6 of 8 rows" in found.notes[0]


def test_other_rows_are_left_as_they_were_split() -> None:
    own = questions(7, 8, 9)
    sampled = {"train": own[:1], "validation": own[1:2], "test": own[2:]}
    assert inherit_split(own, sampled, PARENT, SHARES).sides == sampled


def test_pairs_of_training_rows_are_tested_on_the_rows_that_were_sealed() -> None:
    own = questions(1, 2, 3, answer="pair")
    sampled = {"train": own[:1], "validation": own[1:2], "test": own[2:]}
    found = inherit_split(own, sampled, PARENT, SHARES)
    assert found.sealed
    assert ids(found.sides) == {
        "train": ["pair1", "pair3"],
        "validation": ["pair2"],
        "test": ["yes5", "yes6"],
    }
    without = inherit_split(own, sampled, PARENT, {"validation": 0.0, "test": 0.0})
    assert not without.sealed
    assert ids(without.sides) == {"train": ["pair1", "pair2", "pair3"], "validation": [], "test": []}


def test_what_two_runs_have_trained_on_is_never_in_the_test() -> None:
    """A third run: the first of all has trained on a row that the second has sealed, as it was told to."""
    before = {"train": questions(6), "validation": [], "test": questions(3)}
    third = ParentRun("runs/second", "qa", (), PARENT.sides, before)
    own = questions(3, 6, 5, answer="no")
    sides = inherit_split(own, {"train": own, "validation": [], "test": []}, third, SHARES).sides
    assert ids(sides)["test"] == ["no5"] and ids(sides)["train"] == ["no3", "no6"]


def test_clusters_come_largest_first() -> None:
    assert connected_components(8, [(6, 7), (1, 2), (2, 3), (0, 5)]) == [[1, 2, 3], [0, 5], [6, 7]]
