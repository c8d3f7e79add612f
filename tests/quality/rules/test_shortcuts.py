"""Planted shortcuts are found with what gives the answer away; texts without one give no finding."""

from __future__ import annotations

import random

import pytest
from label_rows import LABELS, row, topics, view, words

from finetooth.quality.findings import Finding, Rule, View
from finetooth.quality.rules.shortcuts import (
    copied_answer,
    first_token_shortcut,
    label_in_text,
    length_shortcut,
)
from finetooth.types import Example

RULES: tuple[Rule, ...] = (length_shortcut, first_token_shortcut, label_in_text, copied_answer)


def only(rule: Rule, looked: View) -> Finding:
    (finding,) = rule(looked)
    return finding


def changed(rows: list[Example], text: str) -> list[Example]:
    """The rows with `{text}` and `{label}` filled into another text."""
    return [
        row(text.format(text=example.context[0].content, label=example.target), example.target, at)
        for at, example in enumerate(rows)
    ]


@pytest.mark.parametrize("format", ["labels", "qa", "text"])
def test_texts_without_a_shortcut_give_no_finding(format: str) -> None:
    assert [finding for rule in RULES for finding in rule(view(topics(400), format=format))] == []


def lengths(middles: tuple[int, ...], spread: int) -> list[Example]:
    """Rows of as many labels as middles, with about so many words each."""
    rng = random.Random(0)
    pool = words(rng, 50)
    return [
        row(
            " ".join(rng.choices(pool, k=max(1, round(rng.gauss(middles[at % len(middles)], spread))))),
            LABELS[at % len(middles)],
            at,
        )
        for at in range(600)
    ]


@pytest.mark.parametrize(
    ("middles", "spread", "severity"),
    [((10, 30), 3, "review"), ((10, 20), 5, "info"), ((20, 20), 5, None), ((5, 15, 40, 80), 2, "review")],
)
def test_the_length_tells_the_label(middles: tuple[int, ...], spread: int, severity: str | None) -> None:
    found = list(length_shortcut(view(lengths(middles, spread))))
    assert [finding.severity for finding in found] == ([severity] if severity else [])
    if severity == "review":
        assert found[0].facts["score"] > 0.9 and found[0].facts["guessing"] == 1 / len(middles)


def test_length_is_judged_with_each_label_counting_the_same() -> None:
    """Nine in ten are right by always saying ham: that is no shortcut."""
    rows = topics(600, ("ham", "spam"), shares=(0.9, 0.1))
    assert not list(length_shortcut(view(rows)))


def test_the_first_word_gives_a_label_away() -> None:
    rows = topics(200)
    marked = [
        changed([example], "Re: {text}")[0] if example.target == "billing" else example for example in rows
    ]
    finding = only(first_token_shortcut, view(marked))
    assert finding.severity == "review" and "'re:'" in finding.summary
    assert len(finding.hits) == sum(example.target == "billing" for example in rows)


def test_a_first_word_of_all_labels_gives_nothing_away() -> None:
    assert not list(first_token_shortcut(view(changed(topics(200), "Re: {text}"))))


def test_texts_that_name_their_label() -> None:
    finding = only(label_in_text, view(changed(topics(100), "[{label}] {text}")))
    assert finding.severity == "review" and finding.facts["naming"] == 100


def test_texts_that_name_all_labels_name_none() -> None:
    asked = "Which of " + ", ".join(LABELS) + " is this? {text}"
    assert not list(label_in_text(view(changed(topics(100), asked))))


def pairs(count: int = 60) -> list[tuple[str, str]]:
    """Questions and answers of words of their own."""
    rng = random.Random(5)
    pool = words(rng, 400)
    return [(" ".join(rng.choices(pool, k=12)), " ".join(rng.choices(pool, k=8))) for _ in range(count)]


def asked(texts: list[tuple[str, str]]) -> View:
    return view([row(question, answer, at) for at, (question, answer) in enumerate(texts)], format="qa")


def test_unanswered_rows_are_listed() -> None:
    texts = pairs()
    texts[7] = (texts[7][0], texts[7][0].upper() + ".")
    finding = only(copied_answer, asked(texts))
    assert finding.severity == "review" and [hit.id for hit in finding.hits] == ["r7"]


def test_a_task_of_echoes() -> None:
    finding = only(copied_answer, asked([(question, question) for question, _ in pairs()]))
    assert finding.severity == "review" and "repeat" in finding.summary


def test_passages_of_the_question_are_extraction() -> None:
    texts = [(question, " ".join(question.split()[3:8])) for question, _ in pairs()]
    finding = only(copied_answer, asked(texts))
    assert finding.severity == "info" and finding.facts["copied"] == 60 and not finding.hits


def test_short_answers_are_no_copies() -> None:
    assert not list(copied_answer(asked([(question, question.split()[0]) for question, _ in pairs()])))


def test_labels_too_many_to_look_for_are_left_alone() -> None:
    """One pattern of all names would be as long as they are together."""
    many = [row(f"{name}: it is so", name, at) for at, name in enumerate(words(random.Random(1), 600) * 2)]
    assert not list(label_in_text(view(many)))
    (finding,) = label_in_text(view(many[:400] + many[600:1_000]))
    assert finding.severity == "review"
