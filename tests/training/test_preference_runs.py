"""Runs of preference tuning: where they start, what they log, and that a stopped one goes on as it was."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from preferences_for_tests import (
    KEYS,
    REFERENCE,
    config,
    moved,
    pairs,
    scoring,
    taken,
)
from training_for_tests import fit, load

from finetooth.errors import Interrupted, TrainError
from finetooth.training import preferences, reference
from finetooth.training.objectives import Loss, Signals
from finetooth.training.reference import require_own_reference, with_reference
from finetooth.training.step import evaluate_rows


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model")
    load(directory)
    return directory


@pytest.mark.parametrize("method", REFERENCE)
@pytest.mark.parametrize("adapter", ["lora", "none"])
def test_before_the_first_step_margins_are_zero(
    models: Path, tmp_path: Path, method: str, adapter: str
) -> None:
    """The reference is the model as it starts: here an adapter that is no longer the base's equal."""
    model = moved(load(models, adapter))
    chosen = config(method, label_smoothing=0.2) if method == "dpo" else config(method)
    rows, _ = taken(model, tmp_path, chosen, pairs(6), pairs(3, 1))
    loss, said = evaluate_rows(model, rows, budget=40, objective=preferences.objective(chosen))
    assert said["margin"] == pytest.approx(0, abs=1e-5)
    start = {"dpo": math.log(2), "dpo_norm": math.log(2), "ipo": 1 / (4 * 0.4**2), "kto": (1.3 + 0.8) / 4}
    assert loss == pytest.approx(start[method], abs=1e-4)


def test_the_start_is_looked_at_in_both_sides(models: Path, tmp_path: Path) -> None:
    """Planted: the numbers of the validation rows are another model's."""
    model = load(models)
    _rows, valid = taken(model, tmp_path, config("dpo"), pairs(6), pairs(3, 1))
    require_own_reference(model, valid, config("dpo"))
    wrong = [
        preferences.with_signals(row, {"reference_logp": row.signals["reference_logp"] - 0.01})
        for row in valid
    ]
    with pytest.raises(TrainError, match="must be its own reference"):
        require_own_reference(model, wrong, config("dpo"))


@pytest.mark.parametrize("method", REFERENCE)
def test_a_reference_of_another_model_stops_the_run(models: Path, tmp_path: Path, method: str) -> None:
    """Planted: the base in place of the adapter that the run starts from."""
    taken(load(models), tmp_path, config(method), pairs(6))
    with pytest.raises(TrainError, match="must be its own reference, and it is not"):
        taken(moved(load(models)), tmp_path, config(method), pairs(6))


def test_a_reference_of_other_rows_or_a_damaged_one_stops_the_run(models: Path, tmp_path: Path) -> None:
    model = load(models)
    taken(model, tmp_path, config("dpo"), pairs(6))
    with pytest.raises(TrainError, match="belong to other rows"):
        taken(model, tmp_path, config("dpo"), pairs(6, 1))
    with pytest.raises(TrainError, match="belong to other rows"):
        taken(model, tmp_path, config("dpo"), pairs(6)[::-1])
    file = tmp_path / "train" / reference.FILE
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(TrainError, match="damaged or truncated"):
        taken(model, tmp_path, config("dpo"), pairs(6))


def test_the_reference_is_kept_and_not_measured_again(models: Path, tmp_path: Path) -> None:
    model = load(models)
    first = taken(model, tmp_path, config("dpo"), pairs(6), pairs(2, 1))
    file = tmp_path / "train" / reference.FILE
    content, said = file.read_bytes(), []
    again = with_reference(model, (pairs(6), pairs(2, 1)), config("dpo"), tmp_path, said.append)
    assert file.read_bytes() == content and said == []
    for one, two in zip([*first[0], *first[1]], [*again[0], *again[1]], strict=True):
        assert np.array_equal(one.signals["reference_logp"], two.signals["reference_logp"])


@pytest.mark.parametrize(
    "method",
    [pytest.param(name, marks=() if name == "dpo" else pytest.mark.full) for name in (*KEYS, "reward_model")],
)
def test_training_raises_the_margin_of_what_is_chosen(models: Path, tmp_path: Path, method: str) -> None:
    """The sign of every loss: planted the other way round, accuracy would fall."""
    model = scoring(models) if method == "reward_model" else load(models)
    chosen = config(method, learning_rate=0.02, batch_size=8, epochs=12, validate_every=100)
    rows = taken(model, tmp_path, chosen, pairs(8))[0]
    objective = preferences.objective(chosen)
    before = evaluate_rows(model, rows, budget=60, objective=objective)[1]
    fit(model, tmp_path, chosen, rows, [], objective=objective)
    after = evaluate_rows(model, rows, budget=60, objective=objective)[1]
    assert after["accuracy"] > 0.9 and after["margin"] > before["margin"]


