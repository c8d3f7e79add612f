"""Splits: by hash, stable when rows are added, copies and groups together, leaks found exactly."""

from __future__ import annotations

import random

import pytest

from finetooth.data.examples import content_id, from_json, normalise, to_json
from finetooth.data.split import label_notes, leaks, split_keys, uniform
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
    found = leaks(sides, groups=False)
    assert [(one, left.id, two, right.id) for one, left, two, right in found] == [("train", "a", "test", "d")]
    assert not leaks(split(ROWS, 1, 0.2, 0.1), groups=True)


def test_a_group_on_two_sides_is_a_leak_where_groups_are_asked_for() -> None:
    sides = {
        "train": [example("a", "one", group="g")],
        "validation": [],
        "test": [example("b", "two", group="g")],
    }
    assert len(leaks(sides, groups=True)) == 1
    assert not leaks(sides, groups=False)
    sides["validation"] = [example("c", "three", group="g")]
    sides["test"] += [example("d", "four", group="g"), example("e", "ONE", group="g"), example("f", "five")]
    found = [(one, left.id, two, right.id) for one, left, two, right in leaks(sides, groups=True)]
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
