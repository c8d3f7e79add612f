"""Names of other tools: the page says what the code says, and the error of a task file names a real key."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripts_for_tests import load_script

from finetooth.cli.app import invoke
from finetooth.config.load import load_task
from finetooth.config.other_tools import KEY_MAPPINGS, TOOLS
from finetooth.config.task import Task, keys
from finetooth.errors import ConfigError

page_maker = load_script("tools/migration.py")
KEYS = {key for key, _ in keys()}
OWN = set(Task.model_fields)  # names that are keys here as well, such as `seed`


def test_the_page_is_what_the_generator_makes() -> None:
    page = page_maker.PAGE.read_text(encoding="utf-8")
    assert page == page_maker.render(page), "out of date: python tools/migration.py"
    assert page_maker.render(page.replace("| `num_train_epochs` |", "| planted |")) == page


def test_every_name_means_a_key_that_exists_or_says_why_not() -> None:
    for name, (key, note) in KEY_MAPPINGS.items():
        assert key in KEYS if key else note, name
    used = {name for names in TOOLS.values() for name in names.split()}
    assert used <= set(KEY_MAPPINGS)


@pytest.mark.parametrize("name", sorted(set(KEY_MAPPINGS) - OWN))
def test_a_name_in_a_task_file_is_answered_with_ours(name: str, tmp_path: Path) -> None:
    key, note = KEY_MAPPINGS[name]
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
            words = f"Here it is called {key}." if key else f"There is no such key here: {note}."
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--num_train_epochs", "Here it is called train.epochs."),
        ("--per-device-train-batch-size", "Here it is called train.batch_size. Rows per optimizer step"),
        ("--micro_batch_size", "Here it is called train.batch_size."),
        ("--learning_rate", "Did you mean --train.learning_rate?"),
        ("--val_set_size", "Here it is called data.validation."),
        ("--lora_alpha", "There is no such key here: it is 32"),
    ],
)
def test_a_flag_is_answered_with_ours(flag: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["run", "task.yaml", flag, "3"]) == 2
    assert words in capsys.readouterr().err
