"""Graders with options, several at once, and those that look for a part of the answer."""

from pathlib import Path

import pytest

from finetooth.config.task import Task
from finetooth.errors import ConfigError, GradeError
from finetooth.evaluation.graders import (
    BUILT_IN,
    contains,
    grader_digest,
    labels,
    number,
    resolve,
    resolve_all,
    validate_graders,
)
from finetooth.evaluation.graders.numbers import Tolerance
from finetooth.types import Answer, Example, Message


def example(*targets: str) -> Example:
    answers = [Answer(targets[0]), *(Answer(target, "reference") for target in targets[1:])]
    return Example("a", (Message("user", "?"),), tuple(answers))


@pytest.mark.parametrize(
    ("target", "text", "value"),
    [
        ("Paris", "The capital is paris.", 1),
        ("New York", "in new\n  york today", 1),
        ("card 7", "it is card 77", 0),
        ("7", "17 apples", 0),
        ("7", "7.5 apples", 0),
        ("7", "about 3.7", 0),
        ("7", "7.", 1),
        ("7", "-7", 0),
        ("7", "it is −7 degrees", 0),
        ("7", "from 5-7 people", 1),
        ("-7", "it is -7", 1),
        ("7%", "a 7% rise", 1),
        ("cat", "category", 0),
        ("cat", "the bobcat", 0),
        ("cat", "cat_a", 0),
        ("(a)", "either (a) or (b)", 1),
        ("a.c", "abc", 0),  # no pattern
        ("北京", "首都是北京市", 1),  # scripts without spaces have no words to cut
        ("Straße", "STRASSE 5", 1),
        ("Paris", "", 0),
        ("", "anything", 0),
        ("", "", 1),
    ],
)
def test_contains(target: str, text: str, value: float) -> None:
    assert contains(example(target), text).value == value


@pytest.mark.parametrize(
    ("name", "targets", "text"),
    [
        ("number", ("12", "twelve is 13"), "13"),
        ("label", ("spam", "junk"), "Junk"),
        ("labels", ("a, b", "c, d"), "d, c"),
    ],
)
def test_the_best_of_several_expected_answers_counts(name: str, targets: tuple[str, str], text: str) -> None:
    grade = BUILT_IN[name]
    assert grade(example(*targets), text).value == grade(example(*targets), targets[0]).value == 1
    assert grade(example(*targets), "14").value == 0


def test_expected_answers_that_a_grader_does_not_accept_are_named() -> None:
    rows = [
        Example(f"r{n}", (Message("user", "?"),), (Answer(f"{n} apples" if n else "none"),)) for n in range(5)
    ]
    given = ["exact", "number", {"name": "regex", "pattern": "^[0-9]"}, "perplexity"]
    refused, (number_doubt, regex_doubt) = validate_graders(given, "qa", rows)
    assert refused == []
    assert number_doubt.startswith("number does not give full marks to 1 of 5 expected answers")
    assert "row r0: the expected answer has no number: 'none'" in number_doubt
    assert "regex (pattern ^[0-9])" in regex_doubt and regex_doubt.endswith("row r0: not found")
    thoughtful = [Example("t", (Message("user", "?"),), (Answer("x", more={"reasoning_content": "none"}),))]
    assert validate_graders(given, "qa", thoughtful) == validate_graders(given, "qa", []) == ([], [])


def test_a_primary_grader_that_gives_no_marks_to_any_expected_answer_is_refused() -> None:
    rows = [Example(f"r{n}", (), (Answer("none" if n < 250 else "7"),)) for n in range(300)]
    (refused,), doubts = validate_graders(["number", "exact"], "labels", rows[:250])
    assert refused.startswith("number gives full marks to none of 84 expected answers")
    assert refused.endswith("has no number: 'none'. For rows of this kind: --evaluate.grader label")
    assert doubts == []
    (refused,), _ = validate_graders({"name": "regex", "pattern": "^[0-9]"}, "qa", rows[:9])
    assert refused.endswith("row r0: not found. For rows of this kind: --evaluate.grader exact")
    refused_none, (doubt,) = validate_graders("number", "labels", rows)  # sorted: all parts are tried
    assert refused_none == [] and "to 84 of 100 expected answers" in doubt
    assert (
        validate_graders(["exact", "number"], "labels", rows[:9])[0] == []
    )  # beside another it decides nothing


def test_contains_takes_any_reference_and_never_a_rejected_answer() -> None:
    both = Example("a", (), (Answer("New York"), Answer("NYC", "reference"), Answer("LA", "rejected")))
    assert contains(both, "it is NYC").value == 1
    assert contains(both, "it is LA").value == 0
    assert contains(Example("a", (), (Answer("yes", "chosen"), Answer("no", "rejected"))), "yes!").value == 1


@pytest.mark.parametrize(
    ("target", "text", "value", "reason"),
    [
        ("red, green", "Green,red", 1, ""),
        ("red, green", '["red", "green"]', 1, ""),
        ("red, green", "red\ngreen\n", 1, ""),
        ("red; green; blue", "red; pink", 2 / 5, "missing: green, blue; not expected: pink"),
        ("red", "red, red", 1, ""),
        ("red, green", "", 0, "missing: red, green"),
        ("", "", 1, ""),
        ("", "red", 0, "not expected: red"),
        ("light red", "red", 0, "missing: light red; not expected: red"),
    ],
)
def test_labels_are_sets(target: str, text: str, value: float, reason: str) -> None:
    score = labels(example(target), text)
    assert score.value == pytest.approx(value)
    assert score.reason == reason


