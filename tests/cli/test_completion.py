"""Tab completion of verbs, flags, keys, their values, runs and files, also in a real bash."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from terminal_for_tests import Terminal

from finetooth.cli.app import group, invoke
from finetooth.cli.completion import SHELLS
from finetooth.config.task import keys


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with two runs, a task and a file of rows."""
    for name in ("runs/first", "runs/second", "runs/empty", "mine"):
        (tmp_path / name).mkdir(parents=True)
        if name != "runs/empty":
            (tmp_path / name / "config.yaml").write_text("{}")
    for name in ("task.yaml", "rows.csv"):
        (tmp_path / name).write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def offered(*words: str) -> list[str]:
    """The suggestions for the last word; `<file>` where the shell completes files itself."""
    items = ShellComplete(group, {}, "finetooth", "X").get_completions(list(words[:-1]), words[-1])
    return [item.value if item.type == "plain" else f"<{item.type}>" for item in items]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["re"], ["report"]),
        (["co"], ["compare", "completion"]),
        (["chat", ""], ["milktooth", "mine", "runs/first", "runs/second"]),
        (["chat", "m"], ["milktooth", "mine"]),
        (["chat", "runs/f"], ["runs/first"]),
        (["evaluate", "mi"], ["milktooth", "mine"]),
        (["evaluate", "row"], ["<file>"]),
        (["compare", "runs/first", "runs/s"], ["runs/second"]),
        (["train", ""], ["mine", "runs/first", "runs/second", "task.yaml"]),
        (["run", ""], ["task.yaml"]),
        (["check", ""], ["<file>"]),
        (["chat", "runs/first", "--t"], ["--temperature", "--top-p"]),
        (["train", "task.yaml", "--train.adapter", ""], ["lora", "none"]),
        (["train", "task.yaml", "--data.overlong", "c"], ["cut"]),
        (["train", "task.yaml", "--train.epochs", ""], ["auto"]),
        (["train", "task.yaml", "--data.train", ""], ["<file>"]),
        (["run", "task.yaml", "--from", "runs/s"], ["runs/second"]),
        (["completion", ""], list(SHELLS)),
        (["models", "g"], ["get", "gemma3-270m", "gemma3-1b", "gemma3-4b", "gpt-neo-1.3b"]),
        (["models", "get", "smollm2-1"], ["smollm2-135m", "smollm2-1.7b"]),
    ],
)
def test_what_is_offered(here: Path, words: list[str], expected: list[str]) -> None:
    assert offered(*words) == expected


def test_models_that_were_fetched_are_offered(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETOOTH_CACHE", str(here / "cache"))
    (here / "cache" / "models" / "smollm2-135m").mkdir(parents=True)
    assert offered("chat", "sm") == ["<file>"]
    (here / "cache" / "models" / "smollm2-135m" / "source.json").write_text("{}")
    assert offered("chat", "sm") == ["smollm2-135m"]


def test_every_key_is_offered_as_a_flag(here: Path) -> None:
    assert {f"--{key}" for key, _ in keys()} <= set(offered("train", "task.yaml", "--"))


def test_runs_in_other_places_are_found_by_their_path(here: Path) -> None:
    assert offered("report", f"{here}/runs/") == [f"{here}/runs/first", f"{here}/runs/second"]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_for_every_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert f"_FINETOOTH_COMPLETE={shell}_complete" in text
    assert "finetooth completion" in text.splitlines()[-1]
    if path := shutil.which(shell):
        checked = subprocess.run([path, "-n"], input=text, capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr


def test_another_shell_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["completion", "tcsh"]) == 2
    assert "bash" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_at_a_terminal(here: Path) -> None:
    """Half a word and Tab at a prompt: bash shows the completed command."""
    program = here / "bin" / "finetooth"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m finetooth "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    terminal = Terminal(["bash", "--norc", "-i"], here, {"PATH": path, "PS1": "$ ", "HISTFILE": ""})
    terminal.type('eval "$(finetooth completion bash)"; echo rea""dy\n')
    terminal.wait_for("ready\n")
    for typed, completed in (
        ("rep\t", "report "),
        ("report runs/f\t", "report runs/first "),
        ("train --train.ep\t", "train --train.epochs "),
        ("train --train.adapter no\t", "train --train.adapter none "),
        ("check row\t", "check rows.csv "),
    ):
        terminal.type(f"finetooth {typed}")
        terminal.wait_for(f"finetooth {completed}")
        terminal.type("\x15")  # Ctrl-U: an empty line again
    terminal.type("exit\n")
    terminal.end()
