"""Trouble is called by its name: on curves made for it, on healthy ones, and on real trainings gone wrong."""

from __future__ import annotations

import io
import json
import math
import random
from pathlib import Path

import pytest
from rich.console import Console
from training_for_tests import fit, load, rows, settings

from finetooth.training.monitor import TrainingFinding, TrainingMonitor
from finetooth.tree import Row


def healthy(step: int, total: int = 200, start: float = 4.0, end: float = 1.0) -> float:
    return end + (start - end) * math.exp(-5 * step / total)


def fed(
    losses: list[float], valid: dict[int, float] | None = None, noise: float = 0.05
) -> list[TrainingFinding]:
    """What is found in a curve; the state goes through JSON at every step, as through a checkpoint."""
    draw = random.Random(0)
    monitor, found = TrainingMonitor(len(losses)), []
    if valid and 0 in valid:
        found += monitor.validation(0, valid[0])
    for step, loss in enumerate(losses, 1):
        noisy = loss * (1 + draw.gauss(0, noise))
        found += monitor.step(step, noisy, {"a": noisy * 0.9, "bad": noisy * 1.1})
        if valid and step in valid:
            found += monitor.validation(step, valid[step])
        monitor = TrainingMonitor(**json.loads(json.dumps(monitor.state())))
    return found


def names(found: list[TrainingFinding]) -> list[str]:
    return [finding.name for finding in found]


@pytest.mark.parametrize("noise", [0.02, 0.1, 0.2])
@pytest.mark.parametrize("end", [0.02, 1.0, 2.4])
def test_a_healthy_run_is_left_alone(noise: float, end: float) -> None:
    valid = {step: healthy(step, end=end) * 1.05 for step in range(0, 201, 20)}
    assert fed([healthy(step, end=end) for step in range(200)], valid, noise) == []


def test_a_spike_names_its_step_and_its_rows() -> None:
    curve = [healthy(step) for step in range(200)]
    curve[120] = 9.0
    (found,) = fed(curve)
    assert (found.name, found.step, found.rows) == ("spike", 121, ("bad", "a"))
    assert "the loss is" in found.text and "bad (" in found.text


def test_spikes_are_said_once_and_kept_to_twenty() -> None:
    curve = [healthy(step, 400) for step in range(400)]
    for at in range(60, 400, 12):
        curve[at] = 30.0
    found = [one for one in fed(curve) if one.name == "spike"]
    assert len(found) == 20 and [one.first for one in found] == [True] + [False] * 19


def test_divergence() -> None:
    (found,) = fed([healthy(step) for step in range(80)] + [1.4 + 0.03 * step for step in range(100)])
    assert found.name == "divergence" and found.step > 80 and found.rows


@pytest.mark.parametrize("seed", range(8))
def test_batches_of_two_kinds_do_not_diverge(seed: int) -> None:
    """A third are labels at 0.3 to 1 nat, the others long texts at 2 to 3.5: medians of ten vary."""
    draw = random.Random(seed)
    kinds = [draw.uniform(0.3, 1) if draw.random() < 1 / 3 else draw.uniform(2, 3.5) for _ in range(640)]
    start = [4.0 - 0.1 * step for step in range(10)]
    assert "divergence" not in names(fed(start + kinds))


def test_divergence_from_the_start() -> None:
    assert names(fed([4.0 + 0.05 * step for step in range(100)])) == ["divergence"]


def test_a_plateau() -> None:
    (found,) = fed([4.0] * 200, noise=0.002)
    assert found.name == "plateau" and "began at 4.0" in found.text


def test_overfitting() -> None:
    valid = {0: 4.0, 40: 2.0, 80: 1.5, 120: 1.7, 160: 1.9, 200: 2.1}
    (found,) = fed([healthy(step, end=0.1) for step in range(200)], valid)
    assert (found.name, found.step) == ("overfitting", 160)
    assert "from 1.500 at step 80" in found.text


def test_a_validation_loss_that_rises_with_the_training_loss_is_no_overfitting() -> None:
    valid = {0: 4.0, 40: 2.0, 80: 1.5, 120: 1.7, 160: 1.9}
    assert "overfitting" not in names(fed([healthy(step) for step in range(80)] + [2.6] * 100, valid))


def found_in(run: Path) -> list[dict[str, object]]:
    path = run / "train" / "findings.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.full
def test_a_real_training_at_a_rate_far_too_high(tmp_path: Path) -> None:
    said = io.StringIO()
    config = settings(
        adapter="none", learning_rate=1.0, warmup=0.3, epochs=12, schedule="constant", max_grad_norm=1e9
    )
    fit(
        load(tmp_path / "model", "none"),
        tmp_path / "run",
        config,
        validation=[],
        console=Console(file=said, width=300),
    )
    assert "divergence" in [line["name"] for line in found_in(tmp_path / "run")]
    assert said.getvalue().count("warning: loss divergence at step") == 1


def test_a_real_training_with_a_row_of_garbage(tmp_path: Path) -> None:
    """Twelve rows say the same; the thirteenth, to the same question, something else."""
    easy = rows(1)[0]
    train = [Row(easy.tokens, easy.weight, id=f"easy-{n}") for n in range(12)]
    train.append(Row([*easy.tokens[:-3], 400, 401, 402], easy.weight, id="garbage"))
    config = settings(batch_size=1, epochs=5)
    fit(load(tmp_path / "model"), tmp_path / "run", config, train=train, validation=[])
    spikes = [line for line in found_in(tmp_path / "run") if line["name"] == "spike"]
    assert spikes and all(line["rows"] == ["garbage"] for line in spikes)


@pytest.mark.full
def test_a_real_training_that_overfits(tmp_path: Path) -> None:
    config = settings(epochs=30, validate_every=10, learning_rate=0.02)
    fit(load(tmp_path / "model"), tmp_path / "run", config)  # validation rows are random: nothing to learn
    assert "overfitting" in [line["name"] for line in found_in(tmp_path / "run")]
