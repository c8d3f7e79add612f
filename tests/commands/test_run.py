"""The whole loop from Python: what it proves, what it never opens, what it leaves when it fails."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import processes
import pytest
import torch
from models_for_tests import tiny_model_dir
from rich.console import Console

import finetooth as ft
from finetooth.cli.app import invoke
from finetooth.commands import evaluate
from finetooth.data.render.renderer import Renderer
from finetooth.errors import ConfigError, DataError, FinetoothError
from finetooth.evaluation import ledger
from finetooth.rundir import read_jsonl
from finetooth.runs.context import RunContext
from finetooth.training.objectives import supervised
from finetooth.training.step import train_step
from finetooth.tree import Row
from finetooth.types import Answer

COLORS = {"apple": "red", "banana": "yellow", "plum": "blue"}
ROWS = [{"text": f"{n} of {fruit}", "label": color} for n in range(60) for fruit, color in COLORS.items()]
QUICK = {
    "train.preflight": "off",
    "train.adapter": "none",
    "train.learning_rate": 0.01,
    "train.epochs": 4,
    "evaluate.shots": [0],
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_dir(tmp_path_factory.mktemp("model"), "llama")


@pytest.fixture(scope="module")
def finished(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    task = {"model": str(model), "data": {"train": ROWS}}
    return ft.run(task, out=tmp_path_factory.mktemp("runs") / "fruit", overrides=QUICK, quiet=True)


def test_an_easy_task_is_learned_and_proven(finished: Any) -> None:
    summary = finished.summary
    assert [entry["name"] for entry in summary["candidates"]] == [
        "majority",
        "bag-of-words",
        "zero-shot",
        "tuned",
    ]
    assert summary["split"] == "test" and summary["n"] == len(
        (finished.path / "data/sealed.jsonl").read_text().splitlines()
    )
    assert summary["comparison"]["verdict"] == "better"
    assert summary["candidates"][-1]["score"] == 1.0
    records = list(read_jsonl(finished.path / "evaluate" / "test" / "records.jsonl"))
    assert {record["id"] for record in records} == {
        json.loads(line)["id"] for line in (finished.path / "data" / "sealed.jsonl").read_text().splitlines()
    }
    tuned = [record for record in records if record["candidate"] == "tuned"]
    assert np.mean([record["score"] for record in tuned]) == summary["candidates"][-1]["score"]
    assert (finished.path / "report.html").read_text().startswith("<!doctype html>")


def test_a_data_frame_trains(model: Path, tmp_path: Path) -> None:
    frame = pd.DataFrame(
        [{"instruction": "Name the color.", "input": row["text"], "output": row["label"]} for row in ROWS]
    )
    rows = frame[["instruction", "input", "output"]].to_dict("records")
    task = ft.Task(
        model=str(model), data={"train": rows}, train={"adapter": "none", "max_steps": 3, "preflight": "off"}
    )
    run = ft.run(task, out=tmp_path / "run", overrides={"evaluate.shots": [0]}, quiet=True)
    assert run.summary["grader"] == "exact"
    again = ft.run(task, out=tmp_path / "run", overrides={"evaluate.shots": [0]}, quiet=True)
    assert again.summary == run.summary
    other = ft.Task(
        model=str(model),
        data={"train": rows[:-1]},
        train={"adapter": "none", "max_steps": 3, "preflight": "off"},
    )
    with pytest.raises(ConfigError, match=r"data\.train is"):
        ft.run(other, out=tmp_path / "run", overrides={"evaluate.shots": [0]}, quiet=True)


def test_evaluating_twice_gives_the_same(finished: Any) -> None:
    """Known failure 17, end to end."""
    first = evaluate.run(finished.path, False, Console(quiet=True)).summary
    before = (finished.path / "evaluate" / "validation" / "records.jsonl").read_bytes()
    assert evaluate.run(finished.path, False, Console(quiet=True)).summary == first
    assert (finished.path / "evaluate" / "validation" / "records.jsonl").read_bytes() == before


def test_the_sealed_test_is_opened_once_for_the_same_weights(finished: Any) -> None:
    events = list(read_jsonl(finished.path / "ledger.jsonl"))
    again = evaluate.run(finished.path, True, Console(quiet=True)).summary
    assert again == finished.summary
    assert list(read_jsonl(finished.path / "ledger.jsonl")) == events


def test_what_the_test_can_show_is_known_before_it_is_opened(finished: Any, monkeypatch: Any) -> None:
    said: list[str] = []
    context = RunContext.of_run(finished.path, Console(quiet=True))
    monkeypatch.setattr(context.console, "print", lambda words, **_: said.append(str(words)))

    def opened(*_: Any) -> None:
        raise DataError("opened")

    monkeypatch.setattr(ledger, "stored_result", lambda *_: None)
    monkeypatch.setattr(ledger, "take_look", opened)
    with pytest.raises(DataError, match="opened"):
        evaluate.evaluate_run(context, sealed=True)
    assert f"With {context.prepared.sealed_count} rows, the test can show a true difference" in said[-1]


def test_nothing_but_the_ledger_reads_the_test(model: Path, tmp_path: Path) -> None:
    """Known failure 11: an audit hook sees every file that training and validating opens."""
    rows = [json.dumps(row) + "\n" for row in ROWS]
    (tmp_path / "train.jsonl").write_text("".join(rows[:140]))
    (tmp_path / "mine.jsonl").write_text("".join(rows[140:]))
    (tmp_path / "task.yaml").write_text(
        f"model: {model}\ndata: {{train: train.jsonl, test: mine.jsonl}}\n"
        "train: {adapter: none, max_steps: 2, preflight: off}\nevaluate: {shots: [0]}\n"
    )
    code = """
