"""`evaluate RUN --interpolate`: a run that has forgotten, and the run that is made of it without training."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import finetooth
from gate import gate
from models_for_tests import tiny_model_dir
from rich.console import Console

from finetooth.commands import interpolate
from finetooth.config.load import load_task
from finetooth.evaluation import ledger
from finetooth.evaluation.retention import FILE, INTERPOLATION, PanelScores, read_panel
from finetooth.model.api import Model
from finetooth.rundir import read_json, write_json, write_jsonl
from finetooth.runs.context import RunContext
from finetooth.runs.interpolation import SHARES

COLORS = {"apple": "red", "banana": "yellow", "plum": "blue"}
ROWS = [{"text": f"{n} of {fruit}", "label": color} for n in range(20) for fruit, color in COLORS.items()]
PANEL = read_panel()
ITEMS = len(PANEL.statements) + len(PANEL.requests)


def forgetting(loss: float) -> Callable[..., PanelScores]:
    """A panel on which a model loses in proportion to what its weights have changed."""
    most, noise = [0.0], np.random.default_rng(1).normal(0, 0.01, ITEMS)

    def change(model: Model) -> float:
        if model.peft is not None:
            off = any(getattr(module, "disable_adapters", False) is True for module in model.hf.modules())
            norms = [float(w.norm()) for name, w in model.hf.named_parameters() if ".lora_B." in name]
            return 0.0 if off else sum(norms)
        base = Model.load("model", seed=1)
        pairs = zip(model.hf.parameters(), base.hf.parameters(), strict=True)
        return float(sum((one - other).norm() for one, other in pairs))

    def scored(model: Model, _rows: Any) -> PanelScores:
        with torch.no_grad():
            size = change(model)
        most[0] = max(most[0], size)
        share = size / most[0] if size else 0.0
        return PanelScores(0.8 - loss * share + share * noise, np.full(len(PANEL.texts), 400.0))

    return scored


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task whose run `lora` has forgotten, by a made-up panel, and `full`, trained without an adapter."""
    folder = tmp_path_factory.mktemp("made")
    tiny_model_dir(folder / "model")
    write_jsonl(folder / "rows.jsonl", ROWS)
    train = {"preflight": "off", "max_steps": 4, "select": "loss", "learning_rate": 0.02}
    data = {"train": "rows.jsonl", "test": 0.3, "validation": 0.3}
    evaluate = {"shots": [0], "retention": True}
    write_json(folder / "task.yaml", {"model": "model", "data": data, "train": train, "evaluate": evaluate})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("finetooth.runs.retention.score_panel", forgetting(0.5))
        done = finetooth(folder, "run", "task.yaml", "--out", "lora")
    assert done.returncode == 0, done.stderr
    (folder / "said.txt").write_text(done.stdout + done.stderr)
    done = finetooth(folder, "train", "task.yaml", "--train.adapter", "none", "--out", "full")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder."""
    folder = shutil.copytree(made, tmp_path / "place")
    for run in ("lora", "full"):
        for name in ("config.yaml", "environment.json"):
            file = folder / run / name
            file.write_text(file.read_text().replace(str(made), str(folder)))
    monkeypatch.setattr("finetooth.runs.interpolation.score_panel", forgetting(0.5))
    return folder


def test_a_run_that_has_forgotten_keeps_the_test_closed_and_names_the_command(made: Path) -> None:
    assert read_json(made / "lora" / FILE)["verdict"] == "forgotten"
    assert ledger.look_count(made / "lora") == 0
    command, said = "finetooth evaluate lora --interpolate auto", (made / "said.txt").read_text()
    assert "The sealed test stays closed: the model has forgotten" in said.replace("\n", " ")
    assert command in said and command in (made / "lora" / "report.html").read_text("utf-8")


def test_the_share_that_keeps_general_ability_is_chosen_and_nothing_is_trained(place: Path) -> None:
    """A panel that loses 50 points at share 1, with a margin of 10: a share of .1 is kept, .2 is not."""
    done = finetooth(place, "evaluate", "lora", "--interpolate", "auto", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    record, new = found["interpolation"], place / "lora-interpolated"
    assert [trial["share"] for trial in record["trials"]] == [0.1, 0.2] and record["share"] == 0.1
    assert record["before"]["retention"]["verdict"] == "forgotten"
    assert record["after"]["retention"]["verdict"] == "kept" == read_json(new / FILE)["verdict"]
    assert found["split"] == "validation" and found["comparison"]["candidate"] == "tuned"
    tuned = next(one for one in found["candidates"] if one["name"] == "tuned")
    assert tuned["score"] == pytest.approx(record["after"]["score"])
    page = (new / "report.html").read_text("utf-8")
    assert (
        "before −50" in page
        and "as trained" in page
        and "evaluate lora-interpolated --interpolate" not in page
    )
    assert RunContext.of_run(new, Console(quiet=True)).task.train.interpolate == 0.1
    assert ledger.sealed_count(new) == ledger.sealed_count(place / "lora")
    again = json.loads(finetooth(place, "evaluate", "lora", "--interpolate", "auto", "--json").stdout)
    assert again["interpolation"] == record


def test_the_new_run_is_used_like_any_other(place: Path) -> None:
    assert finetooth(place, "evaluate", "lora", "--interpolate", "0.5").returncode == 0
    new = "lora-interpolated"
    for words in (("predict", new, "rows.jsonl"), ("report", new), ("evaluate", new, "--sealed")):
        done = finetooth(place, *words, "--json")
        assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["look"] == 1
    words = ["evaluate", new, "--interpolate", "0.5", "--out", "half-of-half"]
    assert finetooth(place, *words).returncode == 0
    assert RunContext.of_run(place / "half-of-half", Console(quiet=True)).task.train.interpolate == 0.25


@pytest.mark.parametrize("run", gate(["lora", "full"], ["lora"]))
def test_weights_are_those_that_training_with_the_share_gives(place: Path, run: str) -> None:
    assert finetooth(place, "evaluate", run, "--interpolate", "0.3").returncode == 0
    flags = ["--train.adapter", "none"] if run == "full" else []
    done = finetooth(place, "train", "task.yaml", "--train.interpolate", "0.3", "--out", "trained", *flags)
    assert done.returncode == 0, done.stderr
    contexts = [
        RunContext.of_run(place / name, Console(quiet=True)) for name in (f"{run}-interpolated", "trained")
    ]
    assert len({context.tuned().digest() for context in contexts}) == 1


def test_a_stop_in_between_is_gone_on_from(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after the share was chosen: it is not chosen again, and the run is completed."""
    with monkeypatch.context() as patch:
        patch.setattr(interpolate, "_make", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        assert finetooth(place, "evaluate", "lora", "--interpolate", "auto").returncode == 130
    assert (place / "lora-interpolated" / INTERPOLATION).is_file()
    monkeypatch.setattr(interpolate, "_record", lambda *_: pytest.fail("chosen again"))
    assert finetooth(place, "evaluate", "lora", "--interpolate", "auto").returncode == 0


def test_where_no_share_keeps_general_ability_nothing_is_made(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetooth.runs.interpolation.score_panel", forgetting(1.5))
    done = finetooth(place, "evaluate", "lora", "--interpolate", "auto")
    assert done.returncode == 1 and "No share of 0.1 or more" in done.stdout.replace("\n", " ")
    assert not (place / "lora-interpolated").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("lora", "--interpolate", "2"), "expected auto or a share between 0 and 1, found '2'"),
        (("lora", "--interpolate", "auto", "--sealed"), "--interpolate stands alone: leave out --sealed"),
        (("lora", "--interpolate", "auto", "--out", "full"), "full has another run"),
    ],
)
def test_mistakes_are_named(place: Path, words: tuple[str, ...], message: str) -> None:
    done = finetooth(place, "evaluate", *words)
    assert done.returncode == 2 and message in done.stderr.replace("\n", " ")


def test_a_reward_model_is_not_interpolated() -> None:
    from finetooth.errors import ConfigError
    from finetooth.training.preferences import reject_unused_keys

    task = load_task({"data": {"train": ROWS}}, {"train.method": "reward_model", "train.interpolate": 0.5})
    with pytest.raises(ConfigError, match="a reward model scores"):
        reject_unused_keys(task.train)
    assert SHARES[0] == 0.1
