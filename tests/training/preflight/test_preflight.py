"""The preflight check leaves the model as it found it, reports what it saw, and skips what takes too long."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from gate import gate
from preflights_for_tests import question, trial
from training_for_tests import load, rows

from finetooth.errors import Interrupted, TrainError
from finetooth.model.api import Model
from finetooth.training.preflight import run
from finetooth.training.preflight.checks import PreflightError
from finetooth.training.preflight.rows import format_row, lowest_loss, select_rows
from finetooth.training.preflight.run import run_preflight
from finetooth.tree import Row
from finetooth.types import Answer, Example, Message


@pytest.mark.parametrize("adapter", gate(["lora", "none"], ["lora"]))
def test_model_and_generator_are_as_they_were(tmp_path: Path, adapter: str) -> None:
    clean = trial(tmp_path, adapter=adapter)
    model = clean.model
    before, state = model.digest(), torch.get_rng_state()
    model.train()
    found = run_preflight(clean)
    assert model.digest() == before and model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(weight.grad is None for weight in model.trainable())
    assert found.answered == 8 and found.loss[1] < 0.3 * found.loss[0] and found.grad_norm > 0


@pytest.mark.full
def test_also_after_an_alarm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clean = trial(tmp_path)
    before = clean.model.digest()
    monkeypatch.setattr(run, "RATES", (1e-9,))
    with pytest.raises(PreflightError, match="preflight:not-learning: the loss of 8 rows went from"):
        run_preflight(clean)
    assert clean.model.digest() == before


def test_half_precision_is_named(tmp_path: Path) -> None:
    clean = trial(tmp_path, adapter="none")
    clean.model.hf.to(torch.bfloat16)
    with pytest.raises(PreflightError, match=r"preflight:dtype: .* is trained in torch.bfloat16"):
        run_preflight(clean)


def test_frozen_weights_that_change_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clean = trial(tmp_path)
    real = run.train_step

    def step(model, *args, **kwargs):  # type: ignore[no-untyped-def]
        with torch.no_grad():
            model.hf.get_input_embeddings().weight[5] += 1e-3
        return real(model, *args, **kwargs)

    monkeypatch.setattr(run, "train_step", step)
    with pytest.raises(PreflightError, match="preflight:base-changed"):
        run_preflight(clean)


def test_a_slow_machine_is_no_alarm(tmp_path: Path) -> None:
    ticks = iter(range(0, 10**6, 15))  # every look at the clock takes 15 seconds
    found = run_preflight(replace(trial(tmp_path), clock=lambda: float(next(ticks))))
    assert found.answered is None and found.steps < 8
    assert any("the time limit" in note for note in found.notes)


def test_a_large_model_gets_fewer_rows_and_no_second_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(run.OPERATIONS, "cpu", 3e8)
    found = run_preflight(replace(trial(tmp_path), memory=1))
    assert 2 <= len(found.ids) < 8
    assert any(f"{len(found.ids)} rows instead of 8" in note for note in found.notes)
    assert any("do not fit into memory" in note for note in found.notes)


def test_a_model_of_135_million_weights_gets_all_rows(tmp_path: Path) -> None:
    """The shape of SmolLM2-135M and rows like those of examples/support-triage: 8 of 27 tokens share 12."""
    rows = [
        Row([*range(12), *range(100 * n, 100 * n + 15)], [0.0] * 25 + [1.0] * 2, id=f"q{n}")
        for n in range(10)
    ]
    embeddings = SimpleNamespace(weight=torch.empty(49_152, 576, device="meta"))
    network = SimpleNamespace(num_parameters=lambda: 134_515_008, get_input_embeddings=lambda: embeddings)
    model: Any = SimpleNamespace(hf=network, device=torch.device("cpu"))
    known = replace(trial(tmp_path), model=model, rows=rows)
    selected, wanted = run._affordable_rows(known)
    assert len(selected) == wanted == 8
    assert len(run._affordable_rows(replace(known, rows=[longer(row, 10) for row in rows]))[0]) < 8


def longer(row: Row, times: int) -> Row:
    own = np.tile(row.tokens[12:], times)
    return Row([*row.tokens[:12], *own], [0.0] * (10 + own.size) + [1.0] * 2, id=row.id)


@pytest.mark.full
def test_beside_its_steps_it_takes_four_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two show that the model is deterministic and what its loss should be; the others are compared."""
    passes: list[Model] = []
    real = Model.logprobs

    def logprobs(self: Model, *given: Any) -> torch.Tensor:
        passes.append(self)
        return real(self, *given)

    monkeypatch.setattr(Model, "logprobs", logprobs)
    found = run_preflight(trial(tmp_path))
    assert found.rate == pytest.approx(2e-3 * (2000 / 32) ** 0.5, rel=0.05), "learned at the first rate"
    assert len(passes) == found.steps + 4


def test_a_signal_stops_it(tmp_path: Path) -> None:
    with pytest.raises(Interrupted, match="Stopped before training"):
        run_preflight(replace(trial(tmp_path), stop=lambda: True))


