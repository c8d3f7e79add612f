"""The trial of a grader on the user's own answers: decimal marks, what is compared whole, and other forms."""

import random
from pathlib import Path

import pytest

from finetooth.evaluation.graders import resolve, settled, shown_forms, validate_graders
from finetooth.evaluation.runner import evaluate
from finetooth.evaluation.summary import TUNED
from finetooth.types import Answer, Example, Message


def rows(*targets: str) -> list[Example]:
    return [Example(f"r{n}", (Message("user", f"{n}?"),), (Answer(one),)) for n, one in enumerate(targets)]


def value(spec: object, want: str, got: str) -> float | None:
    return resolve(spec, "qa")[1](rows(want)[0], got).value  # type: ignore[arg-type]


def test_the_decimal_mark_is_that_of_the_data() -> None:
    german = rows("1.047,50 €", "1.234 €", "54,50 €")
    spec = settled("number", german)
    assert spec == {"name": "number", "decimal": ","}
    assert value(spec, "1.234 €", "1234") == 1 and value(spec, "1.234 €", "1,234") == 0
    assert value("number", "1.234", "1.2340") == 1 and value("number", "1.234", "1234") == 0
    english = rows("1,047.50", "1,234")
    assert settled("number", english) == "number"
    assert settled({"name": "number", "decimal": "."}, german) == {"name": "number", "decimal": "."}
    assert settled({"name": "number", "tolerance": 1}, german)["decimal"] == ","
    assert settled("exact", german) == "exact"


def test_data_with_both_decimal_marks_is_asked_about() -> None:
    (refused,), _ = validate_graders("number", "qa", rows("12,5", "3.75", "1.234"))
    assert "show both decimal marks, such as '12,5' (row r0) and '3.75' (row r1)" in refused
    assert "'1.234' (row r2) could mean either" in refused
    assert validate_graders({"name": "number", "decimal": ","}, "qa", rows("12,5", "3.75", "1.234")) == (
        [],
        [],
    )
    assert validate_graders("number", "qa", rows("12,5", "3.75"))[0] == []  # none of them is in doubt
    _, (doubt,) = validate_graders("number", "qa", rows("1.234", "12.345", "7"))
    assert doubt.startswith("number reads '1.234' (row r0) with a decimal point")


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("10:30", "time"),
        ("2024-05-06", "date"),
        ("5-7", "range"),
        ("192.168.0.1", "series"),
        ("3:1", "series"),
    ],
)
def test_what_is_compared_whole_is_said(target: str, kind: str) -> None:
    refused, (doubt,) = validate_graders("number", "qa", rows(target, "8"))
    assert refused == []
    assert f"compares 1 of 2 expected answers as a {kind}, such as {target!r} (row r0)" in doubt
    assert value("number", target, target) == 1
    assert value("number", target, f"9{target}") == value("number", target, target[-1]) == 0


@pytest.mark.parametrize(
    ("spec", "targets"),
    [
        ("number", ("8", "9", "10")),
        ("label", ("good", "bad", "mixed")),
        ("labels", ("red, blue", "rock and roll, jazz", "green")),
        ("exact", ("Paris", "Rome", "Bern")),
        ("json", ('{"a": 1}', '{"a": [1, 2]}', '{"b": "x"}')),
        ("contains", ("cat", "dog", "C++")),
    ],
)
def test_five_answers_in_other_forms_are_right_and_one_of_another_row_is_not(
    spec: str, targets: tuple[str, ...]
) -> None:
    *forms, other = shown_forms(spec, "qa", rows(*targets), None)
    assert len(forms) == 5
    assert all(line.startswith(f"Grader {spec}: ") and line.endswith(": right") for line in forms), forms
    assert not other.endswith(": right")


def test_a_grader_that_grades_by_form_shows_it() -> None:
    shown = shown_forms({"name": "exact", "strict": True}, "qa", rows("Paris", "Rome"), None)
    assert {line.rpartition(": ")[2] for line in shown} == {"wrong"}
    for spec in ("perplexity", {"type": "string_check", "input": "x", "reference": "x", "operation": "eq"}):
        assert shown_forms(spec, "qa", rows("a"), Path()) == []
    assert shown_forms("exact", "qa", [], None) == []


class Says:
    """A candidate with given answers."""

    notes: tuple[str, ...] = ()

    def __init__(self, name: str, texts: list[str]) -> None:
        self.name, self.texts = name, texts

    def predict(self, examples):
        from finetooth.evaluation.candidates import Prediction

        return (Prediction(at, text, 1, 1, "stop") for at, text in enumerate(self.texts))


FORMS = {
    "label": ['"{}"', "- {}", "{}.", "**{}**", "Answer: {}", "```\n{}\n```"],
    "exact": ['"{}"', "- {}", "{}.", "**{}**", "Answer: {}", "```\n{}\n```"],
    "number": ["{} (see step 2)", "\\boxed{{{}}} in 2024", "#### {}", "**{}**", "The answer is {}."],
    "json": ["Here it is: {}", "```json\n{}\n```", "```json\n{}", "{}\nDone."],
}


@pytest.mark.parametrize("name", FORMS)
def test_equal_content_in_other_forms_is_never_better(name: str) -> None:
    """A prompt's right answers in other forms against the tuned model's bare ones: as good."""
    draw = random.Random(name)
    words = {"number": [str(n) for n in range(20)], "json": [f'{{"a": {n}}}' for n in range(20)]}
    known = words.get(name, ["good", "bad", "mixed", "unclear"])
    examples = rows(*(draw.choice(known) for _ in range(60)))
    answers = [row.target if draw.random() < 0.7 else draw.choice(known) for row in examples]
    formed = [draw.choice(FORMS[name]).format(text) for text in answers]
    candidates = [Says("zero-shot", formed), Says(TUNED, answers)]
    summary = evaluate(examples, candidates, resolve(name, "qa")[1], name, "test").summary
    assert summary["comparison"]["difference"] == 0
    assert summary["comparison"]["verdict"] == "not proven"
