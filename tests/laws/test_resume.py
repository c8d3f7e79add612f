"""Law 6: kill training at any moment, continue it, and the weights equal the uninterrupted run's bit for bit.

Children are real processes that get a real SIGKILL: at a step, at a chosen fsync inside a save, or whenever.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from gate import gate
from processes import FORK
from rich.console import Console
from safetensors.torch import save_file
from training_for_tests import fit, load, settings

from finetooth.errors import Interrupted
from finetooth.training import loop
from finetooth.training.checkpoint import steps
from finetooth.training.interrupts import stop_on_signals

TOTAL = 8  # of the settings: 13 rows in batches of 4, two epochs


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def child(models: Path, adapter: str, run: Path, at_step: int, at_fsync: int, epochs: int) -> None:
    """Train to the end and write the final weights, or die just after a step or just before an fsync."""
    torch.set_num_threads(1)
    calls = {"step": 0, "fsync": 0}
    real_fsync, real_save = os.fsync, loop.checkpoints.save

    def fsync(handle: int) -> None:
        calls["fsync"] += 1
        if calls["fsync"] == at_fsync:
            _die()
        real_fsync(handle)

    def save(*arguments: Any) -> Path:
        os.fsync = fsync  # counted from the first save on
        return real_save(*arguments)

    def stop() -> bool:
        calls["step"] += 1
        if calls["step"] == at_step:
            _die()
        return False

    loop.checkpoints.save = save
    model = load(models, adapter)
    fit(model, run, settings(adapter=adapter, epochs=epochs), stop=stop)
    save_file(model.state(), run / "final.safetensors")


def terminated(models: Path, run: Path) -> None:
    """Train until SIGTERM, as the command does; the exit code is its own."""
    torch.set_num_threads(1)
    with stop_on_signals() as stop:
        try:
            fit(load(models), run, settings(epochs=500), stop=stop, console=Console(quiet=True))
        except Interrupted as error:
            (run / "said.txt").write_text(str(error))
            os._exit(130)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model")
    load(directory)
    return directory


def start(models: Path, adapter: str, run: Path, step: int = 0, fsync: int = 0, epochs: int = 2) -> Any:
    process = FORK.Process(target=child, args=(models, adapter, run, step, fsync, epochs))
    process.start()
    return process


def trained(run: Path) -> tuple[bytes, list[dict[str, Any]], str]:
    """Final weights, metrics without the time, losses by row: all that must not differ."""
    lines = [json.loads(line) for line in (run / "train" / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("seconds", None)
    losses = (run / "train" / "row_losses.jsonl").read_text()
    return (run / "final.safetensors").read_bytes(), lines, losses


@pytest.mark.parametrize("adapter", gate(["lora", "none"], ["lora"]))
def test_killed_at_steps_and_inside_saves(models: Path, tmp_path: Path, adapter: str) -> None:
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    start(models, adapter, straight).join()
    # The seven fsyncs of a save: two tensor files, the state and its directory, the manifest and its
    # directory, and the parent after the rename: only then is there one checkpoint more.
    points = (1, 4, 7) if adapter == "lora" else (2, 3, 5, 6)
    kills = [{"step": 1}, *({"fsync": point} for point in points), {"step": 2}, {"step": 1}]
    for kill in kills:
        process = start(models, adapter, broken, **kill)
        process.join()
        assert process.exitcode == -signal.SIGKILL, kill
    start(models, adapter, broken).join()
    assert trained(broken) == trained(straight)
    assert [line["step"] for line in trained(broken)[1] if "loss" in line] == list(range(1, TOTAL + 1))
    assert not list(broken.rglob("*.tmp"))


@pytest.mark.slow
def test_killed_at_random_moments(models: Path, tmp_path: Path) -> None:
    draw = random.Random(0)
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    start(models, "none", straight, epochs=100).join()
    killed = 0
    while True:
        process = start(models, "none", broken, epochs=100)
        process.join(draw.uniform(0.2, 0.8))
        if process.exitcode is not None:
            break
        process.kill()
        process.join()
        killed += 1
    assert killed >= 5
    assert trained(broken) == trained(straight)


def test_sigterm_saves_and_says_how_to_go_on(models: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = FORK.Process(target=terminated, args=(models, run))
    process.start()
    deadline = time.monotonic() + 300
    while not steps(run / "train" / "checkpoints") and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGTERM)
    process.join(300)
    assert process.exitcode == 130
    assert f"ontinue with: finetooth train {run}" in (run / "said.txt").read_text()


def interrupted_at(model_dir: Path, run: Path, step: int) -> None:
    calls = iter(range(1, 100))
    with pytest.raises(Interrupted):
        fit(load(model_dir), run, stop=lambda: next(calls) == step)


@pytest.mark.parametrize("step", gate(range(1, TOTAL), [1, 4]))
def test_stopped_at_every_step(models: Path, tmp_path: Path, step: int) -> None:
    straight, broken = load(models), load(models)
    want = fit(straight, tmp_path / "straight")
    interrupted_at(models, tmp_path / "broken", step)
    assert fit(broken, tmp_path / "broken") == want
    assert broken.digest() == straight.digest()


def test_the_law_catches_a_lost_optimizer_state(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight, broken = load(models), load(models)
    fit(straight, tmp_path / "straight")
    interrupted_at(models, tmp_path / "broken", 5)
    monkeypatch.setattr(loop.optimizers, "load_state", lambda *_: None)
    fit(broken, tmp_path / "broken")
    assert broken.digest() != straight.digest()


def test_the_law_catches_an_epoch_that_is_replayed(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight, broken = load(models), load(models)
    fit(straight, tmp_path / "straight")
    interrupted_at(models, tmp_path / "broken", 5)
    real = loop.batch_indices
    monkeypatch.setattr(loop, "batch_indices", lambda seed, step, *sizes: real(seed, step - 5, *sizes))
    fit(broken, tmp_path / "broken")
    assert broken.digest() != straight.digest()
