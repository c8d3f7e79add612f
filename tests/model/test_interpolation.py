"""Interpolation between a base and a tuned model: both ends are exact, and the middle is on the line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from gate import gate
from models_for_tests import tiny_model_dir

from finetooth.errors import ModelError
from finetooth.model.api import Model
from finetooth.model.interpolation import Interpolation
from finetooth.tree import PrefixTree, Row

FAMILIES = gate(["llama", "gpt2", "gpt-oss"], ["llama"])
TREE = PrefixTree.build([Row([1, 5, 9, 7], [0, 1, 1, 1]), Row([1, 5, 8], [0, 0, 1])])


def outputs(model: Model) -> torch.Tensor:
    with torch.no_grad():
        return model.logprobs(TREE)


@pytest.mark.parametrize("adapter", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_ends_are_the_base_and_the_tuned_model(tmp_path: Path, family: str, adapter: bool) -> None:
    torch.manual_seed(1)
    directory = tiny_model_dir(tmp_path / "model", family)
    base, model = Model.load(directory), Model.load(directory)
    if adapter:
        model.add_lora(2, seed=1)
    with torch.no_grad():
        for name, weight in model.named_trainable().items():
            weight.add_(torch.randn_like(weight) * (0.02 if adapter or "norm" not in name else 0))
    model.eval()
    tuned_M, base_M, digest = outputs(model), outputs(base), model.digest()
    line = Interpolation(model, None if adapter else dict(base.hf.named_parameters()))
    assert torch.allclose(outputs(line.move(0.0)), base_M, atol=1e-5)
    before = {name: weight.detach().clone() for name, weight in model.hf.named_parameters()}
    middle_M = outputs(line.move(0.5))
    assert not torch.allclose(middle_M, base_M, atol=1e-4) and not torch.allclose(
        middle_M, tuned_M, atol=1e-4
    )
    half = {name: weight.detach().clone() for name, weight in model.hf.named_parameters()}
    assert line.move(1.0).digest() == digest and torch.equal(outputs(model), tuned_M)
    for name, weight in model.hf.named_parameters():
        assert torch.allclose(half[name], (before[name] + weight) / 2, atol=1e-6), name


def test_another_model_is_refused(tmp_path: Path) -> None:
    model = Model.load(tiny_model_dir(tmp_path / "model"))
    with pytest.raises(ModelError, match="differ in their weights"):
        Interpolation(model, {"other": torch.zeros(1)})
