"""Activations are counted as autograd keeps them, and the count leaves nothing behind."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest
import torch
from training_for_tests import load

from finetooth.model.activations import activation_bytes


@pytest.mark.parametrize("adapter", ["lora", "none"])
def test_activations_are_counted_and_let_go(tmp_path: Path, adapter: str) -> None:
    model = load(tmp_path, adapter)
    config = model.hf.config
    token, layer, inputs = activation_bytes(model)
    # At least input and output of two norms, queries, attention's output, gate and up, in every layer.
    least = 4 * (6 * config.hidden_size + 2 * config.intermediate_size)
    assert least <= layer <= 2 * least and token == layer * config.num_hidden_layers
    assert inputs == 4 * config.hidden_size * config.num_hidden_layers
    weight = weakref.ref(next(iter(model.hf.parameters())))
    assert all(one.grad is None for one in model.trainable()) and torch.is_grad_enabled()
    del model
    gc.collect()
    assert weight() is None, "the graph of the count is still in memory"
