"""Trackers get what metrics.jsonl gets: TensorBoard for real, others where they are installed."""

from __future__ import annotations

import io
import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from training_for_tests import fit, load, settings

from finetooth.errors import ConfigError, Interrupted
from finetooth.training import trackers
from finetooth.training.trackers import Trackers, require_installed


def numbers(run: Path) -> dict[str, list[tuple[int, float]]]:
    """What metrics.jsonl holds, by name."""
    found: dict[str, list[tuple[int, float]]] = {}
    for text in (run / "train" / "metrics.jsonl").read_text().splitlines():
        line = json.loads(text)
        for name, value in line.items():
            if name != "step":
                found.setdefault(name, []).append((line["step"], value))
    return found


def on_board(run: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard reads of its event files."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = reader.EventAccumulator(str(run / "train" / "tensorboard"))
    board.Reload()
    names = board.Tags()["scalars"]
    return {name: [(event.step, event.value) for event in board.Scalars(name)] for name in names}


def test_tensorboard_has_every_number(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    fit(load(tmp_path / "model"), tmp_path / "run", settings(track=["tensorboard"]))
    want, got = numbers(tmp_path / "run"), on_board(tmp_path / "run")
    assert want.keys() == got.keys() >= {"loss", "valid_loss", "learning_rate"}
    for name, points in want.items():
        assert [step for step, _ in got[name]] == [step for step, _ in points]
        assert [value for _, value in got[name]] == pytest.approx([value for _, value in points], rel=1e-5)


def test_tensorboard_after_resume_has_every_step_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    config = settings(track=["tensorboard"])
    calls = iter(range(1, 100))
    with pytest.raises(Interrupted):
        fit(load(tmp_path / "model"), tmp_path / "run", config, stop=lambda: next(calls) == 5)
    fit(load(tmp_path / "model"), tmp_path / "run", config)
    assert [step for step, _ in on_board(tmp_path / "run")["loss"]] == list(range(1, 9))


def test_tensorboard_shows_one_attempt_of_a_run_killed_before_its_first_checkpoint(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    config = settings(track=["tensorboard"], save_every=100)
    ticks = iter(range(100))

    def clock() -> float:
        if next(ticks) == 6:  # in the fourth step
            raise RuntimeError("killed")
        return 0.0

    with pytest.raises(RuntimeError, match="killed"):
        fit(load(tmp_path / "model"), tmp_path / "run", config, validation=[], clock=clock)
    assert [step for step, _ in on_board(tmp_path / "run")["loss"]] == [1, 2, 3]
    fit(load(tmp_path / "model"), tmp_path / "run", config, validation=[])
    assert [step for step, _ in on_board(tmp_path / "run")["loss"]] == list(range(1, 9))


def test_tracking_changes_no_number(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    tracked, plain = load(tmp_path / "model"), load(tmp_path / "model")
    fit(tracked, tmp_path / "a", settings(track=["tensorboard"]))
    fit(plain, tmp_path / "b")
    assert tracked.digest() == plain.digest()


def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    fit(load(tmp_path / "model"), tmp_path / "run", settings(track=["mlflow"]))
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("finetooth").experiment_id])
    history = client.get_metric_history(run.info.run_id, "loss")
    want = numbers(tmp_path / "run")["loss"]
    assert [(point.step, point.value) for point in sorted(history, key=lambda p: p.step)] == want
    assert (run.info.status, run.data.params["rank"]) == ("FINISHED", "4")


def test_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    fit(load(tmp_path / "model"), tmp_path / "run", settings(track=["wandb"]))
    assert list((tmp_path / "run" / "train").rglob("*.wandb"))


def test_trackio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("trackio")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    said = io.StringIO()
    fit(load(tmp_path / "model"), tmp_path / "run", settings(track=["trackio"]), console=Console(file=said))
    assert "failed" not in said.getvalue()


def test_what_is_not_installed_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"train\.track: wandb is not installed\. .*pip install wandb"):
        require_installed(["wandb"])
    require_installed([])


def test_a_tracker_that_fails_never_stops_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A made-up wandb whose server goes away after three lines."""
    logged: list[tuple[int, dict[str, float]]] = []

    def log(values: dict[str, float], step: int) -> None:
        if len(logged) == 3:
            raise ConnectionError("no route")
        logged.append((step, values))

    module: Any = types.ModuleType("wandb")
    module.init = lambda **given: types.SimpleNamespace(log=log, finish=lambda: None)
    monkeypatch.setitem(sys.modules, "wandb", module)
    said: list[str] = []
    with Trackers(["wandb"], tmp_path, {}, 0, said.append) as trackers:
        for step in range(6):
            trackers.log({"step": step, "loss": 1.0})
    assert [step for step, _ in logged] == [0, 1, 2]
    assert said == ["warning: wandb failed and is no longer used (ConnectionError: no route)"]
