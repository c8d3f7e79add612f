"""Each rule about labels fires on what it is for, and on nothing that only looks alike."""

from __future__ import annotations

import pytest
from label_rows import row, topics, view

from finetooth.quality.findings import Finding, Rule, View
from finetooth.quality.rules.labels import (
    answer_not_in_set,
    label_imbalance,
    label_spelling,
    labels_are_unique,
    one_label,
    rare_label,
    unseen_label,
)
from finetooth.types import Example

RULES: tuple[Rule, ...] = (
    *(one_label, labels_are_unique, rare_label, unseen_label, label_imbalance, label_spelling),
    answer_not_in_set,
)


def counted(**counts: int) -> list[Example]:
    """Rows by label; "_" in a name is a space."""
    names = [label.replace("_", " ") for label, count in counts.items() for _ in range(count)]
    return [row(f"text number {at}", label, at) for at, label in enumerate(names)]


def labelled(*labels: tuple[str, int]) -> View:
    names = [label for label, count in labels for _ in range(count)]
    return view([row(f"text number {at}", label, at) for at, label in enumerate(names)])


def only(rule: Rule, looked: View) -> Finding:
    (finding,) = rule(looked)
    return finding


def test_good_labels_give_no_finding() -> None:
    rows = topics(120)
    assert [finding for rule in RULES for finding in rule(view(rows, test=topics(30, seed=1)))] == []


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("format", ["labels", "qa", "text"])
def test_no_rows_give_no_finding(rule: Rule, format: str) -> None:
    assert list(rule(view([], format=format))) == []


def test_one_label_blocks() -> None:
    finding = only(one_label, view(counted(spam=12)))
    assert finding.rule == "one-label" and finding.severity == "block" and "All 12" in finding.summary
    assert only(one_label, view(counted(spam=40), format="qa")).severity == "review"
    assert not list(one_label(view(counted(spam=40), format="text")))


def test_a_label_for_each_row_blocks() -> None:
    rows = [row(f"question {at}", f"answer {at}", at) for at in range(40)]
    finding = only(labels_are_unique, view(rows))
    assert finding.rule == "labels-are-unique" and finding.severity == "block"
    assert finding.facts == {"rows": 40, "labels": 40}
    some = [row(f"question {at}", f"answer {at * 6 // 10}", at) for at in range(40)]
    assert only(labels_are_unique, view(some)).severity == "review"
    for quiet in (rare_label, label_spelling, label_imbalance):
        assert not list(quiet(view(rows)))


def test_rare_labels_are_listed_with_their_rows() -> None:
    finding = only(rare_label, view(counted(a=30, b=30, c=4, d=1)))
    assert finding.severity == "review" and finding.facts["labels"] == {"d": 1, "c": 4}
    assert [hit.id for hit in finding.hits] == ["r64", "r60", "r61", "r62", "r63"]


def test_labels_that_training_never_sees() -> None:
    test = [row("one", "a", 90), row("two", "new", 91), row("three", "new", 92)]
    finding = only(unseen_label, view(counted(a=10, b=10), test=test))
    assert finding.severity == "review" and finding.facts["labels"] == {"new": 2}
    assert [(hit.id, hit.side) for hit in finding.hits] == [("r91", "test"), ("r92", "test")]


@pytest.mark.parametrize(("most", "severity"), [(90, None), (100, "info"), (499, "info"), (500, "review")])
def test_imbalance_from_ten_to_one(most: int, severity: str | None) -> None:
    found = list(label_imbalance(view(counted(ham=most, spam=10))))
    assert [finding.severity for finding in found] == ([severity] if severity else [])


def test_labels_too_rare_to_learn_are_not_called_unbalanced() -> None:
    assert not list(label_imbalance(view(counted(ham=60, eggs=50, spam=4))))


@pytest.mark.parametrize(
    ("meant", "typed"),
    [
        *(
            ("positive", "Positive"),
            ("positive", "positive."),
            ("play music", "play_music"),
            ("PlayMusic", "play music"),
        ),
        *(
            ("refund", "refunds"),
            ("category", "categories"),
            ("positive", "postive"),
            ("negative", "negatvie"),
        ),
        *(("card_arrival", "card_arival"), ("cancellation", "cancelation"), ("restaurant", "restarant")),
        *(("technical support", "tehcnical suport"), ("level 10", "Level 10"), ("Straße", "STRASSE")),
    ],
)
def test_a_spelling_of_another_label_is_found(meant: str, typed: str) -> None:
    finding = only(label_spelling, labelled((meant, 40), ("other", 40), (typed, 2)))
    assert finding.facts["spellings"] == {typed: meant} and finding.severity == "review"
    assert [hit.id for hit in finding.hits] == ["r80", "r81"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *(
            ("ham", "spam"),
            ("card_arrival", "card_activation"),
            ("PlayMusic", "AddToPlaylist"),
            ("num", "enty"),
        ),
        *(
            ("positive", "negative"),
            ("A", "B"),
            ("a", "as"),
            ("C", "C++"),
            ("C#", "C"),
            ("A", "A-"),
            ("1", "-1"),
            ("1.0", "10"),
        ),
        *(("level 1", "level 2"), ("grade 10", "grade 11"), ("supported", "unsupported"), ("male", "female")),
        *(("increased", "decreased"), ("relevant", "irrelevant"), ("price_increase", "price_decrease")),
        *(
            ("oil change how", "oil change when"),
            ("yes", "yes, but"),
            ("gas", "gas type"),
            ("😀", "😡"),
            ("+", "-"),
        ),
    ],
)
def test_different_labels_are_no_spelling_of_one_another(one: str, other: str) -> None:
    assert not list(label_spelling(labelled((one, 40), ("third", 40), (other, 2))))


def test_frequent_labels_that_are_close_are_both_meant() -> None:
    assert not list(label_spelling(labelled(("maximise", 40), ("maximize", 30))))
    assert not list(label_spelling(labelled(("refund", 40), ("refunds", 30))))


def test_a_spelling_on_the_test_side_is_found() -> None:
    finding = only(label_spelling, view(counted(ham=20, spam=20), test=[row("x", "Spam", 99)]))
    assert [(hit.id, hit.side) for hit in finding.hits] == [("r99", "test")]


def test_answers_outside_the_set_that_the_others_use() -> None:
    rows = [row(f"question {at}", "yes" if at % 2 else "No.", at) for at in range(100)]
    rows[40] = row("question 40", "Probably not, given the weather", 40)
    finding = only(answer_not_in_set, view(rows, format="qa"))
    assert [hit.id for hit in finding.hits] == ["r40"] and finding.severity == "review"
    assert not list(answer_not_in_set(view(rows, format="labels")))


def test_free_answers_are_no_set() -> None:
    rows = [row(f"question {at}", f"answer {at // 3}", at) for at in range(120)]
    assert not list(answer_not_in_set(view(rows, format="qa")))
    same = [row(f"question {at}", "none" if at else "some", at) for at in range(120)]
    assert not list(answer_not_in_set(view(same, format="qa")))
