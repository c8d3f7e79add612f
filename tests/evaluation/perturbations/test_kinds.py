"""Perturbations change what they say, the same for the same seed, and never what bears the answer."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import get_args

import pytest

from finetooth.config.evaluate_keys import Perturbation
from finetooth.evaluation.perturbations.kept import Kept, question
from finetooth.evaluation.perturbations.kinds import KINDS, OF_LABELS, Perturbed, added_rows, perturbed
from finetooth.evaluation.perturbations.robustness import ALL_KINDS
from finetooth.types import Answer, Example, Message

LABELS = ("billing", "delivery", "lost parcel")
SENTENCES = [
    "I don't know why invoice 20412 of 12.50 euros came twice, please check it.",
    "Hello, Maria asked whether it is going to arrive on the 14th. Thank you!",
    "we have not received anything; they will not answer",
    "Write to help@example.com or see https://example.com/track?id=77.",
    "Können Sie mir bitte sagen, wann das Paket kommt?",
]


def row(text: str, label: str = "billing", id: str = "r", labels: bool = True) -> Example:
    context = (Message("system", "You sort. Do not guess."), Message("user", "before"),
               Message("assistant", "yes?"), Message("user", text))  # fmt: skip
    return Example(id, context, (Answer(label),), {"label": label} if labels else {})


def rows(n: int = 60, template: str = "{}") -> list[Example]:
    draw = random.Random(n)
    found = []
    for at in range(n):
        text = " ".join(draw.choices(SENTENCES, k=draw.randrange(1, 4)))
        found.append(row(template.format(text), draw.choice(LABELS), f"r{at}"))
    return found


def all_perturbed(
    examples: Sequence[Example], kept: Kept, seed: int = 1
) -> list[tuple[str, Example, Perturbed]]:
    return [
        (kind, one, changed)
        for kind in KINDS
        for one in examples
        if (changed := perturbed(one, kind, seed, kept)) is not None
    ]


def test_kinds_are_those_of_the_task_key() -> None:
    assert set(get_args(Perturbation)) == set(ALL_KINDS)


def test_every_kind_changes_the_last_question_alone_and_says_what() -> None:
    examples = rows()
    kept = Kept.of(examples, LABELS)
    found = all_perturbed(examples, kept)
    assert {kind for kind, _, _ in found} == {*KINDS}
    for kind, one, changed in found:
        other = changed.example
        assert other.context[:-1] == one.context[:-1], kind
        assert (other.answers, other.tags, other.id) == (one.answers, one.tags, one.id)
        before, after = question(one), question(other)
        assert before != after
        at, rebuilt = 0, ""
        for place, old, new in changed.changes:  # put into the text, the changes give the other one
            assert before.startswith(old, place) and old != new
            rebuilt += before[at:place] + new
            at = place + len(old)
        assert rebuilt + before[at:] == after, (kind, before, after)


def test_the_same_seed_gives_the_same_rows_and_another_does_not() -> None:
    examples = rows()
    kept = Kept.of(examples, LABELS)
    assert all_perturbed(examples, kept) == all_perturbed(examples, kept)
    sides = zip(all_perturbed(examples, kept), all_perturbed(examples, kept, 2), strict=True)
    differ = [one for one, other in sides if one != other]
    assert {kind for kind, _, _ in differ} >= {"typos", "case", "whitespace", "names", "numbers"}
    alone = perturbed(examples[7], "typos", 1, kept)
    assert alone == perturbed(examples[7], "typos", 1, kept) and alone in [
        c for _, _, c in all_perturbed(examples, kept)
    ]


@pytest.mark.parametrize(
    ("kind", "text", "wanted"),
    [
        ("punctuation", "Well, is it 12.50? Yes!", "Well is it 12.50 Yes"),
        ("punctuation", "no marks here", "no marks here."),
        (
            "contractions",
            "I don't think it's the one, we'll see",
            "I do not think it is the one, we will see",
        ),
        ("contractions", "I cannot pay and they will not help", "I can't pay and they won't help"),
        ("contractions", "It is not what it is.", "It isn't what it is."),
        ("contractions", "the dog's bone", None),
        ("names", "Ask the billing team", None),
        ("numbers", "room 1 and 0 rooms", None),
    ],
)
def test_a_kind_does_what_it_says(kind: str, text: str, wanted: str | None) -> None:
    changed = perturbed(row(text, "delivery"), kind, 1, Kept())
    assert (changed and question(changed.example)) == wanted


def test_typos_stay_within_words_and_are_few() -> None:
    text = "yesterday morning nobody answered although several customers telephoned again about their parcels"
    for seed in range(50):
        changed = perturbed(row(text), "typos", seed, Kept())
        assert changed is not None and len(changed.changes) == 1
        ((_, old, new),) = changed.changes
        assert (
            old in text.split() and (old[0], old[-1]) == (new[0], new[-1]) and abs(len(old) - len(new)) <= 1
        )


def test_names_and_numbers_change_alike_throughout_and_keep_their_kind() -> None:
    text = "Peter called. Peter paid 1,250.75 for order 83 on day 4, said Anna"
    for seed in range(20):
        names = perturbed(row(text), "names", seed, Kept())
        numbers = perturbed(row(text), "numbers", seed, Kept())
        assert names is not None and numbers is not None
        first, second, third = (new for *_, new in names.changes)
        assert first == second != third and "Peter" not in question(names.example)
        found = re.findall(r"[\d.,]*\d", question(numbers.example))
        assert [re.sub(r"\d", "0", one) for one in found] == ["0,000.00", "00", "0"] and found[0][0] == "1"


def test_names_and_numbers_are_for_labels_only() -> None:
    """What a generated answer says may follow from a number that it does not hold."""
    free = row("What is 12 plus 30, Peter?", "forty-two", labels=False)
    assert not any(perturbed(free, kind, 1, Kept()) for kind in OF_LABELS)
    assert all(perturbed(row("What is 12 plus 30, Peter?"), kind, 1, Kept()) for kind in OF_LABELS)


def test_the_template_of_a_task_stays() -> None:
    template = "Sort this message:\nsubject: {}\n\nWhich team should read it? Answer with one word."
    examples = rows(template=template)
    head, tail = template.split("{}")
    for kind, _, changed in all_perturbed(examples, Kept.of(examples, LABELS)):
        text = question(changed.example)
        assert text.startswith(head) and text.endswith(tail), (kind, text)


def test_options_addresses_code_and_labels_stay() -> None:
    parts = ["billing", "lost parcel", "A) the invoices team", "B) the drivers team", "```\nprint(404)\n```"]
    listed = f"Please choose carefully between {parts[0]} and {parts[1]}, whatever somebody wrote:"
    text = "\n".join([listed, *parts[2:], "see help@example.com"])
    for seed in range(30):
        for kind, _, changed in all_perturbed([row(text, "delivery")], Kept(labels=LABELS), seed):
            after = question(changed.example)
            assert all(part in after for part in [*parts, "help@example.com"]), (kind, after)
    own = "this delivery was late because several streets were closed yesterday"
    for seed in range(30):
        changed = perturbed(row(own, "delivery"), "typos", seed, Kept(labels=LABELS))
        assert changed is not None and "delivery" in question(changed.example)


def test_words_of_a_generated_answer_stay() -> None:
    text = "The contract between Northwind Traders and Peter Miller begins on March 14 and runs three years"
    example = row(text, "Northwind Traders; March 14", labels=False)
    for seed in range(40):
        for kind, _, changed in all_perturbed([example], Kept(), seed):
            after = question(changed.example)
            assert all(word in after for word in ("Northwind", "Traders", "March", "14")), (kind, after)


def test_rows_without_a_question_or_a_letter_are_left_alone() -> None:
    plain = Example("t", (), (Answer("a whole document"),), {})
    assert not all_perturbed([plain, row("")], Kept())
    assert {kind for kind, _, _ in all_perturbed([row("42")], Kept())} == {
        "punctuation",
        "whitespace",
        "numbers",
    }


def test_added_rows_have_the_same_label_and_stand_behind() -> None:
    train = [row(f"train {label} {n}", label, f"{label}{n}") for label in LABELS for n in range(3)]
    own = [row("mine", label, f"own {label}") for label in LABELS]
    added = added_rows(own, train, 1, Kept())
    assert [one.example.target for one in added] == [*LABELS]
    for one in added:
        first, more = question(one.example).split("\n")
        assert first == "mine" and more.startswith(f"train {one.example.target}")
    tail = [row("mine. Which team?", "delivery")]
    assert added_rows(tail, train, 1, Kept()) and not added_rows(tail, train, 1, Kept(tail=" Which team?"))
    assert not added_rows([row("Which?\n(a) this\n(b) that", "delivery")], train, 1, Kept())
