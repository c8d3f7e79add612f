"""The preflight check in a real run, early stopping by score, and what the command line says of both."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gate import gate
from models_for_tests import tiny_model_dir
from rich.console import Console

import finetooth as ft
from finetooth import machine
from finetooth.cli.app import invoke
from finetooth.commands import train
from finetooth.config.load import load_task
from finetooth.config.task import Task
from finetooth.data.render.renderer import Renderer
from finetooth.errors import ConfigError, Interrupted
from finetooth.model.api import Model
from finetooth.rundir import read_json
from finetooth.runs import preflight
from finetooth.runs.context import RunContext
from finetooth.training import trackers
from finetooth.training.preflight.run import PreflightInputs

ROWS = [{"text": f"{n} of {fruit}", "label": fruit[:2]} for n in range(40) for fruit in ("apple", "plum")]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_dir(tmp_path_factory.mktemp("model"))


def task(model: Path, **changes: Any) -> Task:
    keys = {"train.max_steps": 6, "train.validate_every": 3, "train.rank": 4, "train.batch_size": 24}
    given = {key.replace("__", "."): value for key, value in changes.items()}
    return load_task({"model": str(model), "data": {"train": ROWS, "validation": 0.6}}, keys | given)


def trained(task: Task, out: Path) -> tuple[dict[str, Any], str]:
    said = io.StringIO()
    report = train.run(task, out, Console(file=said, width=400, markup=False, highlight=False))
    return report.result, said.getvalue()


def numbers(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "train" / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


@pytest.mark.parametrize("adapter", gate(["lora", "none"], ["lora"]))
def test_a_run_is_the_same_with_the_preflight_check_and_without(
    model: Path, tmp_path: Path, adapter: str
) -> None:
    results = []
    for switch in ("on", "off"):
        run = tmp_path / switch
        result, said = trained(task(model, train__preflight=switch, train__adapter=adapter), run)
        weights = {path.name: path.read_bytes() for path in run.glob("train/*/*.safetensors")}
        results.append((numbers(run), weights))
        assert result["preflight"] == {"on": "passed", "off": "off"}[switch]
        assert ("warning: train.preflight is off" in said) == (switch == "off")
        assert said.count("preflight: ") == {"on": 4, "off": 0}[switch]  # three rows, and what was found
        assert (run / "train" / "preflight.json").exists() == (switch == "on")
    assert results[0] == results[1]
    found = read_json(tmp_path / "on" / "train" / "preflight.json")
    assert found["passed"] and found["answered"] == 8 and found["grad_norm"] > 0


def test_yaml_reads_off_as_it_is_meant(tmp_path: Path, model: Path) -> None:
    (tmp_path / "task.yaml").write_text(
        f"model: {model}\ndata: {{train: x.jsonl}}\ntrain: {{preflight: off}}\n"
    )
    assert load_task(tmp_path / "task.yaml").train.preflight == "off"
    assert load_task(tmp_path / "task.yaml", {"train.preflight": True}).train.preflight == "on"


def test_an_alarm_stops_the_command_with_its_name(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Evaluation would render without the instruction that training has."""
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    command = ["train", str(tmp_path / "task.yaml"), "--out", str(tmp_path / "run"), "--quiet"]
    (tmp_path / "task.yaml").write_text(
        f"model: {model}\ninstruction: Be brief.\ndata: {{train: rows.jsonl}}\ntrain: {{max_steps: 2}}\n"
    )
    real = preflight.preflight_inputs

    def planted(context: RunContext, stop: Any) -> PreflightInputs:
        template = context.task.template
        return replace(real(context, stop), evaluation_renderer=Renderer(context.tokenizer, template))

    monkeypatch.setattr(preflight, "preflight_inputs", planted)
    assert invoke(command) == 1
    assert "preflight:template: row " in capsys.readouterr().err
    record = read_json(tmp_path / "run" / "train" / "preflight.json")
    assert (record["passed"], record["name"]) == (False, "template")
    monkeypatch.setattr(preflight, "preflight_inputs", real)
    assert invoke(command) == 0  # mended: the same command goes on, and tries again
    assert read_json(tmp_path / "run" / "train" / "preflight.json")["passed"]


