"""A wrong kind of argument, a flag without its value, a closed pipe: each has its own message."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from gate import gate

from finetooth.cli.app import invoke
from finetooth.config.load import load_task
from finetooth.config.task import Task
from finetooth.errors import ConfigError


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)  # check writes to runs/ here
    path = tmp_path / "fruit.jsonl"
    words = ("apple", "pear")
    path.write_text(
        "".join(json.dumps({"text": f"{w} {n}", "label": w}) + "\n" for n in range(20) for w in words)
    )
    return path


@pytest.fixture
def task(rows: Path) -> Path:
    path = rows.with_name("task.yaml")
    path.write_text("data: {train: fruit.jsonl}\n")
    return path


def test_another_kind_of_argument_is_told_apart(tmp_path: Path, capsys) -> None:
    many = tmp_path / "desk.json"  # other data files are made a task of: tests/commands/test_from_a_sheet.py
    many.write_text(json.dumps([{"text": "a", "label": "b"}]))
    assert invoke(["run", str(many)]) == 2
    message = capsys.readouterr().err
    assert f"{many}: expected a task file, found a data file" in message
    assert f"data: {{train: {many}}}" in message
    assert f"finetooth check {many}" in message
    empty = tmp_path / "empty.yaml"
    empty.write_text("\n")
    assert invoke(["run", str(empty)]) == 2
    assert "found an empty file." in capsys.readouterr().err
    place = tmp_path / "place"
    place.mkdir()
    (place / "config.yaml").write_text("{}")
    (place / "adapter_config.json").write_text("{}")
    assert invoke(["check", str(place)]) == 2
    assert f"found a run directory. For its result: finetooth report {place}" in capsys.readouterr().err
    assert invoke(["run", str(place)]) == 2
    assert f"finetooth train {place}" in capsys.readouterr().err


def test_a_flag_without_its_value_points_to_the_help_of_its_verb(task: Path, capsys) -> None:
    assert invoke(["run", str(task), "--train.epochs"]) == 2
    assert "For its usage: finetooth run --help" in capsys.readouterr().err


@pytest.mark.parametrize("more", gate([[], ["--json"]], [[]]))
def test_a_closed_pipe_is_no_verdict_on_the_data(rows: Path, more: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "finetooth", "check", str(rows), *more]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_the_runs_in_a_directory_that_is_none_are_named(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine" / "desk").mkdir(parents=True)
    (tmp_path / "mine" / "desk" / "config.yaml").write_text("{}")
    assert invoke(["chat", "mine"]) == 2
    assert "Runs here: mine/desk." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "typed"),
    [
        (["run", "data.validation", "20"], "--data.validation 20"),
        (["run", "task.yaml", "data.validation", "20"], "--data.validation 20"),
        (["run", "data.validation=20", "task.yaml"], "--data.validation 20"),
        (["run", "train.epochs", "task.yaml"], "--train.epochs"),
        (["train", "task.yaml", "-train.epochs", "2"], "--train.epochs 2"),
        (["train", "task.yaml", "—train.epochs", "2"], "--train.epochs 2"),
        (["check", "fruit.jsonl", "data.columns", "{a: text}"], "--data.columns '{a: text}'"),
        (["check", "data.format"], "--data.format"),
        (["train", "task.yaml", "seed", "3"], "--seed 3"),
        (["train", "task.yaml", "out", "runs/a"], "--out runs/a"),
        (["evaluate", "runs/a", "sealed"], "--sealed"),
    ],
)
def test_a_flag_without_its_dashes_is_no_file(words: list[str], typed: str, task: Path, capsys) -> None:
    assert invoke(words) == 2
    message = capsys.readouterr().err
    assert f"begins with two dashes. Type `{typed}`.\n" in message
    assert message.count("\n") == 1


def test_a_file_that_is_named_like_a_flag_is_a_file(task: Path, capsys) -> None:
    task.with_name("seed").write_text("data: {}")
    assert invoke(["run", "seed"]) == 2
    assert "seed:\n  data.train is missing." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "mapping"),
    [
        ("{mails: context, team: answer}", "{mail: context, team: answer}"),
        ("{x: text, y: label}", "{mail: text, team: label}"),
        ("{team: label, Mail: text}", "{team: label, mail: text}"),
        ("{text: mail}", "{mail: text}"),
        ("{mail: txt, team: label}", "{mail: text, team: label}"),
    ],
)
def test_wrong_columns_are_answered_with_a_command(
    given: str, mapping: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"mail number {n},{'ab'[n % 2]}\n" for n in range(40))
    Path("mails.csv").write_text(f"mail,team\n{rows}")
    assert invoke(["check", "mails.csv", "--seed", "3", "--data.columns", given, "--train.epochs=2"]) == 2
    message = capsys.readouterr().err
    assert given.startswith("{text") or "txt" in given or "It has: 'mail', 'team'." in message
    command = message.split("`")[1]
    assert shlex.split(command) == [
        *("finetooth", "check", "mails.csv", "--seed", "3", "--data.columns", mapping, "--train.epochs", "2"),
    ]
    if "team" in mapping:
        assert invoke(shlex.split(command)[1:]) in (0, 1)


@pytest.mark.parametrize("columns", ["{Body: text, Queue: label}", "{x: text, y: label}", ""])
def test_unknown_columns_of_a_task_are_answered_with_one_command(
    columns: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    """It names the user's columns by what they hold, and works as it stands."""
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"{'ab'[n % 2]},mail {n},The parcel number {n} has not arrived yet\n" for n in range(40))
    Path("my mails.csv").write_text(f"Team,Betreff,Nachricht\n{rows}")
    Path("my task.yaml").write_text(
        f"data: {{train: my mails.csv{', columns: ' + columns if columns else ''}}}\n"
    )
    assert invoke(["check", "my task.yaml", "--seed", "3"]) == 2
    *_, last = capsys.readouterr().err.splitlines()
    words = shlex.split(last.removeprefix("As a flag: "))
    assert words[:5] == ["finetooth", "check", "my task.yaml", "--seed", "3"]
    assert yaml.safe_load(words[-1]) == (
        {"Nachricht": "text", "Team": "label"}
        if columns
        else {"Betreff": "text", "Nachricht": "text", "Team": "label"}
    )
    assert invoke(words[1:]) == 0


