"""What changed between two versions of the same rows: each row counts once, and order does not."""

from __future__ import annotations

import random

from finetooth.data.row_changes import compare_rows
from finetooth.types import Answer, Example, Message


def row(id: str, text: str, answer: str = "a") -> Example:
    return Example(id, (Message("user", text),), (Answer(answer),), {"file": "a.csv", "line": 2})


def test_every_edit_is_found_and_the_rest_is_unchanged() -> None:
    draw = random.Random(1)
    old = [row(f"r{k}", f"{draw.random()} and {draw.random()} of {k}", "ab"[k % 2]) for k in range(200)]
    new = [*old, row("r0-2", old[0].target)]
    new[0] = row("r0", "wholly another text")  # known by its id
    new[1] = row("x1", old[1].context[0].content, "other")  # by its prompt
    new[2] = row("x2", old[2].context[0].content + " indeed")  # by most of its text
    del new[3]
    draw.shuffle(new)
    changes = compare_rows(old, new)
    assert {(was.id, now.id) for was, now in changes.edited} == {("r0", "r0"), ("r1", "x1"), ("r2", "x2")}
    assert [one.id for one in changes.added] == ["r0-2"] and [one.id for one in changes.removed] == ["r3"]
    assert changes.words().startswith("1 row added, 3 edited, 1 removed; the first: ")


def test_copies_count_and_ids_tags_and_order_do_not() -> None:
    two = [row("a", "same"), row("b", "same"), row("c", "else")]
    changes = compare_rows(two, [row("z", "else"), row("y", "same")])
    assert (len(changes.added), len(changes.edited), len(changes.removed)) == (0, 0, 1)
    assert changes.words() == "1 row removed."
    assert "say the same as before" in compare_rows(two, two[::-1]).words()
