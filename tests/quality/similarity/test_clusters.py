"""Split keys: near-duplicates stay together, forms do not swallow the data, and added rows move few."""

from __future__ import annotations

import random

import planted

from finetooth.data.split import CLUSTER, split_keys, uniform
from finetooth.evaluation.runner import row_groups
from finetooth.quality.similarity.clusters import merge_near_duplicate_keys, with_clusters
from finetooth.types import Example

TEXTS = planted.texts(2000, seed=21, most=3)
LONG = [text for text in TEXTS if len(text.split()) >= 12]


def keys(rows: list[Example]) -> list[str]:
    return merge_near_duplicate_keys(rows, split_keys(rows)).keys


def test_clean_rows_keep_their_keys() -> None:
    rows = planted.rows(TEXTS)
    changed = sum(one != other for one, other in zip(keys(rows), split_keys(rows), strict=True))
    assert changed <= 0.005 * len(rows)


def test_near_copies_share_the_key_of_what_they_copy() -> None:
    generator = random.Random(1)
    source = generator.sample(LONG, 100)
    plants = (lambda text: planted.edit(text, 0.1, generator), planted.wrap, planted.repunctuate)
    near = [plant(text) for text in source for plant in plants]
    rows = planted.rows([*TEXTS, *near])
    by_text = dict(zip([*TEXTS, *near], keys(rows), strict=True))
    together = [
        by_text[text] == by_text[copy]
        for text, copy in zip(sorted(source * 3, key=source.index), near, strict=True)
    ]
    assert sum(together) >= 0.98 * len(together)


def test_groups_and_near_copies_join() -> None:
    rows = planted.rows(TEXTS[:500])
    rows += [
        planted.row("a", planted.wrap(LONG[0]), group="one"),
        planted.row("b", "something else", group="one"),
        planted.row("c", LONG[0], group="two"),
        planted.row("d", "and another", group="two"),
    ]
    assert len(set(keys(rows)[-4:])) == 1
    assert len(set(split_keys(rows)[-4:])) == 2


def test_a_form_with_few_differences_is_left_apart_and_said() -> None:
    form = "Please write a short and friendly reply to the customer below, who asks about order {}, today."
    rows = planted.rows([*TEXTS[:800], *(form.format(10_000 + k) for k in range(150))])
    found = merge_near_duplicate_keys(rows, split_keys(rows))
    largest = max(found.keys.count(key) for key in set(found.keys))
    assert largest <= 0.1 * len(rows)
    assert not found.notes or "data.group" in found.notes[0]


def test_a_chain_too_long_is_cut_and_a_large_group_of_the_users_is_not() -> None:
    chain = [" ".join(f"w{k + i}" for i in range(20)) for k in range(400)]  # each row like the next
    found = merge_near_duplicate_keys(planted.rows(chain), split_keys(planted.rows(chain)))
    assert max(found.keys.count(key) for key in set(found.keys)) <= 40
    grouped = [planted.row(f"r{k}", text, group="all") for k, text in enumerate(TEXTS[:300])]
    assert len(set(keys(grouped))) == 1


def test_added_rows_move_few() -> None:
    generator = random.Random(4)
    before = planted.rows(TEXTS[:1000])
    more = planted.rows([*TEXTS[1000:], *(planted.edit(text, 0.1, generator) for text in TEXTS[:50])], "a")
    old = [uniform(0, key) for key in keys(before)]
    new = [uniform(0, key) for key in keys([*more, *before])[len(more) :]]
    moved = sum(one != other for one, other in zip(old, new, strict=True))
    assert moved <= 50 + 0.005 * len(before)


def test_near_copies_of_an_evaluated_side_are_tagged_and_count_as_one() -> None:
    generator = random.Random(5)
    copies = [planted.edit(text, 0.1, generator) for text in LONG[:40]]
    rows = planted.rows([*LONG[:200], *copies, LONG[199]])
    rows += [planted.row(f"g{k}", f"{k} of a group", group="one") for k in range(3)]
    everything = planted.rows([*LONG[:200], *copies, LONG[199], *TEXTS[:300]])
    alone = with_clusters(rows, {})
    by_split = with_clusters(
        rows[:241], dict(zip([row.id for row in everything], keys(everything), strict=True))
    )
    for found in (alone[:241], by_split):
        tagged = [row for row in found if CLUSTER in row.tags]
        assert len(tagged) >= 2 * 0.98 * len(copies)
        assert {row.tags[CLUSTER] for row in tagged} <= {row.id for row in tagged}, "named by a row of theirs"
        assert [row.tags.get(CLUSTER) for row in found[:40]] == [
            row.tags.get(CLUSTER) for row in found[200:240]
        ]
        assert CLUSTER not in found[240].tags, "an identical prompt needs no tag"
    assert not any(CLUSTER in row.tags for row in alone[241:]), "nor does a group"
    groups = row_groups(alone)
    assert groups is not None and len(rows) - len(set(groups)) >= 0.98 * len(copies) + 1 + 2
    plain = row_groups(rows)
    assert plain is not None and len(rows) - len(set(plain)) == 1 + 2, "what was known without the split"
