"""The whole loop on pairs: trained, evaluated on rows it never saw, reported, and stopped in time."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from models_for_tests import tiny_model_dir
from rich.console import Console

from finetooth.commands import run, train
from finetooth.config.load import load_task
from finetooth.config.task import Task
from finetooth.errors import ConfigError, GradeError
from finetooth.rundir import read_json
from finetooth.runs import conversation, workspace

FRUIT = ("apple", "pear", "plum", "fig", "lime")


def pair(number: int) -> dict[str, str]:
    """The chosen answer names the fruit, the rejected one says no; which of them is longer changes."""
    name = FRUIT[number % 5]
    return {
        "prompt": f"{number} of {name}?",
        "chosen": f"yes {name}" if number % 2 else "yes",
        "rejected": "no" if number % 2 else f"no {name}",
    }


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_dir(tmp_path_factory.mktemp("place") / "model")


def task(model: Path, method: str, **changes: Any) -> Task:
    values = {
        "model": str(model),
        "data": {"train": [pair(number) for number in range(90)], "validation": 0.2, "test": 0.4},
        "train": {"method": method, "learning_rate": 0.01, "batch_size": 8, "epochs": 6, "preflight": "off"},
        "evaluate": {"shots": [0]},
    }
    return load_task(values, changes)


@pytest.mark.parametrize(
    ("method", "adapter"),
    [
        ("dpo", "lora"),
        pytest.param("kto", "none", marks=pytest.mark.full),
        pytest.param("reward_model", "lora", marks=pytest.mark.full),
        ("reward_model", "none"),
    ],
)
def test_a_preference_is_learned_and_measured_on_rows_it_never_saw(
    model: Path, tmp_path: Path, method: str, adapter: str
) -> None:
    out = tmp_path / "run"
    summary = run.run(task(model, method, **{"train.adapter": adapter}), out, quiet=True).summary
    assert (summary["grader"], summary["split"]) == ("preference", "test")
    by_name = {entry["name"]: entry["score"] for entry in summary["candidates"]}
    assert list(by_name) == ["by-length", "zero-shot", "tuned"]
    assert by_name["tuned"] > 0.9 and by_name["by-length"] < 0.7
    assert summary["comparison"]["baseline"] == "zero-shot"
    assert "the untuned model" in summary["words"]
    assert read_json(out / "train" / "result.json")["rows"] < 60  # pairs, not their rows
    stored = workspace.load_config(out).train
    assert stored.beta == (None if method == "reward_model" else 0.1)
    again = workspace.open_run(task(model, method, **{"train.adapter": adapter}), out)
    assert again is not None  # the same task goes on with it
    assert "by-length" in (out / "report.html").read_text()
    if method == "reward_model":
        with pytest.raises(ConfigError, match="it scores answers and cannot generate"):
            conversation.speakers(str(out))


@pytest.mark.full
def test_the_preflight_check_learns_the_chosen_answers(model: Path, tmp_path: Path) -> None:
    small = task(model, "dpo", **{"train.preflight": "on", "train.epochs": 1})
    train.run(small, tmp_path / "run", Console(quiet=True))
    record = read_json(tmp_path / "run" / "train" / "preflight.json")
    assert record["passed"] and len(record["ids"]) == 8


def test_swapped_pairs_are_noticed_before_training(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted: the renderer marks the rejected answer as the chosen one."""
    from finetooth.data.render.renderer import Renderer
    from finetooth.training.preferences import with_signals

    real = Renderer.pair
    monkeypatch.setattr(
        Renderer,
        "pair",
        lambda self, example: [
            with_signals(r, {"chosen": 1 - r.signals["chosen"]}) for r in real(self, example)
        ],
    )
    with pytest.raises(Exception, match="the two may be swapped"):
        train.run(task(model, "dpo"), tmp_path / "run", Console(quiet=True))
    assert not (tmp_path / "run" / "train" / "metrics.jsonl").exists()


def test_rows_without_pairs_and_misplaced_keys_are_refused(model: Path, tmp_path: Path) -> None:
    rows = [{"question": f"{n}?", "answer": "yes"} for n in range(60)]
    with pytest.raises(ConfigError, match="trains on pairs of a chosen and a rejected answer"):
        train.run(task(model, "dpo", **{"data.train": rows}), tmp_path / "a", Console(quiet=True))
    with pytest.raises(ConfigError, match=r"train\.gamma is set, but train\.method dpo does not read it"):
        train.run(task(model, "dpo", **{"train.gamma": 0.2}), tmp_path / "b", Console(quiet=True))
    with pytest.raises(ConfigError, match=r"Set train\.select: loss"):
        train.run(task(model, "dpo", **{"train.select": "score"}), tmp_path / "c", Console(quiet=True))
    with pytest.raises(GradeError, match="cannot be combined"):
        mixed = task(model, "dpo", **{"evaluate.grader": ["preference", "chrf"], "train.max_steps": 1})
        run.run(mixed, tmp_path / "d", quiet=True)


@pytest.mark.full
def test_the_log_says_what_is_held_out(model: Path, tmp_path: Path) -> None:
    said = io.StringIO()
    train.run(task(model, "simpo"), tmp_path / "run", Console(file=said, width=300))
    assert "auto: train.beta = 2.0: default for simpo" in said.getvalue()
    assert ", accuracy " in said.getvalue()
    lines = [
        json.loads(line) for line in (tmp_path / "run" / "train" / "metrics.jsonl").read_text().splitlines()
    ]
    last = [line["valid_accuracy"] for line in lines if "valid_accuracy" in line][-1]
    assert last > 0.9
