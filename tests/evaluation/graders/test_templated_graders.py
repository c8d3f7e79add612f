"""string_check, text_similarity and multi: scores, wrong answers, errors, refusals."""

from __future__ import annotations

from typing import Any

import pytest

from finetooth.errors import GradeError
from finetooth.evaluation import graders
from finetooth.types import Answer, Example, Message

ROW = Example(
    "a",
    (Message("system", "Be brief."), Message("user", "Where is it?")),
    (Answer("In Ghent"),),
    {"town": "Ghent", "codes": [7, {"kind": "x"}], "file": "rows.jsonl"},
)


def score(spec: dict[str, Any], text: str, row: Example = ROW) -> Any:
    return graders.resolve(spec, "qa")[1](row, text)


def check(operation: str, reference: str, input: str = "{{ sample.output_text }}") -> dict[str, Any]:
    return {"type": "string_check", "input": input, "reference": reference, "operation": operation}


@pytest.mark.parametrize(
    ("operation", "reference", "text", "value"),
    [
        ("eq", "{{ item.town }}", "Ghent", 1),
        ("eq", "{{item.town}}", "ghent", 0),
        ("ne", "{{ item.town }}", "Ghent", 0),
        ("ne", "{{ item.town }}", "Bruges", 1),
        ("like", "{{ item.town }}", "It is in Ghent.", 1),
        ("like", "{{ item.town }}", "It is in ghent.", 0),
        ("ilike", "{{ item.town }}", "It is in ghent.", 1),
        ("eq", "{{ item.output }}", "In Ghent", 1),
        ("eq", "{{ item.input }}", "Where is it?", 1),
        ("eq", "{{ item.messages[0].content }}", "Be brief.", 1),
        ("eq", "{{ item.codes[1].kind }}{{ item.codes[0] }}", "x7", 1),
        ("eq", "{{ item.codes[1] }}", '{"kind": "x"}', 1),
    ],
)
def test_string_check(operation: str, reference: str, text: str, value: float) -> None:
    found = score(check(operation, reference), text)
    assert (found.value, found.error) == (value, None)


def test_json_that_the_answer_lacks_is_wrong_and_what_the_row_lacks_is_an_error() -> None:
    spec = check("eq", "Ghent", "{{ sample.output_json.town[0] }}")
    assert score(spec, '{"town": ["Ghent"]}').value == 1
    for text in ("Ghent", "{}", '{"town": []}', "[" * 10_000):
        assert (score(spec, text).value, score(spec, text).error) == (0.0, None)
    failed = score(check("eq", "{{ item.city }}"), "Ghent")
    assert failed.value is None and "the row has no item.city" in failed.error


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("fuzzy_match", 2 * 8 / 22),  # "hello er" of 11 characters each
        ("rouge_1", 0.5),
        ("rouge_2", 0.0),
        ("rouge_l", 0.5),
        ("gleu", 1 / 3),  # 1 of 3 groups of 1 and 2 words
    ],
)
def test_text_similarity(metric: str, value: float) -> None:
    spec = {
        "type": "text_similarity",
        "input": "{{ sample.output_text }}",
        "reference": "hello there",
        "evaluation_metric": metric,
    }
    found = score(spec, "hello werld")
    assert found.value == pytest.approx(value)
    assert score(spec, "hello there").value == 1.0
    assert score(spec | {"pass_threshold": value + 0.01}, "hello werld").value == 0.0
    assert score(spec | {"pass_threshold": value}, "hello werld").value == 1.0


def multi(formula: str) -> dict[str, Any]:
    return {
        "type": "multi",
        "name": "both",
        "graders": {"town": check("like", "Ghent"), "polite": check("ilike", "please")},
        "calculate_output": formula,
    }


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("0.75 * town + 0.25 * polite", 0.75),
        ("town ^ 2 - polite", 1.0),
        ("min(town, polite)", 0.0),
        ("max(town, polite, 0) / 4", 0.25),
        ("abs(-town) * exp(polite) * sqrt(4) / 2", 1.0),
        ("floor(0.9) + ceil(0.1) - log(1)", 1.0),
        ("-(-town)", 1.0),
    ],
)
def test_a_formula_over_graders(formula: str, value: float) -> None:
    assert score(multi(formula), "In Ghent").value == pytest.approx(value)


@pytest.mark.parametrize("formula", ["town / polite", "log(polite)", "town + 1", "(-town) ^ 0.5", "10^10^10"])
def test_a_formula_without_a_value_from_0_to_1_is_an_error(formula: str) -> None:
    found = score(multi(formula), "In Ghent")
    assert found.value is None and found.error


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"type": "score_model"}, "score_model is not a grader type; expected string_check"),
        ({"type": "string_check", "input": "a"}, "string_check operation is missing"),
        (check("eq", "a") | {"image": "b"}, "image is unknown; it takes input, name, operation, reference"),
        (check("neq", "a"), "operation must be eq, ne, like, ilike, found 'neq'"),
        (check("eq", 3), "reference must be a text"),  # type: ignore[arg-type]
        (multi("town + village"), "found 'village'"),
        (multi("__import__('os')"), "found"),
        (multi("town.real"), "found 'town.real'"),
        (multi("town if polite else 0"), "found"),
        (multi("town +"), "cannot be read"),
        ({"type": "multi", "graders": [check("eq", "a")], "calculate_output": "1"}, "graders must be"),
        ({"type": "multi", "graders": {"a": multi("1")}, "calculate_output": "a"}, "of the other types"),
        (
            {"type": "text_similarity", "input": "", "reference": "", "evaluation_metric": "cosine"},
            "is not supported",
        ),
    ],
)
def test_what_is_refused(spec: dict[str, Any], words: str) -> None:
    with pytest.raises(GradeError, match="evaluate.grader: .*" + words.replace("(", r"\(")):
        graders.resolve(spec, "qa")


def test_they_have_names_and_are_no_users_own() -> None:
    for spec, name in ((check("eq", "a"), "(string_check)"), (multi("town"), "both (multi)")):
        found = graders.resolve(spec, "qa")[0]
        assert found == name
        assert not graders.is_custom(found)
        assert graders.grader_digest(spec) == ""
    refused, doubts = graders.validate_graders(check("eq", "{{ item.output }}"), "qa", [ROW])
    assert (refused, doubts) == ([], [])
