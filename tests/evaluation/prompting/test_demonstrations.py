"""Demonstrations chosen for each row, layouts, and the prompt file."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from finetooth.errors import ConfigError
from finetooth.evaluation.prompting.demonstrations import Index, Nearest, drawn
from finetooth.evaluation.prompting.layouts import LAYOUTS, TURNS
from finetooth.evaluation.prompting.spec import PromptSpec, index_of, read_spec
from finetooth.evaluation.prompts import Prompt, fit_prompt
from finetooth.types import Answer, Example, Message


def row(text: str, target: str, system: str = "") -> Example:
    own = (Message("system", system),) if system else ()
    return Example(text, (*own, Message("user", text)), (Answer(target),))


TRAIN = [
    row("the brake of my bike squeaks", "repair"),
    row("the bike was stolen at night", "theft"),
    row("refund my deposit please", "refund"),
    row("the chain of the bike fell off", "repair"),
    row("where is the nearest station", "place"),
]
LABELS = ("place", "refund", "repair", "theft")


def letters(texts: list[str]) -> np.ndarray:
    return np.array([[text.count(letter) for letter in "abcdefghijk"] for text in texts], np.float32)


def indexes(by: str) -> Index:
    return index_of(TRAIN, letters)(by)


def bm25(rows: list[str], question: str) -> list[float]:
    """Robertson and Zaragoza (2009), with the idf of Lucene, word by word."""
    words = [text.split() for text in rows]
    mean = sum(map(len, words)) / len(words)
    scores = []
    for text in words:
        score = 0.0
        for word in question.split():
            has = sum(word in other for other in words)
            idf = np.log(1 + (len(words) - has + 0.5) / (has + 0.5))
            count = text.count(word)
            score += idf * count * 2.5 / (count + 1.5 * (0.25 + 0.75 * len(text) / mean))
        scores.append(float(score))
    return scores


@pytest.mark.parametrize(
    "question", ["my bike squeaks", "the the bike was night", "refund the deposit of the"]
)
def test_nearest_by_bm25_is_the_formula_and_the_nearest_stands_last(question: str) -> None:
    scores = bm25([example.id for example in TRAIN], question)
    best = sorted(range(len(TRAIN)), key=lambda at: (-scores[at], at))[:3]
    found = Nearest(Index(TRAIN), 3)(row(question, ""))
    assert [example.id for example in found] == [TRAIN[at].id for at in reversed(best)]


def test_nearest_by_vectors_is_the_cosine_about_the_mean() -> None:
    vectors = letters([example.id for example in TRAIN])
    question = "a bad fake face"
    asked = letters([question])[0] - vectors.mean(axis=0)
    centred = vectors - vectors.mean(axis=0)
    cosine = centred @ asked / np.linalg.norm(centred, axis=1) / np.linalg.norm(asked)
    found = Nearest(Index(TRAIN, letters), 2)(row(question, ""))
    assert [example.id for example in found] == [TRAIN[at].id for at in np.argsort(-cosine)[:2][::-1]]


def test_a_row_is_never_its_own_demonstration() -> None:
    found = Nearest(Index(TRAIN), 8)(TRAIN[0])
    assert len(found) == 4 and TRAIN[0] not in found


def test_balanced_draws_are_balanced_and_random_ones_are_not_forced_to_be() -> None:
    rows = [row(f"text {i}", "ham" if i < 30 else f"label {i % 3}") for i in range(36)]
    counts = Counter(example.target for example in drawn(8, rows, 1, balanced=True))
    assert max(counts.values()) - min(counts.values()) <= 1 and len(counts) == 4
    draws = [Counter(one.target for one in drawn(8, rows, seed, balanced=False)) for seed in range(20)]
    assert sum(count["ham"] for count in draws) > 20 * 8 * 0.7
    assert drawn(8, rows, 1, False) == drawn(8, rows, 1, False) != drawn(8, rows, 2, False)


def test_where_not_all_fit_the_nearest_are_kept() -> None:
    prompt = Prompt("p", LABELS, nearest=Nearest(Index(TRAIN), 3))
    question = row("my bike squeaks", "")

    def size(messages: tuple[Message, ...]) -> int:
        return sum(len(message.content.split()) for message in messages)

    whole = prompt.of_row(question)
    assert prompt.shots == len(whole.demos) == 3
    shorter = fit_prompt(prompt, question, size, size(prompt.messages(question)) - 1)
    assert shorter.demos == whole.demos[1:] and shorter.demos[-1] == TRAIN[0]


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_says_the_same(name: str) -> None:
    prompt = Prompt("p", LABELS, (TRAIN[0], TRAIN[2]), layout=LAYOUTS[name])
    messages = prompt.messages(row("hello there", "", system="Be brief."))
    text = "\n".join(message.content for message in messages)
    for part in ("Be brief.", *LABELS, TRAIN[0].id, TRAIN[2].id, "repair", "refund"):
        assert part in text
    assert text.count("hello there") == 1 and text.count("Answer with one of") == 1
    assert text.index(TRAIN[0].id) < text.index(TRAIN[2].id) < text.index("hello there")
    assert messages[-1].role == "user" and "hello there" in messages[-1].content


def test_layouts_differ_and_a_conversation_keeps_its_turns() -> None:
    question = row("hello there", "")
    shapes = [
        Prompt("p", LABELS, tuple(TRAIN[:2]), layout=layout).messages(question) for layout in LAYOUTS.values()
    ]
    assert all(one not in shapes[:at] for at, one in enumerate(shapes)) and len(shapes) == 5
    turns = tuple(Message(role, role) for role in ("user", "assistant", "user"))
    talk = Example("talk", turns, (Answer("x"),))
    for layout in LAYOUTS.values():
        asked = Prompt("p", LABELS, (TRAIN[0],), layout=layout).messages(talk)
        assert asked == Prompt("p", LABELS, (TRAIN[0],), layout=TURNS).messages(talk)
        assert asked[-3:] == turns


@pytest.mark.parametrize(
    "spec",
    [
        PromptSpec(),
        PromptSpec("Say it.", False, 4, demonstrations="random", draw=3, layout="block"),
        PromptSpec(shots=8, demonstrations="bm25", offsets={"theft": 0.5, "refund": -1.25}),
    ],
)
def test_a_prompt_file_is_read_as_it_was_written(spec: PromptSpec, tmp_path: Path) -> None:
    file = tmp_path / "prompt.yaml"
    file.write_text(spec.to_yaml("found by search\non 40 rows"))
    assert read_spec(file) == spec
    built, again = (one.build(TRAIN, LABELS, 1, indexes) for one in (spec, read_spec(file)))
    for example in TRAIN:
        assert built.messages(example) == again.messages(example)
    assert built.offsets == (spec.offsets or None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("demonstrations: closest", "'closest' is not one of balanced, random, bm25, vectors"),
        ("layout: fancy", "'fancy' is not one of turns"),
        ("offsets: {theft: much}", "'theft': 'much' is not a number of nats"),
        ("offsets: {theft: .nan}", "is not a number of nats"),
        ("colour: red", "colour is no key of a prompt. Known are instruction, labels, shots"),
        ("shot: 2", "shot is no key of a prompt. Did you mean shots?"),
        ("shots: many", "shots: 'many' is not a whole number"),
        ("shots: -1", "shots is a count"),
    ],
)
def test_a_wrong_prompt_file_says_what_is_wrong(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "prompt.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_spec(file)


def test_any_other_file_is_the_instruction_alone(tmp_path: Path) -> None:
    file = tmp_path / "prompt.txt"
    file.write_text(" Sort the message. \n")
    assert read_spec(file) == PromptSpec("Sort the message.", labels=False)
