"""What each grader calls right, and what a broken grader may never do."""

import sys
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from finetooth.errors import GradeError
from finetooth.evaluation.graders import (
    exact,
    grading_format,
    guard,
    is_custom,
    label,
    last_number,
    number,
    resolve,
)
from finetooth.types import Answer, Example, Message, Score


def example(target: str) -> Example:
    return Example("a", (Message("user", "?"),), (Answer(target),))


@pytest.mark.parametrize(
    ("target", "text", "value"),
    [
        ("Paris", " Paris\n", 1),
        ("a  b", "a b", 1),
        ("Paris", "paris", 0),
        ("Paris", "Paris?", 0),
        ("Paris", "", 0),
        ("caf\u00e9", "cafe\u0301", 1),  # one text, written in two ways
    ],
)
def test_exact(target: str, text: str, value: float) -> None:
    score = exact(example(target), text)
    assert score.value == value
    if text.isascii():
        assert (score.got, score.want) == (" ".join(text.split()), " ".join(target.split()))


def test_exact_takes_any_reference() -> None:
    both = Example("a", (), (Answer("New York"), Answer("NYC", "reference"), Answer("LA", "rejected")))
    assert exact(both, "NYC").value == 1
    assert exact(both, "LA").value == 0


@pytest.mark.parametrize(
    ("text", "value"), [("card_arrival", 1), (" Card_Arrival ", 1), ("card arrival", 0), ("", 0)]
)
def test_label(text: str, value: float) -> None:
    score = label(example("card_arrival"), text)
    assert (score.value, score.want, score.error) == (value, "card_arrival", None)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It is 42.", "42"),
        ("1,234.50 apples", "1234.5"),
        ("total: 1,000,000", "1000000"),
        ("a1,234,567b", "1234567"),
        ("1,2,3", "3"),
        ("-7", "-7"),
        ("−3.5", "-3.5"),
        ("x=-5", "-5"),
        ("12-5", "5"),
        ("2024-05-06", "6"),
        ("-$1,250.75", "-1250.75"),
        ("$-5", "-5"),
        ("50%", "50"),
        (".5", "0.5"),
        ("version 1.2.3", "3"),
        ("2.5e-2", "0.025"),
        ("5 eggs", "5"),
        ("0.10", "0.1"),
    ],
)
def test_last_number(text: str, found: str) -> None:
    assert last_number(text) == Decimal(found)


def test_number_compares_by_value() -> None:
    worked = example("3 + 4 = 7\nso 7 * 100 is\n#### 700")
    assert number(worked, "That makes 700.00").value == 1
    assert number(worked, "700 in all, from 7").value == 0
    assert number(worked, "none").value == 0
    assert number(worked, "none").reason == "no number in the answer"
    assert number(example("0.1"), "0.10").value == 1
    assert number(example("many"), "3").error == "the expected answer has no number: 'many'"


def test_auto_knows_what_a_format_is_graded_by() -> None:
    assert resolve("auto", "labels")[0] == "label"
    same = ("qa", "alpaca", "chat", "prompt", "sharegpt")
    assert [resolve("auto", name)[0] for name in same] == ["exact"] * 5
    assert resolve("auto", "preference")[0] == "chrf"
    assert resolve("auto", "several labels")[0] == "labels"
    with pytest.raises(GradeError, match=r"auto finds no grader .*'text'"):
        resolve("auto", "text")
    with pytest.raises(GradeError, match=r"'exakt' is unknown. Expected auto, exact, label, number"):
        resolve("exakt", "qa")


def test_a_users_function_is_loaded_from_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "my_graders.py").write_text(
        "def short(example, text):\n    return len(text) < 5\nlimit = 3\n", encoding="utf-8"
    )
    (tmp_path / "my_broken.py").write_text("import not_there_at_all\n", encoding="utf-8")
    (tmp_path / "my_crash.py").write_text("1 / 0\n", encoding="utf-8")
    (tmp_path / "my_script.py").write_text("raise SystemExit(3)\n", encoding="utf-8")
    name, grade = resolve("my_graders:short", "text", tmp_path)
    assert name == "my_graders:short"
    assert grade(example("x"), "abc") == Score(1.0, want="x")
    assert grade(example("x"), "abcdef").value == 0
    for bad, said in [
        ("my_graders:long", "expected a function 'long' in .*my_graders.py, found no such name"),
        ("my_graders:limit", "found int"),
        ("my_broken:f", "no module 'not_there_at_all'"),
        ("nowhere_at_all:f", f"no module 'nowhere_at_all' .looked in {tmp_path}"),
        ("my_crash:f", "importing my_crash failed with ZeroDivisionError"),
        ("my_script:f", "importing my_script failed with SystemExit: 3"),
    ]:
        with pytest.raises(GradeError, match=said):
            resolve(bad, "text", tmp_path)


