"""Task files that are endless, nested, or hold what no machine can: one line each."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from finetooth.config.load import load_task
from finetooth.errors import ConfigError

BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [{','.join([f'*{before}'] * 10)}]}}\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed: " + "9" * 5000, "thousands of digits"),
        ("name: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ('name: "a\\0b"', "NUL character"),
        ('data: {train: "a\\0b"}', "NUL character"),
        ('data: {columns: {"a\\0": text}}', "NUL character"),
        (BOMB, "more than 1,000,000 values"),
        (MERGES, "<< takes one mapping here"),
        ("? [a]\n: b", "task file"),
        ("seed: 2026-99-99", "task file"),
        ("a: &a [*a]", "task file"),
        ("data: {train: t.jsonl}\nseed: 18446744073709551616", r"from 0 to \d+ \(2\*\*64 - 1\)"),
        ("data: {train: t.jsonl}\nseed: -1", "from 0 to"),
        ("data: {train: t.jsonl}\ntrain: {rank: 100000}", "at most 4096"),
        ("data: {train: t.jsonl}\ntrain: {weight_decay: .inf}", "a finite number"),
        ("data: {train: t.jsonl}\ntrain: {epochs: 1.0e+300}", "at most 100000"),
        ("data: {train: t.jsonl}\ntrain: {batch_size: 99999999999999999999}", "at most 1e"),
        ("data: {train: t.jsonl}\nevaluate: {grader_seconds: 0}", "above 0"),
        ("data: {train: t.jsonl, columns: {0: text}}", 'YAML reads 0 as a number; .* "0": text'),
        ("data: {train: t.jsonl, columns: {no: text}}", "truth values"),
        ("data: {train: t.jsonl}\nname: 2024-01-01", 'as a date; .*"2024-01-01"'),
        ("data: {train: t.jsonl}\nname: 1e400000", "task|text"),
    ],
)  # fmt: skip
def test_a_hostile_task_file_is_one_message(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(text)
    start = time.process_time()
    if said == "task|text":
        load_task(file)  # a name like any other
        return
    with pytest.raises(ConfigError, match=said):
        load_task(file)
    assert time.process_time() - start < 10


def test_a_nested_toml_file_is_one_message(tmp_path: Path) -> None:
    file = tmp_path / "t.toml"
    file.write_text("name = " + "[" * 5000 + "]" * 5000)
    with pytest.raises(ConfigError, match="nested too deeply"):
        load_task(file)
