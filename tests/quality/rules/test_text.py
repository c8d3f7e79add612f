"""Rules over single rows: what is planted is found, with its rows, and clean rows give no finding."""

from __future__ import annotations

import csv
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from finetooth.config.task import DataConfig
from finetooth.quality.findings import Finding, View
from finetooth.quality.rules.text import control_characters, empty_answer, encoding, html, trivial_question
from finetooth.types import Answer, Example, Message

RULES = (encoding, control_characters, html, empty_answer, trivial_question)
SENTENCE = "when where the parcel my order arrived café naïve “why” is it – late refund € 5 < 6 & more ok"


def sentence(draw: random.Random) -> str:
    return " ".join(draw.choices(SENTENCE.split(), k=draw.randint(4, 14))) + "?"


def example(number: int, asked: str, answer: str, label: bool = False, system: str = "") -> Example:
    opening = (Message("system", system),) if system else ()
    tags = {"file": "a.jsonl", "line": number + 1} | ({"label": answer} if label else {})
    return Example(f"r{number}", (*opening, Message("user", asked)), (Answer(answer),), tags)


def rows(
    count: int,
    wrong: Callable[[str], str] = lambda text: text,
    every: int = 0,
    where: str = "question",
) -> list[Example]:
    """Plain rows; every so many-th has its question or answer changed."""
    draw = random.Random(2)
    made = []
    for number in range(count):
        asked, answer = sentence(draw), sentence(draw)
        if every and number % every == 0:
            asked, answer = (wrong(asked), answer) if where == "question" else (asked, wrong(answer))
        made.append(example(number, asked, answer))
    return made


def view(examples: list[Example], format: str = "qa") -> View:
    half = len(examples) // 2
    return View({"train": examples[:half], "test": examples[half:]}, format, DataConfig(train="a.jsonl"))


def planted(examples: list[Example], every: int) -> set[str]:
    return {row.id for row in examples[::every]}


def test_clean_rows_give_no_finding() -> None:
    assert [finding for rule in RULES for finding in rule(view(rows(400)))] == []


@pytest.mark.parametrize("where", ["question", "answer"])
@pytest.mark.parametrize(
    ("rule", "wrong", "operation"),
    [
        (encoding, lambda text: f"é {text}".encode().decode("cp1252", "ignore"), "fix_encoding"),
        (encoding, lambda text: f"it\x92s {text}", "fix_encoding"),
        (control_characters, lambda text: f"{text[:3]}\x07{text[3:]}", "normalise_space"),
        (control_characters, lambda text: f"{text[:3]}\u202e{text[3:]}", "normalise_space"),
        (html, lambda text: f"<p>{text}</p>", "strip_html"),
        (html, lambda text: f"{text} &amp; &#39;{text}&#39;", "strip_html"),
    ],
)
def test_planted_rows_are_found_and_no_other(
    rule: Callable[[View], Iterator[Finding]], wrong: Callable[[str], str], operation: str, where: str
) -> None:
    examples = rows(300, wrong, 20, where)
    (finding,) = rule(view(examples))
    assert finding.severity == "review"
    assert {hit.id for hit in finding.hits} == {edit.id for edit in finding.edits} == planted(examples, 20)
    assert {edit.operation for edit in finding.edits} == {operation}
    assert {hit.side for hit in finding.hits} == {"train", "test"}
    assert "15 of 300 rows" in finding.summary
    assert all(hit.evidence and hit.place.endswith(")") for hit in finding.hits)


def test_lost_characters_are_found_without_an_edit() -> None:
    examples = rows(100, lambda text: f"caf\ufffd {text}", 10)
    (finding,) = encoding(view(examples))
    assert {hit.id for hit in finding.hits} == planted(examples, 10)
    assert not finding.edits and finding.facts == {"mendable": 0, "lost": 10}


def test_evidence_shows_before_and_after_and_masks() -> None:
    (finding,) = encoding(view([example(0, "mail ann@mail.org, clichÃ©s", "x"), example(1, "b", "c")]))
    assert finding.hits[0].evidence == "mail [EMAIL], clichÃ©s -> mail [EMAIL], clichés"


def test_zero_width_spaces_alone_are_for_information() -> None:
    (finding,) = control_characters(view(rows(50, lambda text: f"\ufeff{text}", 10)))
    assert finding.severity == "info" and "byte-order mark" in finding.summary


