"""Near-duplicates: planted ones are found (B1, B2), unlike texts are not, whatever form they share."""

from __future__ import annotations

import random
from collections.abc import Callable

import planted
import pytest

from finetooth.quality.similarity.anchors import split_words
from finetooth.quality.similarity.near import SimilarPair, find_similar_pairs, prose

TEXTS = planted.texts(2000, seed=1, most=3)
LONG = [text for text in TEXTS if len(text.split()) >= 12]

FULL = pytest.mark.full


def found(plant: Callable[[str, random.Random], str], count: int = 200) -> float:
    """The share of planted texts that are paired with the text that they were made from."""
    generator = random.Random(7)
    source = generator.sample(LONG, count)
    sides = [0] * len(TEXTS) + [1] * count
    pairs = find_similar_pairs([*TEXTS, *(plant(text, generator) for text in source)], sides)
    met = {
        (TEXTS[pair.one], pair.other - len(TEXTS)) for pair in pairs if pair.one < len(TEXTS) <= pair.other
    }
    return sum((text, k) in met for k, text in enumerate(source)) / count


@pytest.mark.parametrize(
    ("plant", "least"),
    [
        pytest.param(planted.recase, 1.0, marks=FULL),
        (lambda text, generator: planted.repunctuate(text), 1.0),
        pytest.param(lambda text, generator: planted.edit(text, 0.1, generator), 0.98, marks=FULL),
        pytest.param(lambda text, generator: planted.edit(text, 0.2, generator), 0.98, marks=FULL),
        (lambda text, generator: planted.edit(text, 0.3, generator), 0.95),
        pytest.param(lambda text, generator: planted.wrap(text), 0.98, marks=FULL),
        (planted.half, 0.95),
    ],
    ids=["case", "punctuation", "10%", "20%", "30%", "prefix", "half"],
)
def test_planted_copies_are_found(plant: Callable[[str, random.Random], str], least: float) -> None:
    assert found(plant) >= least


def test_texts_that_share_words_and_frames_by_chance_are_not_paired() -> None:
    """Of 2 million pairs of sentences from one grammar."""
    assert len(find_similar_pairs(TEXTS)) <= 0.01 * len(TEXTS)
    assert not [
        pair for pair in find_similar_pairs(planted.texts(1000, seed=2, least=3, most=8)) if pair.close
    ]


def test_a_form_that_all_rows_share_pairs_none_and_hides_none() -> None:
    form = "You are a careful clerk. Read the complaint below, think about it, then name its department. "
    plain = [f"{form}Complaint: {text}" for text in TEXTS[:600]]
    assert len(find_similar_pairs(plain)) <= 0.01 * len(plain)
    again = planted.edit(TEXTS[17], 0.2, random.Random(3))
    assert (17, 600) in {
        (pair.one, pair.other) for pair in find_similar_pairs([*plain, f"{form}Complaint: {again}"])
    }


def test_many_copies_of_one_text_are_all_linked() -> None:
    """More near-copies than an anchor may have: they are still paired with some of each other."""
    generator = random.Random(5)
    copies = [planted.edit(LONG[0], 0.1, generator) for _ in range(100)]
    pairs = find_similar_pairs([*TEXTS, *copies])
    linked = {
        at for pair in pairs for at in (pair.one, pair.other) if min(pair.one, pair.other) >= len(TEXTS)
    }
    assert len(linked) == 100


def test_exact_copies_have_the_first_tier_and_punctuation_the_second() -> None:
    texts = [
        "What is my balance?",
        "what is  my BALANCE",
        "What's the time, please?",
        "Whats the time please",
    ]
    assert [(pair.one, pair.other, pair.tier) for pair in find_similar_pairs(texts)] == [
        (0, 1, "copy"),
        (2, 3, "words"),
    ]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("it's late, isn't it?", "its late isnt it", True),
        ("a well-known “name”", "a well known name", True),
        ("x > 5", "x < 5", False),
        ("it is -5 degrees", "it is 5 degrees", False),
        ("3.5 kg", "35 kg", False),
        ("C++", "C", False),
    ],
)
def test_prose_keeps_the_signs_that_mean_something(one: str, other: str, same: bool) -> None:
    assert (prose(one) == prose(other)) is same


def test_short_questions_with_the_same_frame_are_not_paired() -> None:
    """In a set of 2,000: what these share is what chance gives."""
    asked = [f"what is the {look} {thing}" for look in planted.LOOK for thing in planted.THING]
    assert not find_similar_pairs(asked)


def test_other_scripts_have_words() -> None:
    assert split_words("東京は晴れ") == ["東", "京", "は", "晴", "れ"]
    assert split_words("Don’t STOP naïve café") == ["dont", "stop", "naïve", "café"]


def test_the_order_of_the_texts_changes_no_pair_and_empty_texts_have_none() -> None:
    generator = random.Random(2)
    texts = [*TEXTS[:300], *(planted.edit(text, 0.2, generator) for text in TEXTS[:50]), "", "  ", "?", "?"]
    order = list(range(len(texts)))
    generator.shuffle(order)
    shuffled = find_similar_pairs([texts[at] for at in order])

    def named(pair: SimilarPair) -> tuple[int, int]:
        low, high = sorted((order[pair.one], order[pair.other]))
        return low, high

    straight = {(pair.one, pair.other) for pair in find_similar_pairs(texts)}
    assert {named(pair) for pair in shuffled} == straight
    assert find_similar_pairs(texts) == find_similar_pairs(texts)
    assert find_similar_pairs([]) == [] == find_similar_pairs(["", " "])


def test_many_copies_near_many_other_texts_are_not_each_paired_with_each() -> None:
    generator = random.Random(4)
    near = [planted.edit(LONG[0], 0.1, generator) for _ in range(60)]
    texts = [*TEXTS, *([LONG[0]] * 1_000), *near]
    sides = [k % 2 for k in range(len(texts))]
    pairs = find_similar_pairs(texts, sides)
    assert len(pairs) < 2 * len(texts), "each with each were 17,000"
    across = {k for pair in pairs for k in (pair.one, pair.other) if sides[pair.one] != sides[pair.other]}
    assert {k for k in range(len(TEXTS), len(texts)) if sides[k]} <= across, "every later text has one"
