"""A key of finetooth that has been renamed: its error names the new key, and what to do with an old run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finetooth.cli.app import invoke
from finetooth.config.load import load_task
from finetooth.config.other_tools import run_directory_hint
from finetooth.errors import ConfigError
from finetooth.runs import workspace

RENAMED = "It has been renamed to train.preflight."


@pytest.mark.parametrize("suffix", [".yaml", ".toml"])
def test_in_a_task_file(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"task{suffix}"
    path.write_text(
        "data: {train: a.csv}\ntrain: {sentinel: off}\n"
        if suffix == ".yaml"
        else '[data]\ntrain = "a.csv"\n[train]\nsentinel = "off"\n'
    )
    with pytest.raises(ConfigError) as refused:
        load_task(path)
    assert str(refused.value) == f"{path}:\n  unknown key train.sentinel. {RENAMED}"


def test_from_python() -> None:
    with pytest.raises(ConfigError, match=RENAMED):
        load_task({"data": {"train": "a.csv"}, "train": {"sentinel": "off"}})


@pytest.mark.parametrize("flag", ["--train.sentinel", "--sentinel"])
def test_as_a_flag(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["run", "task.yaml", flag, "off"]) == 2
    assert (
        capsys.readouterr().err
        == f"finetooth run: unknown flag {flag}. {RENAMED.replace('to train', 'to --train')}\n"
    )


def test_in_an_old_run_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every verb that reads the run says what to do with it; following that makes it readable again."""
    run = tmp_path / "old"
    task = load_task({"name": "old", "data": {"train": "a.csv"}, "train": {"preflight": "off"}})
    workspace.save_config(run, task, {})
    (run / "train" / "adapter").mkdir(parents=True)
    (run / "train" / "result.json").write_text(json.dumps({"sentinel": "off"}))
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("  preflight:", "  sentinel:"))
    hint = f"To keep using the run directory {run}: {run_directory_hint('sentinel')}."
    assert "rename `sentinel` to `preflight` in its config.yaml" in hint and "--out" in hint
    for arguments in (["train", run], ["evaluate", run], ["report", run], ["chat", run], ["run", config]):
        assert invoke([str(word) for word in arguments]) == 2, arguments
        message = capsys.readouterr().err
        assert f"unknown key train.sentinel. {RENAMED}\n  {hint}" in message, arguments
    config.write_text(config.read_text().replace("  sentinel:", "  preflight:"))
    assert workspace.load_config(run).train.preflight == "off"
