"""Tasks from Python and from files: rows unchanged, paths of any kind, and every mistake in one message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import finetooth as ft
from finetooth.config.load import load_task
from finetooth.config.task import DataConfig, build_task
from finetooth.errors import ConfigError
from finetooth.quality.prepare import assemble

DEEP: list[Any] = []
for _ in range(5000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "value", [pd.Interval(0, 1), "\ud800", b"\xff", DEEP, {1: 2}, np.arange(2), object()]
)
def test_rows_pass_through_untouched(value: Any) -> None:
    """Also when the task is loaded again with flags on top; judging the values is up to `read`."""
    task = ft.Task(data={"train": [{"text": "a", "other": value}]})
    again = load_task(task, {"seed": 7})
    assert again.seed == 7 and again.data.train[0]["other"] is value  # type: ignore[index]


def test_scalars_of_numpy_become_those_of_python() -> None:
    row = {"label": np.int64(1), "share": np.float32(0.5), "yes": np.bool_(True), "text": np.str_("a")}
    task = ft.Task(data={"train": [row], "test": np.float32(0.25)})
    (read,) = task.data.train
    assert read == {"label": 1, "share": 0.5, "yes": True, "text": "a"}  # type: ignore[comparison-overlap]
    assert [type(value) for value in read.values()] == [int, float, bool, str]  # type: ignore[union-attr]
    assert task.data.test == 0.25


def test_a_frame_without_names_of_text_is_read() -> None:
    frame = pd.DataFrame([[f"question {n}", "ab"[n % 2]] for n in range(40)])
    columns = {"0": "text", "1": "label"}
    data = assemble(load_task({"data": {"train": frame, "columns": columns}}))
    assert data.format == "labels" and data.total == 40


def test_a_path_object_is_a_file(tmp_path: Path) -> None:
    paths = {name: tmp_path / f"{name}.jsonl" for name in ("train", "validation", "test")}
    task = load_task({"data": paths})
    assert {name: getattr(task.data, name) for name in paths} == {k: str(path) for k, path in paths.items()}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"dat": 1}, r"data is missing\.\n  unknown key dat\. Did you mean data\?"),
        (
            {"data": {"train": "x"}, "train": {"epoch": 3}},
            r"unknown key train\.epoch\. Did you mean train\.epochs",
        ),
        (
            {"data": {"train": "x"}, "lr": 1},
            r"unknown key lr\. In finetooth it is called train\.learning_rate",
        ),
        ({"data": {"train": 3}}, r"data\.train: expected a file or a list of files, found 3\."),
        (
            {"data": {"train": "x"}, "evaluate": {"shots": [0, 4, 4]}},
            r"evaluate\.shots: 4 is given twice; .*found",
        ),
    ],
)
def test_a_wrong_task_has_the_same_words_from_python_and_from_a_file(
    values: dict[str, Any], words: str
) -> None:
    for make in (lambda: ft.Task(**values), lambda: build_task(values)):
        with pytest.raises(ConfigError, match=r"(?s)^the task:\n.*" + words):
            make()


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"data": "x.json"}, "data: expected a section, data: {train: x.json}, found 'x.json'."),
        ({"train": {"epochs": "three"}}, "train.epochs: expected auto or a number, found 'three'."),
        ({"train": {"epochs": 0}}, "train.epochs: expected auto or a number above 0, found 0."),
        ({"train": {"rank": 1.5}}, "train.rank: expected a whole number, found 1.5."),
        ({"train": {"rank": 0}}, "train.rank: expected a number of at least 1, found 0."),
        ({"train": {"checkpointing": "x"}}, "train.checkpointing: expected true or false, found 'x'."),
        ({"train": {"schedule": "x"}}, "train.schedule: expected cosine, linear or constant, found 'x'."),
        ({"instruction": 5}, "instruction: expected text, found 5."),
        (
            {"data": {"train": "x", "validation": 20}},
            "data.validation: expected a number below 1, a file or a list of files, found 20.",
        ),
        ({"evaluate": {"temperature": -1}}, "evaluate.temperature: expected 0 (greedy decoding) or a "
         "number of at least 0.0001, found -1."),
    ],
)  # fmt: skip
def test_a_wrong_value_is_one_line_in_plain_words(values: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as refused:
        build_task({"data": {"train": "x"}} | values)
    assert str(refused.value) == f"the task:\n  {line}"


def test_a_section_alone_is_refused_in_the_same_way() -> None:
    with pytest.raises(ConfigError, match=r"unknown key tests\. Did you mean"):
        DataConfig(train="x", tests=0.1)


def test_the_embedded_model_is_never_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "milktooth"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    rows = {"data": {"train": [{"text": "a"}]}}
    assert load_task({"model": "milktooth", **rows}).model == load_task(rows).model == "milktooth"
    assert load_task({"model": "./milktooth", **rows}).model == str(folder)


@pytest.mark.parametrize("temperature", [-1, 1e-6, float("inf"), float("nan")])
def test_a_temperature_that_cannot_be_sampled_with_is_refused_at_once(temperature: float) -> None:
    with pytest.raises(ConfigError, match=r"evaluate\.temperature.*at least 0\.0001"):
        load_task({"data": {"train": "rows.jsonl"}, "evaluate": {"temperature": temperature}})
