"""What a command says to type next can be typed, and does what it says."""

from __future__ import annotations

import json
import re
import shlex
import signal
import time
from pathlib import Path

import processes
import pytest
import yaml
from made_up_run import made_up_run
from models_for_tests import tiny_model_dir

from finetooth.cli.app import invoke
from finetooth.commands.run import Run
from finetooth.config.task import Task, build_task
from finetooth.rundir import write_json
from finetooth.runs import next_steps

QUICK = [
    "--train.preflight",
    "off",
    "--train.rank",
    "4",
    "--train.max_steps",
    "2",
    "--evaluate.shots",
    "[0]",
]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    tiny_model_dir(tmp_path / "model")
    rows = [{"q": f"{n} of {fruit}", "kind": fruit[:2]} for n in range(40) for fruit in ("apple", "plum")]
    (tmp_path / "desk.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def said_next(text: str) -> str:
    return text.split("Next: ")[1]


@pytest.mark.full
def test_the_command_that_check_suggests_has_the_flags_it_was_given(place: Path, capsys) -> None:
    columns = ["--data.columns", "{q: text, kind: label}", "--data.validation", "0.25"]
    flags = [*columns, "--model", "./model", "--instruction", "yes: or, no"]
    assert invoke(["check", "desk.jsonl", *flags, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert invoke(["check", "desk.jsonl", *flags]) == 0
    words = shlex.split(said_next(capsys.readouterr().out))
    assert words[:3] == ["finetooth", "run", "desk.jsonl"]
    assert invoke([*words[1:], *QUICK, "--quiet"]) == 0
    task = yaml.safe_load((place / "task.yaml").read_text())
    assert task["data"] == {
        "train": "desk.jsonl", "columns": {"q": "text", "kind": "label"}, "validation": 0.25
    }  # fmt: skip
    capsys.readouterr()
    assert invoke(["check", "task.yaml", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["sides"], again["samples"]) == (found["sides"], found["samples"])


def test_the_flags_of_a_checked_task_are_in_its_next_command(place: Path, capsys) -> None:
    (place / "task.yaml").write_text("model: ./model\ndata: {train: desk.jsonl}\n")
    assert invoke(["check", "task.yaml", "--data.columns", "{q: text, kind: label}"]) == 0
    words = shlex.split(said_next(capsys.readouterr().out))
    assert words[:3] == ["finetooth", "run", "task.yaml"]
    assert words[3] == "--data.columns"
    assert yaml.safe_load(words[4]) == {"q": "text", "kind": "label"}


def test_plain_text_is_led_to_training_and_then_to_chat(place: Path, capsys) -> None:
    (place / "texts.jsonl").write_text("".join(json.dumps({"text": f"all of {n}"}) + "\n" for n in range(60)))
    (place / "task.yaml").write_text("model: ./model\ndata: {train: texts.jsonl}\n")
    assert invoke(["check", "texts.jsonl"]) == 0
    assert said_next(capsys.readouterr().out).strip() == "finetooth train texts.jsonl"
    assert invoke(["check", "task.yaml"]) == 0
    assert said_next(capsys.readouterr().out).strip() == "finetooth train task.yaml"
    assert invoke(["train", "task.yaml", "--out", "run", *QUICK]) == 0
    assert said_next(capsys.readouterr().out).strip() == "finetooth chat run"
    assert invoke(["evaluate", "run", "--quiet"]) == 2
    refused = capsys.readouterr().err
    assert "nothing to grade" in refused
    assert "finetooth chat run" in refused
    assert invoke(["report", "run"]) == 0
    assert said_next(capsys.readouterr().out).startswith("finetooth chat run\n")


def test_a_run_that_was_killed_in_training_is_sent_back_to_it(tmp_path: Path, capsys) -> None:
    killed, whole = made_up_run(tmp_path / "killed", "killed"), made_up_run(tmp_path / "whole", "whole")
    assert not (killed / "train" / "result.json").exists()
    for file in (killed / "evaluate").rglob("summary.json"):
        file.unlink()
    assert invoke(["report", str(killed)]) == 0
    assert said_next(" ".join(capsys.readouterr().out.split())).startswith(f"finetooth train {killed}")
    assert invoke(["compare", str(whole), str(killed)]) == 2
    assert f"  finetooth train {killed}\n  finetooth evaluate {killed}" in capsys.readouterr().err


def test_every_command_after_a_run_works_as_it_stands(place: Path, capsys) -> None:
    columns = ["--data.columns", "{q: text, kind: label}"]
    (place / "task.yaml").write_text("model: ./model\ndata: {train: desk.jsonl}\n")
    assert invoke(["run", "task.yaml", "--out", "runs/a desk", *columns, *QUICK]) == 0
    lines = capsys.readouterr().out.split("Next: ")[1].splitlines()
    commands = [shlex.split(re.split(r" {4}", line.strip())[0]) for line in lines]
    assert [words[1] for words in commands] == ["chat", "errors", "train", "evaluate", "compare", "baseline"]
    for words in commands[1:]:
        assert invoke(words[1:]) == 0, words
    first, second = (
        build_task(yaml.safe_load((place / "runs" / name / "config.yaml").read_text()))
        for name in ("a desk", "a desk-longer")
    )
    assert second.train.max_steps == 4
    assert float(second.train.epochs) == 2 * float(first.train.epochs)


def test_rows_from_python_leave_the_task_open(tmp_path: Path) -> None:
    train = {"epochs": 3.0}
    task = Task.model_validate({"data": {"train": [{"text": "a"}]}, "train": train})
    from finetooth.runs import workspace

    workspace.save_config(tmp_path, task, {})
    assert next_steps.longer_training(tmp_path)[0][0].startswith(
        "finetooth train TASK --train.epochs 6 --out "
    )


def test_a_stopped_run_goes_on_as_a_run(place: Path) -> None:
    (place / "task.yaml").write_text(
        "model: ./model\ndata: {train: desk.jsonl, columns: {q: text, kind: label}}\n"
        "train: {max_steps: 100000, epochs: 10000, validate_every: 90000, preflight: off}\n"
    )
    process = processes.finetooth(place, "run", "task.yaml", "--train.rank", "4", "--out", "here")
    metrics = place / "here" / "train" / "metrics.jsonl"
    try:
        for _ in range(3000):
            if metrics.exists() and metrics.stat().st_size:
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        code, _, err = process.end()
    finally:
        process.kill()
    assert code == 130, err
    assert "Continue with: finetooth run task.yaml --train.rank 4 --out here; finished" in " ".join(
        err.split()
    )
    assert "finetooth train" not in err


@pytest.mark.parametrize(
    ("result", "proposed"),
    [
        ({"steps": 40, "best_step": 40, "stopped_early": False}, True),
        ({"steps": 40, "best_step": 20, "stopped_early": False}, False),
        ({"steps": 20, "best_step": 20, "stopped_early": True}, False),
    ],
)
def test_longer_training_is_not_proposed_where_validation_had_peaked(
    result: dict[str, object], proposed: bool, tmp_path: Path
) -> None:
    run = made_up_run(tmp_path / "run")
    write_json(run / "train" / "result.json", result)
    assert bool(next_steps.longer_training(run)) == proposed
    summary = {"grader": "label", "candidates": [{"name": "tuned", "score": 0.9}]}
    said = Run(run, summary).next_steps()
    assert ("twice as long" in " ".join(said)) == proposed and "finetooth chat" in said[0]


def test_a_perfect_model_is_not_sent_to_train_longer(tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "run")
    for score, steps in ((1.0, 1), (0.9, 5)):
        summary = {"grader": "label", "candidates": [{"name": "tuned", "score": score}]}
        assert len(Run(run, summary).next_steps()) == steps