@pytest.mark.parametrize(
    ("tolerance", "target", "text", "value"),
    [
        (0.01, "3.14", "3.15", 1),
        (0.01, "3.14", "3.1501", 0),
        (0.01, "3.14", "3.13", 1),
        ("1%", "200", "202", 1),
        ("1%", "200", "202.1", 0),
        ("1%", "-200", "-198", 1),
        ("1%", "0", "0.001", 0),
        ("10 %", "50", "45", 1),
        (0, "0.1", "0.10", 1),
        (1e-3, "1e9", "1000000000.001", 1),
        (2, "5", "no number", 0),
        (1e30, "5", "9" * 10_000, 0),
    ],
)
def test_numbers_may_be_off_by_the_tolerance(tolerance: object, target: str, text: str, value: float) -> None:
    name, grade = resolve({"name": "number", "tolerance": tolerance}, "qa")
    assert grade(example(target), text).value == value
    assert name == f"number (tolerance {tolerance})"


def test_a_tolerance_is_a_number_or_a_share() -> None:
    for wrong in ("near", -1, "-1%", float("nan"), True, None, [1], "%"):
        with pytest.raises(GradeError, match=r"number: tolerance must be a number such as 0\.01"):
            Tolerance.of(wrong)
    assert number(example("2"), "2.001").value == 0  # none unless asked for


@pytest.mark.parametrize(
    ("pattern", "target", "text", "value"),
    [
        (r"^\d{4}-\d\d-\d\d$", "2024-05-06", "1999-01-01", 1),  # without a group: the form alone
        (r"^\d{4}-\d\d-\d\d$", "2024-05-06", "on 1999-01-01", 0),
        (r"#### (.+)", "so\n#### 12", "thus 5\n#### 12 ", 1),
        (r"#### (.+)", "12", "#### 12", 1),  # the expected answer need not have the form
        (r"#### (.+)", "so\n#### 12", "12", 0),
        (r"#### (.+)", "#### 12", "#### 12\n#### 13", 0),  # the last match counts
        (r"(?i)answer: (yes|no)|^(yes|no)$", "yes", "yes", 1),
        (r"(?i)answer: (yes|no)|^(yes|no)$", "Answer: yes", "ANSWER: no", 0),
    ],
)
def test_regex(pattern: str, target: str, text: str, value: float) -> None:
    name, grade = resolve({"name": "regex", "pattern": pattern}, "qa")
    score = grade(example(target), text)
    assert (score.value, score.error) == (value, None)
    assert name == f"regex (pattern {pattern})"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("regex", r"written \{name: regex, pattern: ...\}, found no option"),
        ({"name": "regex", "pattern": "("}, "is not a regular expression"),
        ({"name": "regex", "pattern": 3}, "is not a regular expression"),
        ({"name": "regex", "patern": "a"}, r"pattern: ...\}, found patern"),
        (
            {"name": "json", "tolerance": 1},
            r"\{name: json, schema: ..., ordered: ..., strict: ...\}, found tol",
        ),
        ({"name": "exact", "case": False}, r"\{name: exact, strict: ...\}, found case"),
        ({"name": "f1", "x": 1}, "f1 takes no option, found x. .*number takes tolerance and decimal"),
        ({"name": "exact", "strict": "yes"}, "strict must be true or false, found 'yes'"),
        ({"name": "number", "decimal": ";"}, r"decimal must be \"\.\", \",\" or auto"),
        ({"name": "mine:grade", "x": 1}, "takes no option"),
        ({"pattern": "a"}, "expected a name"),
        ({"name": 3}, "expected a name"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_runs(spec: object, said: str) -> None:
    with pytest.raises(GradeError, match=said):
        resolve(spec, "qa")


def test_several_graders_have_different_names() -> None:
    given = ["exact", {"name": "number"}, {"name": "number", "tolerance": 0.1}, "rouge"]
    assert [name for name, _ in resolve_all(given, "qa")] == [
        "exact",
        "number",
        "number (tolerance 0.1)",
        "rouge",
    ]
    assert [name for name, _ in resolve_all({"name": "auto"}, "labels")] == ["label"]
    with pytest.raises(GradeError, match="exact is given twice"):
        resolve_all(["exact", "auto"], "qa")
    with pytest.raises(GradeError, match="no grader is given"):
        resolve_all([], "text")
    assert grader_digest({"name": "number", "tolerance": 1}, Path()) == ""


def test_the_task_takes_a_name_a_mapping_or_a_list() -> None:
    for given in ("json", {"name": "json"}, ["exact", {"name": "number", "tolerance": "1%"}]):
        task = Task(data={"train": "x.jsonl"}, evaluate={"grader": given})
        assert task.evaluate.grader == given
    for wrong in (3, [3], None):
        with pytest.raises(ConfigError, match=r"evaluate\.grader"):
            Task(data={"train": "x.jsonl"}, evaluate={"grader": wrong})


def test_every_name_is_documented(root: Path) -> None:
    page = (root / "docs" / "reference.md").read_text(encoding="utf-8")
    for name in [*BUILT_IN, "regex", "perplexity"]:
        assert f"\n| `{name}` |" in page
