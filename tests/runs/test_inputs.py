"""What a run was made of: a changed file is named, and the code of somebody else's run is not imported."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from made_up_run import made_up_run
from rich.console import Console

from finetooth.cli.app import invoke
from finetooth.config.load import load_task
from finetooth.errors import ConfigError
from finetooth.rundir import read_json, write_json
from finetooth.runs import inputs

QUIET = Console(quiet=True)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A task with every kind of file, and the run that was made of it."""
    (tmp_path / "data").mkdir()
    for name in ("data/train-1.csv", "data/train-2.csv", "test.csv", "t.jinja", "g.py", "r.py"):
        (tmp_path / name).write_text(f"text,label\n{name},x\n")
    (tmp_path / "task.yaml").write_text(
        "template: t.jinja\ndata: {train: data, test: test.csv}\n"
        'train: {method: grpo, reward: {"r.py:one": 1.0}}\nevaluate: {grader: [exact, "g.py:two"]}\n'
    )
    made_up_run(tmp_path / "run")
    task = load_task(tmp_path / "task.yaml")
    write_json(tmp_path / "run" / "environment.json", inputs.provenance(task, tmp_path / "run"))
    return tmp_path


@pytest.mark.parametrize(
    "name", ["data/train-1.csv", "data/train-2.csv", "test.csv", "t.jinja", "g.py", "r.py"]
)
def test_an_edited_file_is_named_and_a_deleted_one_is_reported(place: Path, name: str, capsys) -> None:
    task = load_task(place / "task.yaml")
    inputs.require_unchanged(task, place / "run", QUIET)
    (place / name).write_text("text,label\nother,x\n")
    with pytest.raises(
        ConfigError, match=rf"{name} has changed since .*run was made\. .*choose another --out"
    ):
        inputs.require_unchanged(task, place / "run", QUIET)
    (place / name).unlink()
    inputs.require_unchanged(task, place / "run", Console(stderr=True, soft_wrap=True))
    assert f"{name} no longer exists" in capsys.readouterr().err


def test_a_new_file_in_the_folder_is_named(place: Path) -> None:
    (place / "data" / "train-3.csv").write_text("text,label\nmore,x\n")
    with pytest.raises(ConfigError, match=r"train-3\.csv was not there when"):
        inputs.require_unchanged(load_task(place / "task.yaml"), place / "run", QUIET)


def test_older_and_new_runs_are_not_compared(place: Path) -> None:
    task = load_task(place / "task.yaml")
    inputs.require_unchanged(task, place / "none", QUIET)
    write_json(place / "run" / "environment.json", {"versions": {}})
    inputs.require_unchanged(task, place / "run", QUIET)


@pytest.mark.parametrize("grader", ["evil.py:f", "evil:f", "[exact, 'evil.py:f']", "{name: 'evil.py:f'}"])
@pytest.mark.parametrize("verb", ["evaluate", "train", "report", "pairs"])
def test_the_code_of_a_run_that_was_sent_is_not_imported(
    tmp_path: Path, verb: str, grader: str, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    run = made_up_run(tmp_path / "run")
    (tmp_path / "evil.py").write_text("open('ran', 'w')\ndef f(example, text): return 1\n")
    config = (run / "config.yaml").read_text().replace("grader: label", f"grader: {grader}")
    (run / "config.yaml").write_text(config)
    environment = read_json(run / "environment.json")
    write_json(run / "environment.json", {**environment, "place": inputs._place(run)})
    inputs.require_trusted(run, verb)  # where it was made
    shutil.copytree(run, tmp_path / "sent")
    code = invoke([verb, "sent"])
    told = capsys.readouterr().err
    assert not (tmp_path / "ran").exists()
    if verb in ("evaluate", "train"):
        assert code == 2
        assert f"finetooth {verb} sent --trust-code" in told and "evil" in told
        inputs.require_trusted(tmp_path / "sent", verb, trusted=True)