def test_a_column_to_group_by_that_is_not_there_is_answered_with_a_command(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"mail number {n},{'ab'[n % 2]},k{n // 2}\n" for n in range(40))
    Path("mails.csv").write_text(f"text,label,Customer\n{rows}")
    for key in ("data.group", "data.rates"):
        assert invoke(["check", "mails.csv", f"--{key}", "customer"]) == 2
        command = shlex.split(capsys.readouterr().err.split("`")[1])
        assert command == ["finetooth", "check", "mails.csv", f"--{key}", "Customer"]
        assert invoke(command[1:]) == 0
        capsys.readouterr()


@pytest.mark.parametrize("name", ["task.yaml", "task.toml"])
def test_a_folder_with_a_task_is_the_task(name: str, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    desk = tmp_path / "desk"
    desk.mkdir()
    rows = "".join(f"mail number {n},{'ab'[n % 2]}\n" for n in range(40))
    (desk / "mails.csv").write_text(f"body,team\n{rows}")
    text = '[data]\ntrain = "mails.csv"\ncolumns = {body = "text", team = "label"}\n'
    yaml_text = "data: {train: mails.csv, columns: {body: text, team: label}}\n"
    (desk / name).write_text(text if name.endswith("toml") else yaml_text)
    assert invoke(["check", "desk"]) == 0
    assert capsys.readouterr().out.rstrip().endswith(f"Next: finetooth run {Path('desk') / name}")
    assert Path("runs/desk/data/report.html").is_file()
    assert load_task(desk) == load_task(desk / name)
    taken: list[str] = []

    def refuse(task: Task, *_: object) -> None:
        taken.append(task.data.train)
        raise ConfigError("taken")

    monkeypatch.setattr("finetooth.commands.run.run_task", refuse)
    monkeypatch.setattr("finetooth.commands.train.run", refuse)
    assert [invoke([verb, "desk"]) for verb in ("run", "train")] == [2, 2]
    assert taken == [str(desk / "mails.csv")] * 2
    (desk / name).unlink()
    assert invoke(["run", "desk"]) == 2
    assert "desk: a folder without a task.yaml" in capsys.readouterr().err