def test_metrics_are_in_the_lines_of_the_run(models: Path, tmp_path: Path) -> None:
    model, chosen = load(models), config("dpo", label_smoothing=0.0)
    rows, valid = taken(model, tmp_path, chosen, pairs(8), pairs(4, 1))
    fit(model, tmp_path, chosen, rows, valid, objective=preferences.objective(chosen))
    lines = [json.loads(line) for line in (tmp_path / "train" / "metrics.jsonl").read_text().splitlines()]
    names = {"accuracy", "margin", "chosen_reward", "rejected_reward", "chosen_logp", "rejected_drift"}
    start, first = lines[0], lines[1]
    assert start["valid_loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert {f"valid_{name}" for name in names} < set(start)
    assert names < set(first) and first["rows"] == 8  # four pairs a step
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert first["margin"] == pytest.approx(0, abs=1e-4)
    losses = [json.loads(line) for line in (tmp_path / "train" / "row_losses.jsonl").read_text().splitlines()]
    at_first = [line["loss"] for line in losses if line["step"] == 1]
    assert at_first == pytest.approx([math.log(2)] * 4, abs=1e-4)  # of each pair, by its id


@pytest.mark.parametrize(
    ("adapter", "method"),
    [("lora", "dpo"), ("none", "kto")]
    + [
        pytest.param(*kind, marks=pytest.mark.full)
        for kind in (
            ("none", "dpo"),
            ("lora", "reward_model"),
            ("lora", "kto"),
            ("none", "reward_model"),
            ("lora", "orpo"),
            ("none", "orpo"),
        )
    ],
)
def test_a_run_that_was_stopped_ends_with_the_same_weights(
    models: Path, tmp_path: Path, method: str, adapter: str
) -> None:
    chosen = config(method, adapter=adapter)

    def run(name: str, stop: Callable[[], bool]) -> tuple[Any, str]:
        model = scoring(models, adapter) if method == "reward_model" else load(models, adapter)
        rows, valid = taken(model, tmp_path / name, chosen, pairs(9), pairs(4, 1))
        objective = preferences.objective(chosen)
        return fit(
            model, tmp_path / name, chosen, rows, valid, objective=objective, stop=stop
        ), model.digest()

    want = run("straight", lambda: False)
    calls = iter(range(1, 100))
    with pytest.raises(Interrupted):
        run("stopped", lambda: next(calls) == 3)
    assert run("stopped", lambda: False) == want
    logs = [(tmp_path / name / "train" / "metrics.jsonl").read_text() for name in ("straight", "stopped")]
    kept = [
        [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in log.splitlines()]
        for log in logs
    ]
    assert kept[0] == kept[1]


def _swapped_in_the_log(signals: Signals, **given: Any) -> Loss:
    """The planted bug: chosen and rejected change places on their way into the metrics."""
    loss_U, said = preferences.logistic(signals, **given)
    return loss_U, {**said, "accuracy": 1 - said["accuracy"]}


def _both_fall(signals: Signals, **given: Any) -> Loss:
    """Chosen answers are unlearned along with rejected ones."""
    loss_U, said = preferences.logistic(signals, **given)
    return loss_U + preferences._pair(signals, preferences._sum(signals, signals.logp_M))[0], said


@pytest.mark.parametrize(
    ("name", "planted"),
    [
        ("inverted", _swapped_in_the_log),
        pytest.param("chosen-falls", _both_fall, marks=pytest.mark.full),
        pytest.param("", preferences.logistic, marks=pytest.mark.full),
    ],
)
def test_silent_trouble_with_pairs_is_found(models: Path, tmp_path: Path, name: str, planted: Any) -> None:
    model = load(models)
    chosen = config("dpo", learning_rate=0.003, batch_size=4, epochs=20, validate_every=100, beta=0.1)
    rows = taken(model, tmp_path, chosen, pairs(8))[0]
    sound = preferences.objective(chosen)
    assert isinstance(sound.loss, partial)
    objective = replace(sound, loss=partial(planted, **sound.loss.keywords))
    fit(model, tmp_path, chosen, rows, [], objective=objective)
    file = tmp_path / "train" / "findings.jsonl"
    found = [json.loads(line)["name"] for line in file.read_text().splitlines()] if file.exists() else []
    silent = {"inverted", "chosen-falls"} & set(found)
    assert name in silent if name else not silent
