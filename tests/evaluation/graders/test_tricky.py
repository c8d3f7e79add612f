"""Tricky pairs of expected answer and answer, judged as a practitioner would, against the graders' verdicts.

tricky/NAME.jsonl holds [expected, answer, right, options], for regex [pattern, expected, answer, right], and
for overlap [grader, expected, better answer, worse answer].
"""

import json
from pathlib import Path
from typing import Any

import pytest

from finetooth.evaluation.graders import Grader, resolve
from finetooth.types import Answer, Example, Message

TRICKY = Path(__file__).parent / "tricky"
ALLOWED = 0.05  # of the pairs of a grader; the guide says why those are graded otherwise


def pairs(name: str) -> list[list[Any]]:
    lines = (TRICKY / f"{name}.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def value(grader: Grader, want: str, got: str) -> float | None:
    return grader(Example("a", (Message("user", "?"),), (Answer(want),)), got).value


def disagreements(name: str) -> list[list[Any]]:
    wrong = []
    for pair in pairs(name):
        if name == "overlap":
            grader, want, better, worse = pair
            grade = resolve(grader, "qa")[1]
            agrees = (value(grade, want, better) or 0.0) > (value(grade, want, worse) or 0.0)
        elif name == "regex":
            pattern, want, got, right = pair
            grade = resolve({"name": "regex", "pattern": pattern}, "qa")[1]
            agrees = (value(grade, want, got) == 1) == bool(right)
        else:
            want, got, right, options = pair if len(pair) == 4 else (*pair, {})
            grade = resolve({"name": name, **options} if options else name, "qa")[1]
            agrees = (value(grade, want, got) == 1) == bool(right)
        if not agrees:
            wrong.append(pair)
    return wrong


@pytest.mark.parametrize(
    "name", ["number", "label", "labels", "exact", "json", "contains", "regex", "overlap"]
)
def test_graders_agree_with_a_practitioner(name: str) -> None:
    assert len(pairs(name)) >= 60
    wrong = disagreements(name)
    assert len(wrong) <= ALLOWED * len(pairs(name)), wrong


@pytest.mark.parametrize(
    ("name", "want", "got"),
    [
        ("exact", "Paris", "Paris."),
        ("exact", "Paris", "**Paris**"),
        ("exact", "don't", "don\u2019t"),
        ("label", "positive", "positive."),
        ("labels", "red, blue", "red and blue"),
        ("contains", "it's", "it\u2019s"),
        ("json", '{"n": "it\'s"}', '{"n": "it\u2019s"}'),
    ],
)
def test_forms_matter_where_a_grader_is_strict(name: str, want: str, got: str) -> None:
    strict = resolve({"name": name, "strict": True}, "qa")[1]
    assert value(resolve(name, "qa")[1], want, got) == value(strict, want, want) == 1
    assert (value(strict, want, got) or 0.0) < 1
