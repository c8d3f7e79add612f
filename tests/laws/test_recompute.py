"""Gradient checkpointing changes memory, never a number: the same gradients, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from models_for_tests import CONFIGS, TWO_FAMILIES, family_param, forest, tiny_model_dir
from training_for_tests import fit, load, rows, settings

from finetooth.errors import TrainError
from finetooth.model.api import Model
from finetooth.training.gradient_checkpointing import enable_gradient_checkpointing
from finetooth.tree import PrefixTree


def graded(model: Model, tree: PrefixTree) -> tuple[torch.Tensor, dict[str, torch.Tensor], int]:
    """Log-probabilities, gradients, and the bytes that the forward pass keeps for the backward pass."""
    kept: dict[int, int] = {}
    weights = {weight.data_ptr() for weight in model.hf.parameters()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in weights:
            kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    model.train()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logp_M = model.logprobs(tree)
    logp_M.sum().backward()
    grads = {n: w.grad.clone() for n, w in model.named_trainable().items() if w.grad is not None}
    return logp_M.detach(), grads, sum(kept.values())


@pytest.mark.parametrize(
    ("family", "adapter"),
    [
        family_param(family, adapter, chosen=TWO_FAMILIES)
        if (adapter == "lora") != (family == "llama")
        else pytest.param(family, adapter, marks=pytest.mark.full)
        for family in CONFIGS
        for adapter in ("lora", "none")
    ],
)
def test_the_same_gradients(family: str, adapter: str, tmp_path: Path) -> None:
    tree = PrefixTree.build(forest(1, scale=2))
    results = []
    for recompute in (False, True):
        model = load(tmp_path / "model", adapter, family)
        with torch.no_grad():
            for name, weight in model.named_trainable().items():
                if "lora_B" in name:
                    weight.normal_(0, 0.1, generator=torch.Generator().manual_seed(0))
        if recompute:
            assert enable_gradient_checkpointing(model) == 2
        results.append(graded(model, tree))
    (want_M, want, before), (got_M, got, after) = results
    assert torch.equal(got_M, want_M)
    assert got.keys() == want.keys() and want
    for name, grad in want.items():
        assert torch.equal(got[name], grad), name
    assert after < before or family in ("gpt-neo", "bloom", "falcon", "falcon-alibi", "phi3-longrope")


def test_a_deep_model_keeps_a_fraction(tmp_path: Path) -> None:
    """What 8 layers keep: 2 layers' worth of inputs or less, instead of all activations."""
    import copy

    from finetooth.model.tiny_copy import random_model

    config = copy.deepcopy(CONFIGS["llama"])
    config.vocab_size, config.num_hidden_layers = 448, 8
    tiny_model_dir(tmp_path / "model")
    random_model(config).save_pretrained(tmp_path / "model")
    tree = PrefixTree.build(forest(1, scale=4))
    kept = []
    for recompute in (False, True):
        model = load(tmp_path / "model")
        if recompute:
            assert enable_gradient_checkpointing(model) == 8
        kept.append(graded(model, tree)[2])
    assert kept[1] < 0.5 * kept[0], kept


def test_a_training_is_the_same(tmp_path: Path) -> None:
    plain, recomputed = load(tmp_path / "model"), load(tmp_path / "model")
    enable_gradient_checkpointing(recomputed)
    assert fit(plain, tmp_path / "a", settings()) == fit(recomputed, tmp_path / "b", settings())
    assert plain.digest() == recomputed.digest()


def test_layers_run_twice_in_training_and_once_elsewhere(tmp_path: Path) -> None:
    model = load(tmp_path / "model")
    calls: list[int] = []
    layer = model.hf.base_model.layers[0]
    real = layer.forward

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return real(*args, **kwargs)

    layer.forward = counted
    enable_gradient_checkpointing(model)
    tree = PrefixTree.build(rows(4))
    model.train().logprobs(tree).sum().backward()
    assert len(calls) == 2
    with torch.no_grad():
        model.logprobs(tree)
    model.eval().logprobs(tree).sum().backward()
    assert len(calls) == 4


def test_a_model_without_a_list_of_layers_is_refused(tmp_path: Path) -> None:
    model = load(tmp_path / "model")
    model.hf.config.num_hidden_layers = 7
    with pytest.raises(TrainError, match="no list of 7 layers"):
        enable_gradient_checkpointing(model)
