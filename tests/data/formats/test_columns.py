"""Columns as people name them: nearly known names, several label columns, files that lack a column."""

from __future__ import annotations

import re
from typing import Any

import pytest

from finetooth.config.task import DataConfig, build_task
from finetooth.data.formats.columns import ColumnPlan
from finetooth.data.formats.parse import ParsedTable, parse
from finetooth.data.read.files import read
from finetooth.errors import DataError
from finetooth.evaluation.graders.label_sets import labels
from finetooth.evaluation.prompts import zero_shot
from finetooth.quality.prepare import assemble
from finetooth.types import Message

ROWS = 12


def parsed(rows: list[dict[str, Any]], format: str = "auto", **config: Any) -> ParsedTable:
    (table,) = read(rows)
    return parse(table, DataConfig(train=rows, **config), format)


def named(column: str, values: tuple[Any, ...] = ("x", "y")) -> list[dict[str, Any]]:
    return [{"text": f"row {k}", column: values[k % len(values)]} for k in range(ROWS)]


@pytest.mark.parametrize(
    "name", [" label", "label ", "\u200blabel", "label\u00a0", "\ufefflabel", "\u200elabel\t"]
)
def test_what_cannot_be_seen_is_no_part_of_a_name(name: str) -> None:
    result = parsed(named(name))
    assert result.format == "labels" and {one.target for one in result.examples} == {"x", "y"}


@pytest.mark.parametrize(
    "name", ["Label", "LABEL", "labels", "la\u200bbel", "label_", "Answer", "Messages", "tool"]
)
def test_a_name_that_is_nearly_known_is_asked_about(name: str) -> None:
    with pytest.raises(
        DataError, match=rf'would be left out.*{{"?{re.escape(ascii(name)[1:-1])}"?: '
    ) as caught:
        parsed(named(name))
    assert "set data.format: text" in str(caught.value)
    assert parsed(named(name), "text").format == "text"


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "i", "Input": "the text", "output": "o"},
        {"question": "q", "answer": "a", "System": "s"},
        {"text": "t", "label": "l", "Weight": 2},
        {"prompt": "p", "chosen": "c", "rejected": "r", "TOOLS": []},
    ],
)
def test_an_optional_column_of_nearly_its_name_is_not_dropped(row: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"its name is nearly"):
        parsed([row])


def test_unknown_columns_of_nearly_known_names_are_mapped_in_the_advice() -> None:
    with pytest.raises(DataError, match=r"`data\.columns: {Text: text, LABELS: label}`"):
        parsed([{"Text": "a", "LABELS": "b"}])


def test_plain_text_beside_a_column_of_few_values_is_a_question() -> None:
    for values in (("billing", "delivery"), (0, 1), (True, False), (1.0, 2.0, 3.0)):
        with pytest.raises(DataError, match=r"more than one way.*data\.columns: {team: label}"):
            parsed(named("team", values))
    assert parsed(named("team"), "text").format == "text"
    assert parsed(named("source")).format == "text", "it describes where the texts are from"
    assert parsed([{"text": f"row {k}", "title": f"t{k}"} for k in range(ROWS)]).format == "text"
    several = [{**row, "url": f"u{k}", "size": k} for k, row in enumerate(named("team"))]
    assert parsed(several).maybe_labels == {"team": 2}
    data = assemble(build_task({"data": {"train": several, "test": 0, "validation": 0}}))
    assert [one.rule for one in data.findings] == ["unread-label"]


def test_a_name_that_yaml_would_read_as_something_else_is_in_quotes() -> None:
    for name in ("no", "Label,", "12"):
        with pytest.raises(DataError, match=re.escape(f'{{"{name}": label}}')):
            parsed(named(name))


def test_single_turns_of_conversations_are_no_plain_text() -> None:
    rows = [{"text": "a", "role": "prompter", "message_id": "1", "parent_id": None}]
    with pytest.raises(DataError, match="single turns of conversations"):
        parsed(rows)


def test_a_list_of_labels_says_how_to_write_it() -> None:
    with pytest.raises(DataError, match=r"holds lists.*set evaluate\.grader: labels"):
        parsed([{"text": "a", "labels": [0, 3]}, {"text": "b", "labels": [1]}])
    result = parsed([{"text": "a", "label": ["x"]}])
    assert "set evaluate.grader: labels" in result.rejected[0].reason