@pytest.mark.full
def test_a_run_that_goes_on_is_not_tried_again(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finetooth.training import loop

    real = loop.Trainer.run

    def stopped(self: Any) -> Any:
        calls = iter(range(1, 99))
        self.stop = lambda: next(calls) == 2
        return real(self)

    monkeypatch.setattr(loop.Trainer, "run", stopped)
    with pytest.raises(Interrupted):
        trained(task(model), tmp_path / "run")
    monkeypatch.setattr(loop.Trainer, "run", real)
    before = (tmp_path / "run" / "train" / "preflight.json").read_bytes()
    result, said = trained(task(model), tmp_path / "run")
    assert "preflight" not in said and result["preflight"] == "passed"
    assert (tmp_path / "run" / "train" / "preflight.json").read_bytes() == before


@pytest.mark.full
def test_labels_choose_the_weights_by_their_score(model: Path, tmp_path: Path) -> None:
    result, said = trained(task(model), tmp_path / "run")
    valid = [line for line in numbers(tmp_path / "run") if "valid_loss" in line]
    assert [line["step"] for line in valid] == [0, 3, 6]
    assert result["best_score"] == max(line["valid_score"] for line in valid[1:])
    assert result["selected_by"] == "score"
    assert "auto: train.select = score: answers to " in said
    assert said.count("(expected '") == 9
    assert ft.Model.load(model, adapter=tmp_path / "run" / "train" / "adapter").peft is not None


@pytest.mark.full
def test_the_loss_chooses_when_it_is_asked_to(model: Path, tmp_path: Path) -> None:
    result, _ = trained(task(model, train__select="loss", train__preflight="off"), tmp_path / "run")
    assert result["selected_by"] == "loss" and result["best_score"] is None
    assert all("valid_score" not in line for line in numbers(tmp_path / "run"))


@pytest.mark.parametrize(
    ("grader", "chooses"),
    [
        pytest.param("exact", "score", marks=pytest.mark.full),
        ({"name": "regex", "pattern": "a: b"}, "score"),
        pytest.param("perplexity", "loss", marks=pytest.mark.full),
        ("tests_own:grade", "loss"),
    ],
)
def test_auto_takes_the_score_of_built_in_graders(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grader: Any, chooses: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tests_own.py").write_text("def grade(example, text):\n    return 1.0\n")
    result, said = trained(task(model, evaluate__grader=grader, train__preflight="off"), tmp_path / "run")
    assert result["selected_by"] == chooses, said
    assert (result["best_score"] is None) == (chooses == "loss")


def test_a_score_that_cannot_be_had_is_an_error(model: Path, tmp_path: Path) -> None:
    rows = [{"text": f"{n} words of plain text"} for n in range(60)]
    with pytest.raises(ConfigError, match=r"train\.select is score, but no validation row has"):
        trained(task(model, data__train=rows, train__select="score", data__test=0), tmp_path / "run")


@pytest.mark.full
def test_checkpointing_gives_the_same_weights(model: Path, tmp_path: Path) -> None:
    said = {}
    for on in (False, True):
        given = task(model, train__checkpointing=on, train__preflight="off")
        _, said[on] = trained(given, tmp_path / str(on))
    assert numbers(tmp_path / "True") == numbers(tmp_path / "False")
    assert "gradient checkpointing in 2 layers" in said[True] and "checkpointing" not in said[False]


def test_a_tracker_that_is_missing_is_said_before_anything_is_done(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"train\.track: mlflow is not installed"):
        trained(task(model, train__track=["mlflow"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_embedded_model_is_tried_in_seconds(tmp_path: Path) -> None:
    said = io.StringIO()
    given = load_task({"data": {"train": ROWS}}, {"train.max_steps": 1})
    train.run(given, tmp_path / "run", Console(file=said, width=400))
    found = read_json(tmp_path / "run" / "train" / "preflight.json")
    assert found["answered"] == 8 and found["seconds"] < 30
    assert (
        Model.load(given.model).digest()
        == read_json(tmp_path / "run" / "environment.json")["model"]["digest"]
    )
    shutil.rmtree(tmp_path / "run")


def test_memory_is_predicted_corrected_measured_and_kept(model: Path, tmp_path: Path) -> None:
    _, said = trained(task(model, train__preflight="off"), tmp_path / "run")
    kept = read_json(tmp_path / "run" / "train" / "estimate.json")
    assert kept["predicted"] == sum(kept["parts"].values())
    assert kept["corrected"] <= kept["measured"] * 1.5 and kept["seconds"] > 0
    lines = [line for line in said.splitlines() if line.startswith("memory: ")]
    assert len(lines) == 3
    assert " of " in lines[0] and lines[1].endswith(" for 6 steps") and lines[2].endswith(" predicted")


def test_a_training_that_does_not_fit_is_refused_before_anything_is_kept(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(machine, "usable_memory", lambda: 1 << 24)
        with pytest.raises(ConfigError, match=r"needs about .* this process may use 16 MiB.*a smaller model"):
            trained(task(model), tmp_path / "run")
    assert not (tmp_path / "run" / "config.yaml").exists()
    result, _ = trained(task(model, train__preflight="off", train__micro_tokens=256), tmp_path / "run")
    assert result["steps"] == 6
