"""The grader for JSON: what is valid, what the fields are worth, and what it says is wrong."""

import json
from pathlib import Path

import pytest

from finetooth.config.load import load_task
from finetooth.errors import ConfigError, GradeError
from finetooth.evaluation.graders import guard, json_fields, resolve
from finetooth.types import Answer, Example, Message

WANT = '{"name": "Ada", "age": 36, "tags": ["a", "b"], "address": {"city": "London", "zip": null}}'


def example(target: str = WANT) -> Example:
    return Example("a", (Message("user", "?"),), (Answer(target),))


@pytest.mark.parametrize(
    "text",
    [
        WANT,
        f"```json\n{WANT}\n```",
        f"\n ```\n{json.dumps(json.loads(WANT), indent=2)}```  ",
        '{"address":{"zip":null,"city":"London"},"tags":["a","b"],"age":36.0,"name":"Ada"}',
    ],
)
def test_the_same_value_written_otherwise_is_right(text: str) -> None:
    score = json_fields(example(), text)
    assert (score.value, score.reason, score.error) == (1.0, "", None)


@pytest.mark.parametrize(
    ("text", "value", "reason"),
    [
        # 6 fields are expected: name, age, tags[0], tags[1], address.city, address.zip
        (WANT.replace("36", "37"), 10 / 12, "age: got 37, want 36"),
        (WANT.replace("36", '"36"'), 10 / 12, 'age: got "36", want 36'),
        (WANT.replace("null", "false"), 10 / 12, "address.zip: got false, want null"),
        (
            WANT.replace('"a", "b"', '"b", "a"'),
            8 / 12,
            'tags[0]: got "b", want "a"; tags[1]: got "a", want "b"',
        ),
        (WANT.replace('["a", "b"]', "[]"), 8 / 11, "tags[0]: missing; tags[1]: missing; tags: not expected"),
        (WANT.replace('"name": "Ada", ', ""), 10 / 11, "name: missing"),
        ('{"mood": true, ' + WANT[1:], 12 / 13, "mood: not expected"),
        (WANT.replace('"age": 36', '"age": true'), 10 / 12, "age: got true, want 36"),
        (
            '"Ada"',
            0,
            "name: missing; age: missing; tags[0]: missing; tags[1]: missing; address.city: missing; "
            "and 2 more",
        ),
        ("{}", 0, None),
    ],
)
def test_fields_are_counted_and_the_wrong_ones_named(text: str, value: float, reason: str | None) -> None:
    score = json_fields(example(), text)
    assert score.value == pytest.approx(value)
    assert reason is None or score.reason == reason


def test_true_is_not_one_and_one_is_one_point_nought() -> None:
    assert json_fields(example("[1]"), "[true]").value == 0
    assert json_fields(example("[1]"), "[1.0]").value == 1
    assert json_fields(example('{"a.b": 1}'), '{"a": {"b": 1}}').value == 0
    assert json_fields(example('"null"'), "null").value == 0
    assert json_fields(example("{}"), "{}").value == 1
    assert json_fields(example("{}"), "[]").value == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON: expecting value at line 1, column 1"),
        (WANT[:-3], "not JSON"),
        (WANT.replace("36", "NaN"), "not JSON: NaN is not a JSON number"),
        (WANT.replace("36", "1e999"), "not JSON: 1e999 is not a JSON number"),
        (WANT.replace("36", "-Infinity"), "not JSON: -Infinity"),
        (WANT.replace('"age"', '"name"'), "not JSON: the key 'name' is given twice"),
        (WANT.replace("36", "9" * 5_000), "not JSON"),
        ("[" * 100_000 + "]" * 100_000, "not JSON: nested too deeply"),
        (WANT.replace('"', "'"), "not JSON"),
        (WANT + WANT.replace("36", "37"), "not JSON: there are 2 different JSON values"),
        (f"Here it is: {WANT[:-3]}", "not JSON"),
        (f"Here it is: {WANT.replace('36', 'NaN')}", "not JSON: NaN is not a JSON number"),
    ],
)
def test_what_is_not_json_is_wrong_and_says_why(text: str, reason: str) -> None:
    score = json_fields(example(), text)
    assert (score.value, score.error) == (0.0, None)
    assert score.reason.startswith(reason)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"Here it is: {WANT}", "not JSON: expecting value at line 1, column 1"),
        (WANT + " I hope this helps", "not JSON: extra data"),
        (f"```json\n{WANT}\n``` and more", "not JSON"),
    ],
)
def test_a_sentence_around_json_is_wrong_only_where_strict(text: str, reason: str) -> None:
    assert json_fields(example(), text).value == 1
    score = resolve({"name": "json", "strict": True}, "qa")[1](example(), text)
    assert (score.value, score.error) == (0.0, None)
    assert score.reason.startswith(reason)


