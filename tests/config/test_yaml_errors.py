"""A task file that is no YAML: one line that says which line, what is wrong there, and what to type."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetooth.config.load import load_task
from finetooth.errors import ConfigError

FILES = {
    "data:\n\ttrain: a.csv\n": (2, "indented with spaces only. Replace every tab"),
    "data:\n  train: a.csv\n\tformat: text\n": (3, "indented with spaces only"),
    "data: {train: a.csv\n": (1, "a { has no }"),
    "data: {train: a.csv\ntrain: {epochs: 2}\n": (1, "a { has no }"),
    "seed: 1\ndata: {train: [a.csv, b.csv}\n": (2, "bracket"),
    "data: {train: [a.csv\nseed: 1\n": (1, "has no"),
    "data: {train: a.csv}}\n": (1, "a '}' too many"),
    "data: {train: a: b}\n": (1, "put a value that holds a colon in quotes"),
    "data: {train: a.csv format: text}\n": (1, "with commas"),
    "data: {train: 'a.csv}\n": (1, "a quotation mark has no second one"),
    "name: a: b\n": (1, "holds a colon in quotes"),
    "data:\n  train: a.csv\n seed: 2\n": (3, "not indented like"),
    "data: {train: a.csv}\n- x\n": (2, "an entry of a list"),
    "data: {train: @a}\n": (1, "cannot begin with '@'. Put it in quotes"),
    "data: {train: a.csv}\nseed\n": (2, "has no colon behind it"),
    "seed: 1\nseed: 2\n": (1, "the key 'seed' is given twice"),
    "data: !!python/object:os.system {}\n": (1, "could not determine a constructor"),
}


@pytest.mark.parametrize("text", FILES)
def test_the_line_is_named_and_what_is_wrong_with_it(text: str, tmp_path: Path) -> None:
    file = tmp_path / "task.yaml"
    file.write_text(text)
    number, words = FILES[text]
    with pytest.raises(ConfigError) as refused:
        load_task(file)
    message = str(refused.value)
    shown = text.splitlines()[number - 1].strip()
    assert f"task file: line {number}, {shown!r}: " in message
    assert words in message
    assert "\n" not in message and "unicode string" not in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data: {train:a.csv}\n", "Put a space behind the colon: `train: a.csv`."),
        ("data: {train: a.csv}\ntrain: {epochs 2}\n", "Put a colon behind the key: `epochs: 2`."),
        ("data: {train: a.csv, columns: {text:context}}\n", "Put a space behind the colon: `text: context`."),
        (
            "data: {train: a.csv, columns: {Body:text, Team: label}}\n",
            "a space behind the colon: `Body: text`.",
        ),
        ("data: {train: a.csv, clean: [{balance: {max_ratio:3}}]}\n", "max_ratio"),
        ("data: {train: a.csv}\nepoch: 2\n", "Did you mean train.epochs?"),
    ],
)
def test_a_space_or_a_colon_that_is_missing(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "task.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load_task(file)
    assert words in str(refused.value)