import json, sys, traceback
opened = []
def hook(event, args):
    if event == "open" and not isinstance(args[0], int):
        name = str(args[0])
        if name.endswith(("sealed.jsonl", "mine.jsonl")):
            mode = args[1] or ""
            who = [f.filename for f in traceback.extract_stack() if "finetooth" in f.filename]
            opened.append((name.rsplit("/", 1)[-1], mode, any(w.endswith("ledger.py") for w in who)))
sys.addaudithook(hook)
from finetooth.cli.app import invoke
code = invoke(["train", "task.yaml", "--out", "run", "--quiet"])
split = len(opened)
code += invoke(["evaluate", "run", "--quiet"])
code += invoke(["report", "run"])
print(code, file=sys.stderr)
print(json.dumps(opened[:split]), file=sys.stderr)
print(json.dumps(opened[split:]), file=sys.stderr)
"""
    ended, _, errors = processes.python(tmp_path, code)
    lines = errors.splitlines()
    assert ended == 0 and lines[-3] == "0", errors
    first = json.loads(lines[-2])
    assert any(name == "mine.jsonl" for name, _, _ in first), "the hook sees what is opened"
    assert all(by_ledger for name, mode, by_ledger in first if name == "sealed.jsonl" and "w" not in mode)
    assert json.loads(lines[-1]) == [], "after the split, validating and reporting open neither"


def test_the_stop_token_is_learned(model: Path) -> None:
    """Known failure 1: after 8 rows the model stops by itself; with the stop token unscored it does not."""

    def trained(with_stop: bool) -> list[tuple[str, str]]:
        tuned = ft.Model.load(model)
        assert tuned.tokenizer is not None
        renderer = Renderer(tuned.tokenizer)
        tuned.add_stop(renderer.stop_id)
        examples = [
            ft.Example(str(n), (ft.Message("user", f"say {n}"),), (Answer(f"word {n * 7} it"),))
            for n in range(8)
        ]
        rows = [row for example in examples for row in renderer.rows(example)]
        if not with_stop:
            rows = [Row(row.tokens, [*row.weight[:-1], 0.0], id=row.id) for row in rows]
        optimizer = torch.optim.AdamW(tuned.trainable(), lr=5e-3)
        for _ in range(45):
            train_step(tuned, supervised, rows, optimizer, budget=512, max_norm=1.0)
        contexts = [renderer.context_row(example.context) for example in examples]
        done = sorted(tuned.generate(contexts, ft.Sampling(max_tokens=24)), key=lambda c: c.row)
        return [(completion.text, completion.stop) for completion in done]

    assert trained(True) == [(f"word {n * 7} it", "stop") for n in range(8)]
    assert sum(stop == "stop" for _, stop in trained(False)) < 8


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "wrong path": ({"data.train": "nowhere.jsonl"}, "no such file"),
    "wrong model": ({"model": "./nowhere"}, "no such directory"),
    "one row": ({"data.train": ROWS[:1]}, "Too few rows"),
    "no scored tokens": ({"data.train": [{"text": "a b c", "label": ""}] * 50}, "empty"),
    "too long": (
        {"data.train": [{**row, "text": row["text"] * 200} for row in ROWS]},
        "longer than 256 tokens",
    ),
    "bad grader": ({"evaluate.grader": "nowhere:grade"}, "nowhere"),
    "plain text": ({"data.train": [{"text": f"{n} words"} for n in range(60)]}, "no expected answer"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_message_and_leaves_no_run(name: str, model: Path, tmp_path: Path) -> None:
    overrides, words = BAD[name]
    with pytest.raises(FinetoothError, match=words):
        ft.run(
            {"model": str(model), "data": {"train": ROWS}},
            tmp_path / "run",
            {**QUICK, **overrides},
            quiet=True,
        )
    left = (
        [
            path
            for path in (tmp_path / "run").rglob("*")
            if path.is_file() and path.parent.name != ".finetooth"
        ]
        if (tmp_path / "run").exists()
        else []
    )
    assert {path.name for path in left} <= {"rejected.jsonl", "check.json", "findings.jsonl", "report.html"}


def test_a_model_without_tokenizer(model: Path, tmp_path: Path) -> None:
    bare = tiny_model_dir(tmp_path / "bare")
    (bare / "tokenizer.json").unlink()
    with pytest.raises(FinetoothError, match="no tokenizer"):
        ft.run({"model": str(bare), "data": {"train": ROWS}}, tmp_path / "run", QUICK, quiet=True)
    assert not (tmp_path / "run").exists()


def test_row_41_is_set_aside_and_counted(model: Path, tmp_path: Path) -> None:
    lines = [json.dumps(row) for row in ROWS]
    lines[40] = "{broken"
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    overrides = {**QUICK, "train.max_steps": 2}
    run = ft.run(
        {"model": str(model), "data": {"train": str(tmp_path / "rows.jsonl")}},
        tmp_path / "run",
        overrides,
        True,
    )
    (rejected,) = read_jsonl(run.path / "data" / "rejected.jsonl")
    assert (rejected["line"], rejected["row"]) == (41, "{broken")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system takes root")
def test_a_full_disk_is_one_message_and_loses_nothing(model: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=900k", "tmpfs", disk], capture_output=True
    ).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
        (tmp_path / "task.yaml").write_text(
            f"model: {model}\ndata: {{train: rows.jsonl}}\nevaluate: {{shots: [0]}}\n"
            "train: {adapter: none, max_steps: 6, validate_every: 1, save_every: 1, preflight: off}\n"
        )
        command = ("run", tmp_path / "task.yaml", "--out", disk / "run")
        code, _, errors = processes.finetooth(tmp_path, *command).end()
        assert code == 2, errors
        assert "Traceback" not in errors
        assert "No space left" in errors or "disk is full" in errors
        subprocess.run(["mount", "-o", "remount,size=30m", disk], check=True)
        code, _, errors = processes.finetooth(tmp_path, *command).end()
        assert code == 0, errors
    finally:
        subprocess.run(["umount", "-l", disk], check=False)


def test_two_runs_are_the_same_to_the_bit(model: Path, tmp_path: Path) -> None:
    digests = []
    for name in ("a", "b"):
        task = {
            "model": str(model),
            "data": {"train": ROWS[:60]},
            "train": {"rank": 4, "max_steps": 5, "preflight": "off"},
        }
        run = ft.run(task, tmp_path / name, {"evaluate.shots": []}, quiet=True)
        digests.append(ft.Model.load(model, adapter=run.path / "train" / "adapter").digest())
    assert digests[0] == digests[1] != ft.Model.load(model).digest()


def test_the_command_line_exits_with_what_happened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["run", str(tmp_path / "nowhere.yaml")]) == 2
    assert "no such file" in capsys.readouterr().err