def test_html_that_the_task_is_about_is_no_mistake() -> None:
    (finding,) = html(view(rows(100, lambda text: f"<p>{text}</p>", 1, "answer")))
    assert finding.severity == "info" and not finding.edits
    (entities,) = html(view(rows(100, lambda text: f"{text} &amp; more", 1, "answer")))
    assert entities.severity == "review" and len(entities.edits) == 100
    speaks = rows(100, lambda text: f"Which HTML tag is <b>{text}</b>?", 10)
    page = rows(100, lambda text: f"<!DOCTYPE html><html><body>{text}</body></html>", 10, "answer")
    code = rows(100, lambda text: f"`<b>` {text} if (a<b && c>d)", 10, "answer")
    assert not [*html(view(speaks)), *html(view(page)), *html(view(code))]


@pytest.mark.parametrize("where", ["question", "answer"])
@pytest.mark.parametrize("nothing", ["n/a", "None", " - ", "...", "TODO", "???", "null"])
def test_rare_nothings_are_found_and_dropped(nothing: str, where: str) -> None:
    examples = rows(400, lambda _: nothing, 80, where)
    rule, name = (
        (empty_answer, "empty-answer") if where == "answer" else (trivial_question, "trivial-question")
    )
    (finding,) = rule(view(examples))
    assert (finding.rule, finding.severity) == (name, "review")
    meant = where == "answer" and nothing in ("None", "null")  # how many moons has Venus
    dropped = {edit.id for edit in finding.edits if edit.kind == "drop"}
    assert dropped == (set() if meant else planted(examples, 80))
    assert ("--fix" in finding.fix) == (not meant) and "drop_empty" in finding.fix


def test_an_answer_that_is_common_or_a_label_is_an_answer() -> None:
    assert not [*empty_answer(view(rows(200, lambda _: "none", 20, "answer")))]
    labelled = [example(k, f"text {k}", "none" if k == 3 else "spam", label=True) for k in range(200)]
    assert not [*empty_answer(view(labelled, "labels"))]


@pytest.mark.parametrize("text", ["[]", "{}", "42", ":)", "+", "ok", "👍", "No.", "<=", "C", "はい", "0"])
def test_short_answers_are_answers(text: str) -> None:
    examples = rows(100, lambda _: text, 100)
    assert not [*empty_answer(view(examples)), *trivial_question(view(examples))]


def test_a_question_beside_an_instruction_is_for_information() -> None:
    examples = [
        example(k, "N/A" if k == 7 else f"input {k}", f"out {k}", system="Do it.") for k in range(100)
    ]
    (finding,) = trivial_question(view(examples))
    assert finding.severity == "info" and not finding.edits


def test_plain_text_has_no_question() -> None:
    texts = [Example(f"t{k}", (), (Answer("..." if k == 4 else f"text {k}"),), {}) for k in range(100)]
    assert not [*trivial_question(view(texts, "text"))]
    assert [finding.hits[0].id for finding in empty_answer(view(texts, "text"))] == ["t4"]


@pytest.mark.data
def test_what_the_rules_say_of_published_sets() -> None:
    folder = Path(os.environ.get("FINETOOTH_DATA") or Path(__file__).parents[4] / "shared" / "data")
    lines = (folder / "sms_spam" / "SMSSpamCollection").read_text(encoding="utf-8").split("\n")
    pairs = [line.split("\t", 1) for line in lines if "\t" in line]
    sms = view([example(k, text, label, label=True) for k, (label, text) in enumerate(pairs)], "labels")
    found = {finding.rule: finding for rule in RULES for finding in rule(sms)}
    assert set(found) == {"encoding", "html"}
    assert len(found["encoding"].hits) == 35 and len(found["html"].hits) == 309
    gsm = [json.loads(line) for line in (folder / "gsm8k" / "train.jsonl").open(encoding="utf-8")]
    word = view([example(k, row["question"], row["answer"]) for k, row in enumerate(gsm)])
    assert [finding.rule for rule in RULES for finding in rule(word)] == ["control-characters"]
    with (folder / "sst2" / "train.tsv").open(encoding="utf-8", newline="") as file:
        reviews = [row for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if len(row) == 2]
    mood = view([example(k, text, label, label=True) for k, (text, label) in enumerate(reviews)], "labels")
    assert not [finding for rule in RULES for finding in rule(mood)]