# ---- several label columns

TWO = {"frame": "label", "shade": "label"}


def joined(*cells: tuple[Any, Any]) -> list[str]:
    rows = [{"text": "t", "frame": one, "shade": other} for one, other in cells]
    return [example.target for example in parsed(rows, columns=TWO).examples]


@pytest.mark.parametrize(
    ("yes", "no"),
    [("yes", "no"), ("Y", "N"), ("x", ""), ("TRUE", "FALSE"), ("1", "0"), (1.0, 0.0), ("ja", "nein")],
)
def test_flags_are_flags_in_any_spelling(yes: Any, no: Any) -> None:
    cells = [(yes, no), (no, yes), (yes, yes), (no, no)]
    assert joined(*cells) == ["frame", "shade", "frame, shade", "none"]


def test_columns_that_share_values_are_told_apart() -> None:
    red = joined(("red", "blue"), ("blue", "red"), ("red", "red"))
    assert red == ["frame: red, shade: blue", "frame: blue, shade: red", "frame: red, shade: red"]
    assert joined(("x", "y"), ("y", "x")) == ["frame: x, shade: y", "frame: y, shade: x"]
    assert joined((1, 5), (2, 1)) == ["frame: 1, shade: 5", "frame: 2, shade: 1"]
    assert joined(("oak", "red"), ("ash", "")) == ["oak, red", "ash"]
    assert joined(("yes", "red"), ("no", "blue")) == ["frame, red", "blue"]


def test_a_value_with_a_comma_stays_one_label_everywhere() -> None:
    rows = [
        {"text": "t", "frame": "oak", "shade": "Korea, South"},
        {"text": "t", "frame": "ash", "shade": "Oman"},
        {"text": "t", "frame": "", "shade": "Korea, South"},
    ]
    result = parsed(rows, columns=TWO).examples
    assert [example.target for example in result] == [
        '["oak", "Korea, South"]',
        '["ash", "Oman"]',
        '["Korea, South"]',
    ]
    for answer, score in (
        ("Korea, South, oak", 1.0),
        ('["Korea, South", "oak"]', 1.0),
        ("oak; South; Korea", 0.4),
    ):
        assert labels(result[0], answer).value == pytest.approx(score)
    several = zero_shot(["Korea, South", "oak"])
    assert several.messages(result[0])[0].content.splitlines()[1:] == ["Korea, South", "oak"]
    listing = Message("system", 'Answer with all that fit, as a JSON list, of: ["Korea, South", "oak"].')
    assert type(several)("zero-shot", several.labels, multi_label=True).messages(result[0])[0] == listing


def test_label_columns_are_read_alike_in_all_files() -> None:
    """The second file alone shares no values and has no comma."""
    files = [
        [
            {"text": "t", "frame": "red", "shade": "red, light"},
            {"text": "t", "frame": "blue", "shade": "red"},
        ],
        [{"text": "t", "frame": "red", "shade": "green"}],
    ]
    tables = [read(rows)[0] for rows in files]
    config = DataConfig(train=files[0], columns=TWO)
    plan = ColumnPlan.of(tables, config.columns)
    (example,) = parse(tables[1], config, "auto", plan).examples
    assert example.target == '["frame: red", "shade: green"]'


# ---- files of a task


def data(columns: dict[str, str], *files: list[dict[str, Any]]) -> list[ParsedTable]:
    tables = [read(rows)[0] for rows in files]
    config = DataConfig(train=files[0], columns=columns)
    plan = ColumnPlan.of(tables, config.columns)
    return [parse(table, config, "auto", plan) for table in tables]


def test_an_optional_column_may_be_missing_in_a_file_but_not_in_all() -> None:
    with_trust = [{"text": "a", "label": "b", "trust": 0.5}]
    without = [{"text": "c", "label": "d"}]
    first, second = data({"trust": "weight"}, with_trust, without)
    assert first.examples[0].answers[0].weight == 0.5 and second.examples[0].answers[0].weight == 1.0
    with pytest.raises(DataError, match="no column 'trust'"):
        data({"trust": "weight"}, without, without)
    with pytest.raises(DataError, match="no column 'intent'"):
        data({"intent": "label"}, [{"text": "a", "intent": "b"}], [{"text": "a", "label": "b"}])
