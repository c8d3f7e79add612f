"""A key that takes a list takes one value too; a wrong value is answered with the choices."""

from __future__ import annotations

import re
from typing import Any, Literal, get_args, get_origin

import pytest

from finetooth.cli.task_flags import FIELDS, parse_value
from finetooth.config.cleaning import NAMES as CLEANING
from finetooth.config.load import load_task, set_dotted
from finetooth.config.task import Task
from finetooth.data.formats.columns import CANONICAL
from finetooth.errors import ConfigError
from finetooth.evaluation.graders import BUILT_IN
from finetooth.quality.gate import BLOCKS

ONE = {
    "data.add": "/other/next.jsonl",
    "data.clean": "dedupe",
    "data.allow": "leak",
    "train.track": "tensorboard",
    "evaluate.shots": 4,
    "evaluate.general": "/other/task.yaml",
}


def value_of(task: Task, key: str) -> Any:
    section, leaf = key.split(".")
    return getattr(getattr(task, section), leaf)


def task(key: str, value: Any) -> Task:
    values: dict[str, Any] = {"data": {"train": "a.csv"}}
    set_dotted(values, key, value)
    return load_task(values)


def lists() -> set[str]:
    """The keys whose only type is a list."""
    return {key for key, field in FIELDS.items() if get_origin(field.annotation) is list}


@pytest.mark.parametrize("key", sorted(lists()))
def test_one_value_is_a_list_of_it(key: str) -> None:
    one = ONE[key]
    assert value_of(task(key, one), key) == value_of(task(key, [one]), key) == [one]
    assert value_of(task(key, parse_value(key, str(one))), key) == [one]


def enumerated() -> dict[str, tuple[str, ...]]:
    found = {}
    for key, field in FIELDS.items():
        inner = [field.annotation, *get_args(field.annotation)]
        literals = [part for part in inner if get_origin(part) is Literal and get_args(part) != ("auto",)]
        if literals:
            found[key] = get_args(literals[0])
    return found


@pytest.mark.parametrize("key", sorted(enumerated()))
def test_a_wrong_value_is_answered_with_the_choices(key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        task(key, "qlora")
    (line,) = str(refused.value).splitlines()[1:]
    assert line.startswith(f"  {key}: expected ") and line.endswith("found 'qlora'.")
    assert all(choice in line for choice in enumerated()[key])


def test_the_names_that_a_key_takes_are_in_its_description() -> None:
    names = {
        "data.allow": BLOCKS,
        "data.clean": CLEANING,
        "data.columns": CANONICAL,
        "evaluate.grader": BUILT_IN,
        "template": ("auto", "chat", "instruction", "plain"),
    }
    for key, known in names.items():
        words = set(re.findall(r"[\w-]+", FIELDS[key].description or ""))
        assert set(known) <= words, key