@pytest.mark.parametrize(
    "result",
    [1.5, -0.1, float("nan"), float("inf"), "1", None, [1], 1j, Score(2.0), Score(None), Score(float("nan"))],
)
def test_what_is_no_score_becomes_an_error(result: object) -> None:
    score = guard(lambda example, text: result)(example("x"), "y")
    assert score.value is None
    assert score.error is not None
    assert "expected" in score.error


@pytest.mark.parametrize("result", [True, np.True_, 1, 1.0, np.float32(1), Score(1.0)])
def test_every_plain_form_of_full_marks_is_one(result: object) -> None:
    assert guard(lambda example, text: result)(example("x"), "y").value == 1.0


@pytest.mark.parametrize(
    "result",
    [Score(0.5, "\ud800", "\ud800", "\udc00"), Score(0.5, got={1}, want=7), Score(0.5, got=None)],
)
def test_the_words_of_a_score_can_be_written(result: Score) -> None:
    score = guard(lambda example, text: result)(example("x"), "y")
    assert score.value == 0.5
    for word in (score.reason, score.got, score.want):
        assert isinstance(word, str)
        word.encode("utf-8")
    failed = guard(lambda example, text: {}["\ud800"])(example("x"), "y")
    assert (failed.error or "").encode("utf-8").startswith(b"KeyError")


@pytest.mark.parametrize(("name", "text"), [("json", '{"a": "\\ud800"}'), ("labels", '["\\ud800"]')])
def test_half_a_character_in_an_answers_json_can_be_written(name: str, text: str) -> None:
    score = resolve(name, "qa")[1](example('{"a": "b"}'), text)
    assert score.value == 0
    assert score.got.encode("utf-8")


@pytest.mark.parametrize("depth", [200, 500, 900])
def test_lists_in_lists_are_no_labels_and_no_error(depth: int) -> None:
    score = resolve("labels", "labels")[1](example("a, b"), "[" * depth + "1" + "]" * depth)
    assert (score.value, score.error) == (0.0, None)


def test_what_auto_goes_by() -> None:
    assert grading_format({"a": "label", "b": "label"}, "labels") == "several labels"
    assert grading_format({"a": "label", "b": "text"}, "labels") == "labels"


@pytest.mark.parametrize(
    ("format", "answer", "grader"),
    [
        ("qa", "Lima", "exact"),
        ("qa", "Dear customer, we have sent the money back to your account today.", "chrf"),
        ("chat", "Dear customer, we have sent the money back to your account today.", "chrf"),
        ("labels", "one of the labels that happens to be as long as a sentence is", "label"),
        ("qa", '{"a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "f": 6, "g": 7, "h": 8}', "exact"),
    ],
)
def test_long_free_answers_are_graded_by_chrf(format: str, answer: str, grader: str) -> None:
    rows = [Example(str(k), (Message("user", "q"),), (Answer(answer),)) for k in range(3)]
    assert resolve("auto", grading_format({}, format, rows))[0] == grader
    short = Example("s", (Message("user", "q"),), (Answer("yes"),))
    expected = "label" if format == "labels" else "exact"
    assert resolve("auto", grading_format({}, format, [*rows, *4 * [short]]))[0] == expected
    assert is_custom("mine:grade") and not is_custom("regex (pattern a: b)") and not is_custom("exact")


def test_a_score_keeps_its_words() -> None:
    given = Score(0.5, "half", "got", "want")
    assert guard(lambda example, text: given)(example("x"), "y") == given
    failed = Score(0.5, error="could not tell")
    assert guard(lambda example, text: failed)(example("x"), "y").value is None
