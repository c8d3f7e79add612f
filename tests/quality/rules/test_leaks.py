"""Leaks: all planted ones are found, those that block are true, and clean splits are passed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import planted
import pytest

from finetooth.config.task import DataConfig
from finetooth.data.split import exact_leaks
from finetooth.quality.findings import Finding, View
from finetooth.quality.rules.leaks import leaks, possible_leaks
from finetooth.types import Answer, Example, Message

TEXTS = planted.texts(2400, seed=11, most=3)
TRAIN = planted.rows(TEXTS[:1000])
TEST = planted.rows(TEXTS[2000:], "t")
LONG = [at for at in range(1000) if len(TEXTS[at].split()) >= 12]
BROUGHT = frozenset({"train", "test"})

FULL = pytest.mark.full


def view(test: Sequence[Example], group: str | None = None, **more: object) -> View:
    config = DataConfig(train="a.jsonl", test="b.jsonl", group=group)
    return replace(View({"train": TRAIN, "test": test}, "labels", config, user_provided=BROUGHT), **more)


def found(findings: Sequence[Finding]) -> dict[str, str]:
    """Row of the test -> the training row that it is paired with."""
    return {hit.id: hit.other for finding in findings for hit in finding.hits}


def leaked(
    plant: Callable[[str, random.Random], str], count: int = 150
) -> tuple[list[Example], dict[str, str]]:
    """Test rows of which some are made from training rows, and which from which."""
    generator = random.Random(3)
    picked = generator.sample(LONG, count)
    rows = [
        planted.row(f"p{k}", plant(TEXTS[at], generator), TRAIN[at].target, file="test.jsonl", line=k + 1)
        for k, at in enumerate(picked)
    ]
    return [*TEST, *rows], {f"p{k}": f"r{at}" for k, at in enumerate(picked)}


def test_a_clean_split_gives_no_leak_and_hardly_a_possible_one() -> None:
    assert not list(leaks(view(TEST)))
    assert len(found(list(possible_leaks(view(TEST))))) <= 0.01 * len(TEST)


@pytest.mark.parametrize("plant", [planted.recase, lambda text, generator: planted.repunctuate(text)])
def test_exact_leaks_are_all_found_and_only_they(plant: Callable[[str, random.Random], str]) -> None:
    rows, truth = leaked(plant)
    (finding,) = leaks(view(rows))
    assert finding.severity == "block"
    assert found([finding]) == truth
    assert f"{len(truth)} of {len(rows)} test rows" in finding.summary
    assert "other words" in finding.summary, "what was not checked is said"


@pytest.mark.parametrize(
    ("plant", "least"),
    [
        (lambda text, generator: planted.edit(text, 0.1, generator), 0.98),
        pytest.param(lambda text, generator: planted.edit(text, 0.2, generator), 0.98, marks=FULL),
        pytest.param(lambda text, generator: planted.edit(text, 0.3, generator), 0.95, marks=FULL),
        pytest.param(lambda text, generator: planted.wrap(text), 0.98, marks=FULL),
        pytest.param(planted.half, 0.95, marks=FULL),
    ],
    ids=["10%", "20%", "30%", "prefix", "half"],
)
def test_near_leaks_are_found_and_what_blocks_is_one(
    plant: Callable[[str, random.Random], str], least: float
) -> None:
    rows, truth = leaked(plant)
    blocked, looked = found(list(leaks(view(rows)))), found(list(possible_leaks(view(rows))))
    both = blocked | looked
    assert sum(both.get(id) == other for id, other in truth.items()) >= least * len(truth)
    assert sum(truth.get(id) == other for id, other in blocked.items()) >= 0.98 * len(blocked)
    assert sum(id not in truth for id in looked) <= 0.01 * len(TEST)


def test_a_text_behind_an_instruction_blocks() -> None:
    rows, truth = leaked(lambda text, generator: planted.wrap(text))
    assert len(found(list(leaks(view(rows))))) >= 0.9 * len(truth)


def test_a_leak_says_both_places_and_how_it_was_found() -> None:
    rows, truth = leaked(planted.recase, 1)
    (finding,) = leaks(view(rows))
    (hit,) = finding.hits
    assert hit.place == "p0 (test.jsonl, line 1)"
    line = int(truth["p0"][1:]) + 1
    assert hit.evidence == f"the same question as train {truth['p0']} (rows.jsonl, line {line})"


def test_leaks_are_named_by_strength() -> None:
    """Edited copies and halves of texts of 20 words and more are beyond doubt."""
    generator = random.Random(4)
    picked = generator.sample([at for at in LONG if len(TEXTS[at].split()) >= 20], 80)
    plants: dict[str, Callable[[str], str]] = {
        "identical": lambda text: text,
        "normalised": lambda text: planted.recase(text, generator),
        "edited": lambda text: planted.edit(text, 0.1, generator),
        "partial": lambda text: planted.half(text, generator),
    }
    rows = [
        planted.row(f"{name}{at}", plant(TEXTS[at]), TRAIN[at].target)
        for name, plant in plants.items()
        for at in picked
    ]
    (finding,) = leaks(view([*TEST, *rows]))
    told = {hit.id: hit.evidence for hit in finding.hits}
    assert all(told[f"identical{at}"].endswith(", identical") for at in picked)
    assert all(told[f"normalised{at}"].startswith("the same question as train") for at in picked)
    for name in ("edited", "partial"):
        assert sum(told.get(f"{name}{at}", "").startswith(f"{name}, ") for at in picked) >= 0.95 * 80
    assert "80 identical, 80 normalised, " in finding.summary
    assert sum(finding.facts["by_tier"].values()) == len(finding.hits) <= 320


def test_short_questions_of_common_words_are_no_leaks() -> None:
    """People ask so; of 4,500 such rows of clinc150, 780 were told as possible leaks, now 256."""
    places = [f"{look}ville" for look in planted.LOOK] + [f"{thing}ton" for thing in planted.THING]
    frames = ("is there a travel alert for {}", "how long will it take to get to {}", "book a room in {}")
    asked = [frame.format(place) for place in places for frame in frames]
    random.Random(0).shuffle(asked)
    sides = {
        "train": planted.rows(asked[:180], labels=("yes",)),
        "test": planted.rows(asked[180:], "t", ("yes",)),
    }
    assert len(found([*leaks(view([], sides=sides)), *possible_leaks(view([], sides=sides))])) == 0


def test_a_possible_leak_says_how_alike_training_rows_are() -> None:
    rows, _ = leaked(lambda text, generator: planted.edit(text, 0.3, generator))
    (finding,) = possible_leaks(view(rows))
    assert finding.facts["usual_rate"] <= 0.01
    assert f"{finding.facts['usual_rate']:.1%} of the training rows are as similar" in finding.summary


def test_all_that_the_exact_gate_finds_is_found() -> None:
    rows, _ = leaked(planted.recase, 30)
    rows = [replace(row, tags={**row.tags, "group": f"g{k}"}) for k, row in enumerate(rows)]
    train = [replace(row, tags={**row.tags, "group": f"g{3 * k}"}) for k, row in enumerate(TRAIN[:100])]
    looking = view(rows, group="group", sides={"train": [*train, *TRAIN[100:]], "test": rows})
    exact = {copy.id for _, _, _, copy in exact_leaks(looking.sides, groups=True)}
    (finding,) = leaks(looking)
    assert exact <= found([finding]).keys()
    assert finding.facts["by_tier"]["group"] >= 90


def test_another_number_or_another_answer_does_not_block() -> None:
    train = "The bakery on the corner sold 40 loaves on Monday and twice as many on Tuesday: how many in all?"
    rows = [
        planted.row("number", train.replace("40", "55"), "yes"),
        planted.row("answer", f"Now: {train}", "no"),
    ]
    sides = {"train": [*TRAIN, planted.row("origin", train, "yes")], "test": [*TEST, *rows]}
    assert not list(leaks(view(TEST, sides=sides)))
    assert {"number", "answer"} <= found(list(possible_leaks(view(TEST, sides=sides)))).keys()


def test_answers_in_a_fixed_form_are_not_the_same_answer() -> None:
    """Queries share most words whatever they ask for, as in wikisql (2,990 rows were told, now 662)."""
    generator = random.Random(8)
    picked = generator.sample([at for at in LONG if len(TEXTS[at].split()) >= 20], 60)
    things = [f"{look}_{thing}" for thing in planted.THING for look in planted.LOOK] * 2
    train = [
        planted.row(f"r{k}", text, f"select price where item = {things[k]}")
        for k, text in enumerate(TEXTS[:2000])
    ]
    for other, told in ((things[1:], 0), (things, 60)):
        rows = [
            planted.row(
                f"p{at}",
                planted.edit(TEXTS[at], 0.3, random.Random(at)),
                f"select price where item = {other[at]}",
            )
            for at in picked
        ]
        looking = replace(view(rows), sides={"train": train, "test": rows}, format="qa")
        got = len(found([*leaks(looking), *possible_leaks(looking)]))
        assert abs(got - told) <= 3, got


def test_one_text_under_two_system_messages_leaks_when_the_answer_is_the_same() -> None:
    def asked(id: str, system: str, answer: str) -> Example:
        return Example(id, (Message("system", system), Message("user", TEXTS[7])), (Answer(answer),))

    sides = {"train": [asked("a", "translate", "x")], "test": [asked("b", "translate now", "x")]}
    assert found(list(leaks(view([], sides=sides)))) == {"b": "a"}
    sides["test"] = [asked("b", "count the words", "12")]
    assert not list(leaks(view([], sides=sides)))


def test_near_copies_on_sides_that_finetooth_made_never_block() -> None:
    rows, _ = leaked(lambda text, generator: planted.wrap(text))
    assert not list(leaks(view(rows, user_provided=frozenset())))


def vectors(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Texts by their meaning, for a test: the number in front of the colon seeds the vector."""
    return np.stack(
        [np.random.default_rng(int(text.split(":")[0])).normal(size=32) for text in texts]
    ).astype(np.float32)


def test_vectors_find_what_words_do_not() -> None:
    train = [planted.row(f"r{k}", f"{k}: {text}") for k, text in enumerate(TEXTS[:1000])]
    test = [planted.row(f"t{k}", f"{2000 + k}: {text}") for k, text in enumerate(TEXTS[1000:1300])]
    said_anew = [planted.row(f"p{k}", f"{k}: {TEXTS[1500 + k]}") for k in range(20)]
    looking = view([], sides={"train": train, "test": [*test, *said_anew]})
    truth = {f"p{k}": f"r{k}" for k in range(20)}
    assert not truth.keys() & found(list(possible_leaks(looking))).keys()
    got = found([one for one in possible_leaks(replace(looking, embed=vectors)) if "tier" in one.facts])
    assert {id: got[id] for id in truth} == truth
    assert len(got) <= len(truth) + 3
