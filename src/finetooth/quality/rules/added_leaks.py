"""The rule `added-leak`: added or reworded training rows that are nearly held-out rows.

It is stricter than `leak`, which judges rows that the user has collected: rows that are chosen for what the
model got wrong come from people and models who have seen wrong answers, and another row can take their place.
So an edited copy or a passage is refused whatever its answer is, and no rule can be overridden. What the row
repeats is not shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal

from finetooth.config.values import first_few, format_count_of, plural
from finetooth.data.examples import normalised_context
from finetooth.data.split import ADDED, leak_keys
from finetooth.quality.findings import Finding, Hit, View, question
from finetooth.quality.rules.leaks import (
    BASE,
    NOT_CHECKED,
    ORDINARY,
    ORDINARY_BEYOND,
    Leak,
    numbers_agree,
    strongest,
)
from finetooth.quality.similarity.near import SimilarPair, find_similar_pairs
from finetooth.quality.similarity.near_duplicates import Row
from finetooth.quality.similarity.strength import Strength, exact_strength, pair_strength
from finetooth.types import Example

HELD_OUT = ("validation", "test")


def added_leaks(view: View) -> Iterator[Finding]:
    """`added-leak` (block): an added or reworded row that is a copy, an edited copy or a passage of a
    validation row or a row of the sealed test.
    """
    added = [row for row in view.sides.get("train", ()) if ADDED in row.tags]
    held = [(side, row) for side in HELD_OUT for row in view.sides.get(side, ())]
    if not (added and held):
        return
    found = strongest(repeats(view, added, held))
    if not found:
        return
    sides = Counter(leak.one[0] for leak in found)
    names = {"validation": "validation rows", "test": "rows of the sealed test"}
    where = " or ".join(names[side] for side in HELD_OUT if side in sides)
    files = list(dict.fromkeys(str(leak.other[1].tags[ADDED]) for leak in found))
    yield Finding(
        "added-leak",
        "block",
        f"{format_count_of(len(found), len(added), 'added or reworded row')} "
        f"{plural(len(found), 'repeats', 'repeat')} {where}, so a score on these would measure memory, not "
        f"skill. {NOT_CHECKED}",
        tuple(_hit(leak) for leak in found),
        f"Remove {plural(len(found), 'this row', 'these rows')} from {first_few(files, 5)}.",
        facts={"rows": len(found), "added": len(added), "by_side": dict(sides)},
    )


def _hit(leak: Leak) -> Hit:
    """The added row; of the row that it repeats no more than where it is."""
    side, row = leak.one
    where = "a row of the sealed test" if side == "test" else f"the validation row {row.id}"
    return Hit.of(leak.other[1], "train", f"{leak.words} {where}")


def repeats(view: View, added: Sequence[Example], held: Sequence[Row]) -> list[Leak]:
    """The added rows that repeat a held-out row, each once. held: the held-out rows with their sides."""
    found: dict[str, Leak] = {}
    train = [row for row in view.sides["train"] if ADDED not in row.tags]
    # A group that training has anyway is not held out: then the files were divided in another way.
    shared = {key for row in train for key in leak_keys(row, groups=True)[1:]}
    by_key: dict[str, Row] = {}
    for one in held:
        for key in leak_keys(one[1], groups=True):
            by_key.setdefault(key, one)
    for row in added:
        for key in leak_keys(row, groups=True):
            if key not in shared and key in by_key:
                copied = by_key[key]
                same = normalised_context(row) == normalised_context(copied[1])
                strength: Strength | Literal["group"] = exact_strength(row, copied[1]) if same else "group"
                found.setdefault(row.id, Leak(copied, ("train", row), strength))
    # Training rows are there to tell what all rows have in common, as a template; a sample of them does.
    rows = [*held, *(("train", row) for row in (*added, *train[:: max(1, len(train) // BASE)]))]
    numbers = [0] * len(held) + [1] * len(added)
    numbers += [2] * (len(rows) - len(numbers))
    for pair in find_similar_pairs([question(row) for _, row in rows], numbers):
        if (numbers[pair.one], numbers[pair.other]) != (0, 1) or rows[pair.other][1].id in found:
            continue
        one, other = rows[pair.one], rows[pair.other]
        if (judged := _judge(pair, one[1], other[1])) is not None:
            found[other[1].id] = Leak(one, other, *judged)
    return list(found.values())


def _judge(pair: SimilarPair, one: Example, other: Example) -> tuple[Strength, float] | None:
    """How a row repeats the other one, and the share of the words; None if it does not."""
    measured = pair_strength(pair, one, other)
    if measured is None or pair.tier in ("copy", "words"):
        return measured
    strength, _ = measured
    numbers = numbers_agree(question(one), question(other))
    if pair.words >= ORDINARY:
        return measured if numbers or strength != "similar" else None
    if strength == "similar" or not numbers:
        return None
    return measured if strength == "partial" or pair.chance_ratio >= ORDINARY_BEYOND else None