def test_rows_are_short_and_ask_different_things() -> None:
    examples = [question(n % 5) for n in range(10)]
    examples = [Example(f"{n}", one.context, (Answer(f"{n}"),)) for n, one in enumerate(examples)]
    made = [Row([1, *range(5, 25 - n)], [0.0] * (19 - n) + [1.0] * 2, id=f"{n}") for n in range(10)]
    picked = select_rows(made, examples, 10**9, None)
    assert [one.row.id for one in picked] == ["9", "8", "7", "6", "5"]  # of each question the shortest row
    assert len(select_rows(made, examples, 30, None)) == 2
    assert [one.example for one in select_rows(made, examples, 10**9, truncation_limit=13)] == [examples[9]]
    assert select_rows(made, examples, 10**9, truncation_limit=5)[0].example is None


def test_of_a_conversation_the_last_turn() -> None:
    turns = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    example = Example("x#y", turns, (Answer("d"),))
    made = [Row([1, 2, 3], [0.0, 0.0, 1.0], id=f"x#y#{k}", example_id="x#y") for k in (1, 2)]
    assert [one.row.id for one in select_rows(made, [example], 99, None)] == ["x#y#2"]


def test_the_least_loss_of_rows_that_part(tmp_path: Path) -> None:
    """Three rows begin alike; one parts at once: ln 3/2 for two, ln 3 for one, then ln 2 for two."""
    parting = [Row([1, *tail], [0.0, 1.0, 1.0]) for tail in ([2, 3], [2, 4], [5, 6])]
    want = 2 * torch.log(torch.tensor(1.5)) + torch.log(torch.tensor(3.0)) + 2 * torch.log(torch.tensor(2.0))
    assert lowest_loss(parting) == pytest.approx(float(want) / 6)
    assert lowest_loss(rows(4)) < 0.5


def test_what_is_shown_marks_what_is_scored(tmp_path: Path) -> None:
    clean = trial(tmp_path)
    (one,) = select_rows(clean.rows[:1], clean.examples, 999, None)
    line = format_row(one, clean.evaluation_renderer.tokenizer)
    assert line.plain.endswith("assistant↵⟦In Rome, 0.<|im_end|>⟧")
    green = [line.plain[span.start : span.end] for span in line.spans if span.style == "green"]
    assert green == ["⟦In Rome, 0.<|im_end|>⟧"]


def test_another_model_is_not_taken_for_the_saved_one(tmp_path: Path) -> None:
    clean = trial(tmp_path)
    other = load(tmp_path / "other", "lora", "mistral")
    with pytest.raises(PreflightError, match="preflight:saved-differs"):
        run_preflight(replace(clean, load=lambda path: other))


@pytest.mark.parametrize("shape", gate(["preference", "last turn is context"], ["preference"]))
def test_rows_without_a_target_that_is_learned_are_tried_too(tmp_path: Path, shape: str) -> None:
    asked = shape == "preference"
    clean = trial(tmp_path, adapter="lora" if asked else "none")
    examples = []
    for one in clean.examples:
        (answer,) = one.answers
        if asked:
            examples.append(replace(one, answers=(Answer(answer.text, "chosen"), Answer("No.", "rejected"))))
        else:
            turns = (*one.context, Message("assistant", answer.text), Message("user", "Thanks"))
            examples.append(Example(one.id, turns, (Answer("Welcome.", weight=0.0),)))
    rows = clean.training_renderer.render_all(examples).rows
    found = run_preflight(replace(clean, examples=examples, rows=rows))
    assert len(found.ids) == 8 and found.loss[1] < 0.3 * found.loss[0]
    assert found.answered == (8 if asked else None)


@pytest.mark.parametrize("weight", gate([0.001, 30.0], [0.001]))
def test_the_weight_of_rows_is_no_alarm(tmp_path: Path, weight: float) -> None:
    """A sum of losses that are weighted by a thousandth is small long before anything is learned by heart."""
    clean = trial(tmp_path)
    rows = [Row(row.tokens, weight * row.weight, row.signals, row.unit, row.id) for row in clean.rows]
    assert run_preflight(replace(clean, rows=rows)).answered == 8


def test_a_very_slow_machine_is_no_alarm(tmp_path: Path) -> None:
    """When the time is up after one step, an adapter's first matrices have had no gradient yet."""
    ticks = iter(range(0, 10**6, 60))
    found = run_preflight(replace(trial(tmp_path), clock=lambda: float(next(ticks))))
    assert found.steps == 2 and any("the time limit" in note for note in found.notes)


def test_a_second_step_that_is_not_finite_is_called_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = run.train_step, iter(range(10**6))

    def step(*args, **kwargs):  # type: ignore[no-untyped-def]
        if next(calls) % 2:
            raise TrainError("not finite")
        return real(*args, **kwargs)

    monkeypatch.setattr(run, "train_step", step)
    with pytest.raises(PreflightError, match="preflight:not-learning"):
        run_preflight(trial(tmp_path))
