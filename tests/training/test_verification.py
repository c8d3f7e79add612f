"""The saved weights are the trained ones, and they do something."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from training_for_tests import fit, load, rows, settings

from finetooth.errors import TrainError
from finetooth.model import inference
from finetooth.model.api import Model
from finetooth.training.verification import outputs, save_model, verify_saved
from finetooth.tree import Row


def verify(model: Model, saved: Path, base: Path) -> None:
    """As a run verifies what it saved; it has asked the untrained model before training."""
    adapter = saved.name == "adapter"
    untrained_M = outputs(load(base, "lora" if adapter else "none"), rows(6))
    again = (lambda saved: Model.load(base, adapter=saved)) if adapter else Model.load
    verify_saved(model, saved, again, rows(6), untrained_M)


@pytest.mark.parametrize(("adapter", "folder"), [("lora", "adapter"), ("none", "model")])
def test_what_was_trained_is_what_is_saved(tmp_path: Path, adapter: str, folder: str) -> None:
    model = load(tmp_path / "base", adapter)
    fit(model, tmp_path / "run", settings(adapter=adapter))
    path = save_model(model, tmp_path / "run", None)
    assert path == tmp_path / "run" / "train" / folder
    assert not list(path.parent.glob(".*.tmp"))
    assert len({file.stat().st_mode for file in path.iterdir()}) == 1
    assert save_model(model, tmp_path / "run", None) == path  # replaces what is there
    verify(model, path, tmp_path / "base")


def test_long_rows_are_not_computed_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(tmp_path / "base")
    length = inference.TOKENS // 3
    long = [Row([5 + k, *[7] * length], [*[0] * length, 1]) for k in range(4)]
    sizes: list[int] = []
    logprobs = model.logprobs
    monkeypatch.setattr(model, "max_tokens", length + 2)
    monkeypatch.setattr(
        model, "logprobs", lambda tree, *a: sizes.append(tree.token_N.size) or logprobs(tree, *a)
    )
    assert outputs(model, long).shape == (4,)
    assert sum(sizes) == 4 * (length + 1) and max(sizes) <= inference.TOKENS


def test_an_adapter_that_changes_nothing_is_noticed(tmp_path: Path) -> None:
    model = load(tmp_path / "base")
    path = save_model(model, tmp_path / "run", None)
    with pytest.raises(TrainError, match="adapter gives exactly the outputs of its base; training had no"):
        verify(model, path, tmp_path / "base")


def test_a_model_that_was_not_changed_is_noticed(tmp_path: Path) -> None:
    model = load(tmp_path / "base", "none")
    path = save_model(model, tmp_path / "run", None)
    with pytest.raises(TrainError, match="model gives exactly the outputs of its base"):
        verify(model, path, tmp_path / "base")


def test_weights_that_are_not_the_trained_ones_are_noticed(tmp_path: Path) -> None:
    model = load(tmp_path / "base")
    fit(model, tmp_path / "run")
    path = save_model(model, tmp_path / "run", None)
    saved = load_file(path / "adapter_model.safetensors")
    save_file({name: 0.9 * weight for name, weight in saved.items()}, path / "adapter_model.safetensors")
    with pytest.raises(TrainError, match="differs from the trained one by"):
        verify(model, path, tmp_path / "base")


def test_a_scale_that_is_lost_is_noticed(tmp_path: Path) -> None:
    model = load(tmp_path / "base")
    fit(model, tmp_path / "run")
    path = save_model(model, tmp_path / "run", None)
    config = json.loads((path / "adapter_config.json").read_text())
    (path / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 8}))
    with pytest.raises(TrainError, match="differs from the trained one by"):
        verify(model, path, tmp_path / "base")


def test_what_cannot_be_saved_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(tmp_path / "base")
    fit(model, tmp_path / "run")
    path = save_model(model, tmp_path / "run", None)
    before = (path / "adapter_model.safetensors").read_bytes()
    shutil.rmtree(tmp_path / "run" / "train" / "checkpoints")

    def full(self: Model, where: Path, template: str | None) -> None:
        where.mkdir()
        (where / "adapter_model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Model, "save", full)
    with torch.no_grad(), pytest.raises(TrainError, match=r"No space left.*continue with: finetooth train"):
        save_model(model, tmp_path / "run", None)
    assert (path / "adapter_model.safetensors").read_bytes() == before
    assert not list(path.parent.glob(".*.tmp"))
