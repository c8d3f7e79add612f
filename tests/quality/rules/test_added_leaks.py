"""Added rows that are nearly held-out rows are refused, clean ones hardly ever; no sealed row is shown."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import planted
import pytest

from finetooth.config.task import DataConfig
from finetooth.data.split import ADDED
from finetooth.errors import ConfigError
from finetooth.quality.findings import View
from finetooth.quality.gate import inspect, require_known
from finetooth.quality.rules.added_leaks import added_leaks
from finetooth.types import Example

TEXTS = planted.texts(1300, seed=11, most=3)
TRAIN = planted.rows(TEXTS[:500])
HELD = planted.rows(TEXTS[500:900], "t")
CLEAN = planted.rows(TEXTS[900:], "c")
LONG = [row for row in HELD if len(row.context[0].content.split()) >= 12]


def view(added: Sequence[Example], **changes: Any) -> View:
    rows = [replace(row, tags={**row.tags, "file": "next.jsonl", ADDED: "next.jsonl"}) for row in added]
    sides = {"train": [*TRAIN, *rows], "validation": HELD[:200], "test": HELD[200:]}
    return replace(View(sides, "labels", DataConfig(train="a.jsonl")), **changes)


def refused(added: Sequence[Example]) -> set[str]:
    return {hit.id for finding in added_leaks(view(added)) for hit in finding.hits}


@pytest.mark.parametrize(
    ("plant", "least"),
    [
        (planted.recase, 1.0),
        (lambda text, generator: planted.edit(text, 0.1, generator), 0.98),
        (lambda text, generator: planted.edit(text, 0.2, generator), 0.98),
        (lambda text, generator: planted.edit(text, 0.3, generator), 0.95),
        (lambda text, generator: planted.wrap(text), 0.98),
        (planted.half, 0.95),
    ],
    ids=["case", "10%", "20%", "30%", "prefix", "half"],
)
def test_near_copies_are_refused_whatever_their_answer_is(
    plant: Callable[[str, random.Random], str], least: float
) -> None:
    """Among clean rows, which are told apart."""
    generator = random.Random(3)
    rows = [
        planted.row(f"p{k}", plant(row.context[0].content, generator), "another")
        for k, row in enumerate(generator.sample(LONG, 100))
    ]
    found = refused([*CLEAN[:100], *rows])
    assert len(found & {row.id for row in rows}) >= least * len(rows)
    assert len(found - {row.id for row in rows}) <= 1


def test_every_row_of_a_held_out_group_and_every_copy_is_named() -> None:
    group = {**HELD[210].tags, "group": "customer 7"}
    sides = {"train": [], "validation": HELD[:200], "test": [*HELD[200:], replace(HELD[210], tags=group)]}
    tags = {"file": "next.jsonl", ADDED: "next.jsonl"}
    rows = [replace(row, tags={**tags, "group": "customer 7"}) for row in CLEAN[:3]]
    copies = [replace(HELD[5], id=f"copy {at}", tags=tags) for at in range(3)]
    added = [*CLEAN[10:20], *rows, *copies]
    added = [replace(row, tags={**tags, **row.tags}) for row in added]
    named = {"train": [*TRAIN, *added]}
    found = {hit.id for one in added_leaks(view([], sides=sides | named)) for hit in one.hits}
    assert found == {row.id for row in (*rows, *copies)}
    shared = [replace(TRAIN[0], tags={**TRAIN[0].tags, "group": "customer 7"}), *TRAIN[1:]]
    named = {"train": [*shared, *added]}
    found = {hit.id for one in added_leaks(view([], sides=sides | named)) for hit in one.hits}
    assert found == {row.id for row in copies}, "the group is in training anyway"


def test_clean_rows_are_hardly_ever_refused() -> None:
    assert len(refused(CLEAN)) <= 0.01 * len(CLEAN)
    assert not list(added_leaks(view([])))


def test_short_questions_of_common_words_are_not_refused() -> None:
    places = [f"{look}ville" for look in planted.LOOK] + [f"{thing}ton" for thing in planted.THING]
    frames = ("is there a travel alert for {}", "how long will it take to get to {}", "book a room in {}")
    asked = [frame.format(place) for place in places for frame in frames]
    random.Random(0).shuffle(asked)
    rows = planted.rows(asked, labels=("yes",))
    added = [replace(row, tags={**row.tags, ADDED: "next.jsonl"}) for row in rows[180:]]
    sides = {"train": [*rows[:90], *added], "validation": [], "test": rows[90:180]}
    assert not list(added_leaks(view([], sides=sides)))


def test_the_rest_of_the_report_shows_no_sealed_row_beside_an_added_one() -> None:
    """All rules, for exact and near copies of sealed rows with another answer."""
    sealed = "The lighthouse keeper of Zanzibar polished eleven lamps before the storm reached the harbour"
    answer = "xylophone"
    rows = [planted.row("near", f"Tell me: {sealed}", "no"), planted.row("exact", sealed.upper(), "no")]
    looking = view(rows)
    held = [*HELD[200:], planted.row("secret", sealed, answer, label=answer)]
    sides = {**looking.sides, "test": held}
    findings = [one for one in inspect(replace(looking, sides=sides)) if one.rule != "unseen-label"]
    (leak,) = (finding for finding in findings if finding.rule == "added-leak")
    assert leak.severity == "block" and {hit.id for hit in leak.hits} == {"near", "exact"}
    assert "2 of 2 added or reworded rows repeat rows of the sealed test" in leak.summary
    assert leak.fix == "Remove these rows from next.jsonl."
    assert all(hit.evidence.endswith(" a row of the sealed test") for hit in leak.hits)
    shown = [hit for finding in findings for hit in finding.hits if "secret" in (hit.id, hit.other)]
    assert not [hit for hit in shown if answer in hit.evidence or "Zanzibar" in hit.evidence]
    assert not [one for one in findings if one.rule in ("leak", "possible-leak")]


def test_a_row_of_a_held_out_group_is_refused() -> None:
    row = planted.row("mine", "something else entirely", "yes", group="g7")
    looking = view([row], config=DataConfig(train="a.jsonl", group="who"))
    other = replace(HELD[0], tags={**HELD[0].tags, "group": "g7"})
    sides = {**looking.sides, "validation": [other, *HELD[1:200]]}
    (finding,) = added_leaks(replace(looking, sides=sides))
    assert [hit.evidence for hit in finding.hits] == ["in the same group as the validation row t0"]


def test_it_cannot_be_allowed() -> None:
    with pytest.raises(ConfigError, match="remove these rows from the change set"):
        require_known(["added-leak"])
