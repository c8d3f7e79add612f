"""The prompting candidates: what stands in the context, and where it comes from."""

from collections import Counter
from dataclasses import replace

import pytest

from finetooth.errors import GradeError
from finetooth.evaluation.graders.label_sets import label_names
from finetooth.evaluation.prompts import Prompt, build_prompt, few_shot, fit_prompt, zero_shot
from finetooth.types import Answer, Example, Message

LABELS = ("ham", "other", "spam")


def row(text: str, target: str, system: str = "") -> Example:
    own = (Message("system", system),) if system else ()
    return Example(text, (*own, Message("user", text)), (Answer(target),))


TRAIN = [row(f"text {i}", "ham" if i < 30 else LABELS[i % 3]) for i in range(42)]


def test_zero_shot_lists_the_labels_and_plain_asks_as_it_stands() -> None:
    question = row("hello", "ham", "Be brief.")
    assert Prompt("tuned").messages(question) == question.context
    assert zero_shot().messages(question) == question.context
    assert zero_shot(LABELS).messages(question) == (
        Message("system", "Be brief."),
        Message("system", "Answer with one of: ham, other, spam."),
        Message("user", "hello"),
    )


def test_few_shot_shows_solved_rows_as_turns() -> None:
    prompt = few_shot(2, TRAIN, LABELS, seed=1)
    messages = prompt.messages(row("hello", "ham"))
    assert [message.role for message in messages] == [
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
        "user",
    ]
    solved = {example.context[0].content: example.target for example in TRAIN}
    assert all(solved[messages[at].content] == messages[at + 1].content for at in (1, 3))
    assert messages[-1] == Message("user", "hello")


@pytest.mark.parametrize("k", [3, 4, 7, 12])
def test_demonstrations_are_balanced_over_the_labels(k: int) -> None:
    shown = Counter(demo.target for demo in few_shot(k, TRAIN, LABELS, seed=5).demos)
    assert sum(shown.values()) == k
    assert max(shown.values()) - min(shown[label] for label in LABELS) <= 1


def test_demonstrations_depend_on_the_seed_alone() -> None:
    assert few_shot(4, TRAIN, LABELS, 1) == few_shot(4, TRAIN, LABELS, 1)
    assert few_shot(4, TRAIN, LABELS, 1).demos != few_shot(4, TRAIN, LABELS, 2).demos
    assert few_shot(4, TRAIN, (), 1).demos != few_shot(4, TRAIN, (), 2).demos
    assert {demo.id for demo in few_shot(4, TRAIN, (), 1).demos} <= {example.id for example in TRAIN}
    assert len({demo.id for demo in few_shot(42, TRAIN, LABELS, 1).demos}) == 42


def test_few_shot_without_solved_rows_is_refused() -> None:
    with pytest.raises(GradeError, match="few-shot-4: no row of the train split"):
        build_prompt(4, [Example("a", (), (Answer("plain text"),))], (), 1)
    assert build_prompt(0, [], LABELS, 1).name == "zero-shot"


def test_demonstrations_are_dropped_from_the_front_then_the_labels() -> None:
    prompt, question = few_shot(4, TRAIN, LABELS, seed=1), row("hello", "ham")

    def size(messages: tuple[Message, ...]) -> int:
        return sum(len(message.content.split()) for message in messages)

    whole = size(prompt.messages(question))
    assert fit_prompt(prompt, question, size, whole) == prompt
    assert fit_prompt(prompt, question, size, whole - 1).demos == prompt.demos[1:]
    assert fit_prompt(prompt, question, size, 8).demos == ()
    assert fit_prompt(prompt, question, size, 8).labels == LABELS
    assert fit_prompt(prompt, question, size, 7) == Prompt("few-shot-4")


def test_several_labels_are_asked_for_where_several_may_be_right() -> None:
    example = Example("a", (Message("user", "q"),), (Answer("red, big"),))
    first = replace(zero_shot(("big", "red")), multi_label=True).messages(example)[0]
    assert first.content == "Answer with all that fit, separated by commas, of: big, red."
    assert label_names(["red, big", "big", "none"]) == ("big", "none", "red")