@pytest.mark.parametrize("depth", [101, 300, 500, 700, 900])
@pytest.mark.parametrize("opens", ["[", '{"a":'])
def test_an_answer_nested_deeply_is_wrong_and_no_error(depth: int, opens: str) -> None:
    """It may be within what Python parses, and beyond what a walk through it takes."""
    text = opens * depth + "1" + ("]" if opens == "[" else "}") * depth
    score = guard(json_fields)(example(), text)
    assert (score.value, score.reason, score.error) == (0.0, "not JSON: nested too deeply", None)
    fine = opens * 100 + "1" + ("]" if opens == "[" else "}") * 100
    assert guard(json_fields)(example(fine), fine).value == 1


def test_an_expected_answer_that_is_not_json_is_an_error_of_the_data() -> None:
    score = json_fields(example("seven"), "7")
    assert score.value is None
    assert score.error == "the expected answer is not JSON (expecting value at line 1, column 1): 'seven'"


SCHEMA = {
    "type": "object",
    "properties": {"age": {"type": "integer", "minimum": 0}, "name": {"$ref": "#/$defs/name"}},
    "required": ["name", "age"],
    "$defs": {"name": {"type": "string", "minLength": 1}},
}


def test_a_schema_makes_an_answer_wrong_that_does_not_keep_it() -> None:
    name, grade = resolve({"name": "json", "schema": SCHEMA}, "qa")
    assert name == "json (schema)"
    assert grade(example(), WANT).value == 1
    score = grade(example(), WANT.replace("36", "-1"))
    assert score.value == 0
    assert score.reason == "violates the schema: age: -1 is less than the minimum of 0"
    broken = grade(example(), WANT.replace("36", '"old"').replace('"Ada"', '""'))
    assert broken.value == 0
    assert broken.reason.startswith("violates the schema: age: 'old' is not of type 'integer'")
    assert broken.reason.endswith("(and 1 more)")
    assert json_fields(example(), WANT.replace("36", "-1")).value == pytest.approx(10 / 12)


def test_a_schema_fetches_nothing(tmp_path: Path) -> None:
    (tmp_path / "there.json").write_text("{}", encoding="utf-8")
    for target in ((tmp_path / "there.json").as_uri(), "there.json"):
        _, grade = resolve({"name": "json", "schema": {"$ref": target}}, "qa")
        score = grade(example(), WANT)
        assert score.value is None
        assert "Unresolvable" in (score.error or "")


@pytest.mark.parametrize("schema", [{"type": "objekt"}, {"minimum": "x"}, 3, ["a"]])
def test_what_is_no_schema_is_refused_before_anything_runs(schema: object) -> None:
    with pytest.raises(GradeError, match=r"(?i)json schema"):
        resolve({"name": "json", "schema": schema}, "qa")


def test_a_schema_file_is_read_beside_the_task_file_and_kept(tmp_path: Path) -> None:
    (tmp_path / "person.json").write_text(json.dumps(SCHEMA), encoding="utf-8")
    task_file = tmp_path / "task.yaml"
    task_file.write_text(
        "data: {train: rows.jsonl}\nevaluate: {grader: [{name: json, schema: person.json}, exact]}\n",
        encoding="utf-8",
    )
    task = load_task(task_file)
    assert task.evaluate.grader == [{"name": "json", "schema": SCHEMA}, "exact"]
    assert load_task(task).evaluate.grader == task.evaluate.grader
    (tmp_path / "person.json").write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"person\.json cannot be read as a JSON Schema"):
        load_task(task_file)
    (tmp_path / "person.json").unlink()
    with pytest.raises(ConfigError, match=r"person\.json cannot be read"):
        load_task(task_file)
