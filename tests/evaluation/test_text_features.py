"""Conditions from the text of a question: each holds the rows that a reader would put there."""

from __future__ import annotations

import numpy as np
import pytest

from finetooth.evaluation.text_features import FORMS, script, text_conditions

FEATURES = {
    "a number in the question": (["Order 66", "in 2024"], ["order sixty-six"]),
    "a question mark in the question": (["Why?", "为什么？", "Why? Tell me."], ["Why."]),
    "a link or e-mail address in the question": (
        ["see https://example.com/help", "ask ada.l@b.de now", "www.shop.com"], ["a @ b", "e.g. this"]
    ),
    "a word in capitals in the question": (["It is LATE", "the USA"], ["I am", "A thing", "Iphone"]),
    "no capital letters in the question": (["where is it", "où est-il"], ["Where", "1234", "hi Ada", "日本"]),
    "several sentences in the question": (
        ["It broke. What now?", "坏了。怎么办"], ["It costs 3.50 now.", "One."]
    ),
    "several lines in the question": (["one\ntwo"], ["one\n", "one two"]),
    "accented letters in the question": (["café", "Ärger"], ["cafe", "привет", "it’s"]),
}  # fmt: skip


@pytest.mark.parametrize("words", [words for words, _ in FORMS])
def test_forms(words: str) -> None:
    has = dict(FORMS)[words]
    with_it, without = FEATURES[words]
    assert all(map(has, with_it)) and not any(map(has, without))


def test_scripts_and_languages_are_groups_only_where_there_are_several() -> None:
    german = "Wo ist meine Bestellung, die ich vorige Woche bezahlt habe, und wann kommt sie endlich an"
    english = "Where is the order that I paid for last week, and when will it finally be delivered to me"
    russian = "Где мой заказ, который я оплатил на прошлой неделе, и когда его наконец доставят"
    texts = [german] * 30 + [english] * 60 + [russian] * 25
    found = dict(text_conditions(texts, 20))
    assert found["in German"].sum() == 30 and found["in German"][:30].all()
    assert found["in English"].sum() == 60 and found["Cyrillic script"].sum() == 25
    alone = dict(text_conditions([english] * 60, 20))
    assert not [words for words in alone if words.startswith("in ") or words.endswith("script")]
    assert [script(text) for text in ("abc", "абв a", "12", "日本語")] == ["Latin", "Cyrillic", "", "Cjk"]


def test_frequent_words_are_those_that_say_something() -> None:
    texts = ["What is the REFUND for my card"] * 30 + ["who can't help me"] * 25 + ["the card’s late"] * 5
    found = dict(text_conditions(texts, 20))
    words = {words.split('"')[1] for words in found if words.endswith('" in the question')}
    assert words == {"what", "refund", "card", "who", "can't", "help"}
    assert found['"refund" in the question'].sum() == 30
    assert found['the question begins with "who"'].sum() == 25


def test_conditions_have_support_inside_and_outside() -> None:
    random = np.random.default_rng(0)
    words = [f"w{'abcdefgh'[i % 8]}{'abcdefgh'[i // 8]}" for i in range(64)]
    texts = [" ".join(random.choice(words, 8)) for _ in range(300)]
    found = dict(text_conditions(texts, 20))
    assert all(20 <= mask.sum() <= 280 for mask in found.values())
    assert 50 < sum('" in the question' in name for name in found) <= 60
    assert text_conditions([], 20) is not None and dict(text_conditions([], 20)) == {}
