"""Keys of other tools: the page matches the table, and error messages name keys that exist."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripts_for_tests import load_script

from finetooth.cli.app import invoke
from finetooth.config.load import load_task
from finetooth.config.other_tools import key_mappings, tools
from finetooth.config.task import Task, keys
from finetooth.errors import ConfigError

page_maker = load_script("tools/migration.py")
KEYS = {key for key, _ in keys()}
OWN = set(Task.model_fields)  # names that are our keys too, such as `seed`


def test_the_page_is_what_the_generator_makes() -> None:
    page = page_maker.PAGE.read_text(encoding="utf-8")
    assert page == page_maker.render(page), "out of date: python tools/migration.py"
    assert page_maker.render(page.replace("| `num_train_epochs` |", "| planted |")) == page


def test_every_name_maps_to_a_key_that_exists_or_has_a_reason() -> None:
    for name, (key, note) in key_mappings().items():
        assert key in KEYS if key else note, name
    assert {name for names in tools().values() for name in names} <= set(key_mappings())


@pytest.mark.parametrize("name", sorted(set(key_mappings()) - OWN))
def test_the_error_of_a_task_file_names_our_key(name: str, tmp_path: Path) -> None:
    key, note = key_mappings()[name]
    path = tmp_path / "task.yaml"
    for text in (f"data: {{train: a.csv}}\n{name}: 1\n", f"data: {{train: a.csv}}\ntrain: {{{name}: 1}}\n"):
        if key.endswith(f".{name}") and "train: {" in text[20:]:
            continue  # `train.max_steps` is right
        path.write_text(text)
        with pytest.raises(ConfigError) as caught:
            load_task(path)
        if key.endswith(f".{name}"):
            words = f"Did you mean {key}?"
        else:
            words = f"In finetooth it is called {key}." if key else f"finetooth has no such key: {note}."
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--num_train_epochs", "In finetooth it is called --train.epochs."),
        (
            "--per-device-train-batch-size",
            "In finetooth it is called --train.batch_size. Rows per optimizer step",
        ),
        ("--micro_batch_size", "In finetooth it is called --train.batch_size."),
        ("--learning_rate", "Did you mean --train.learning_rate?"),
        ("--val_set_size", "In finetooth it is called --data.validation."),
        ("--lora_alpha", "finetooth has no such key: fixed at 32"),
    ],
)
def test_the_error_of_a_flag_names_our_key(flag: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["run", "task.yaml", flag, "3"]) == 2
    assert words in capsys.readouterr().err
