"""Muon for the matrices inside the layers: what it does to them, what it leaves to AdamW, and resuming."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training_for_tests import fit, load, rows, settings

from finetooth.errors import Interrupted
from finetooth.model.api import Model
from finetooth.training import optimizer as optimizers
from finetooth.training.objectives import supervised
from finetooth.training.step import train_step

RATE = 0.01


def moved(directory: Path, name: str, adapter: str = "none") -> tuple[Model, dict[str, torch.Tensor]]:
    """What one step without decay does to each weight."""
    model = load(directory, adapter).train()
    before = {key: weight.detach().clone() for key, weight in model.named_trainable().items()}
    optimizer = optimizers.build(model, settings(adapter=adapter, optimizer=name, weight_decay=0.0))
    for group in optimizer.param_groups:
        group["lr"] = RATE
    train_step(model, supervised, rows(8), optimizer, budget=64, max_norm=1.0)
    return model, {key: weight.detach() - before[key] for key, weight in model.named_trainable().items()}


def test_a_step_moves_every_direction_of_an_inner_matrix_alike(tmp_path: Path) -> None:
    """Its singular values are equal up to the iteration's error, scaled as Liu et al. 2025 (eq. 4) say.

    A gradient of low rank leaves the other directions where they are: only those that moved count.
    """
    model, by_muon = moved(tmp_path, "muon")
    _, by_adamw = moved(tmp_path, "adamw")
    inner = [key for key, change in by_muon.items() if change.ndim == 2 and "layers" in key]
    assert len(inner) == 7 * model.hf.config.num_hidden_layers
    for key in inner:
        values = torch.linalg.svdvals(by_muon[key].double()) / (RATE * 0.2 * max(by_muon[key].shape) ** 0.5)
        strong = values[values > 0.1]
        assert len(strong) > len(values) / 2 and 0.6 < float(strong.median()) < 1.3 > float(strong.max()), key
        spread = torch.linalg.svdvals(by_adamw[key].double())
        assert float(spread.max() / spread.median()) > 2, key  # AdamW's are not: the test can tell


def test_embeddings_norms_and_biases_move_as_under_adamw(tmp_path: Path) -> None:
    _, by_muon = moved(tmp_path, "muon")
    _, by_adamw = moved(tmp_path, "adamw")
    outer = [key for key, change in by_muon.items() if change.ndim == 1 or "layers" not in key]
    assert any("embed_tokens" in key for key in outer) and any("norm" in key for key in outer)
    for key in outer:
        assert torch.equal(by_muon[key], by_adamw[key]), key


def test_an_adapter_is_matrices_only(tmp_path: Path) -> None:
    _, change = moved(tmp_path, "muon", "lora")
    assert all(bool(value.any()) for key, value in change.items() if "lora_B" in key)


@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path: Path, adapter: str) -> None:
    config = settings(adapter=adapter, optimizer="muon")
    whole, resumed = load(tmp_path / "model", adapter), load(tmp_path / "model", adapter)
    expected = fit(whole, tmp_path / "whole", config)
    calls = iter(range(1, 100))
    with pytest.raises(Interrupted):
        fit(load(tmp_path / "model", adapter), tmp_path / "run", config, stop=lambda: next(calls) == 4)
    assert fit(resumed, tmp_path / "run", config) == expected
    assert resumed.digest() == whole.digest()
