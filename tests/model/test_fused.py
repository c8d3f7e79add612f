"""Fused modules: bound only where right, and equal to the modules that they stand for."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from models_for_tests import tiny
from torch import nn

from finetooth.model import fused
from finetooth.model.api import Model


class Norm(nn.Module):
    """RMSNorm as Llama (offset 0) and Gemma (offset 1) have it, or with a mistake planted by `power`."""

    def __init__(self, offset: float = 0.0, power: float = -0.5):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16))
        self.eps, self.offset, self.power = 1e-5, offset, power

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.pow(2).mean(-1, keepdim=True)
        return x * (mean + self.eps).pow(self.power) * (self.weight + self.offset)


class Gated(nn.Module):
    """A gated MLP with the given activation."""

    def __init__(self, activation: nn.Module):
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = nn.Linear(16, 24), nn.Linear(16, 24), nn.Linear(24, 16)
        self.act_fn = activation

    def forward(self, x: torch.Tensor) -> Any:
        return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))


def bound(module: nn.Module) -> bool:
    return "forward" in module.__dict__


@pytest.mark.parametrize(
    ("module", "right"),
    [
        (Norm(), True),
        (Norm(offset=1.0), True),
        (Norm(power=-0.4), False),
        (nn.LayerNorm(16), False),
        (nn.LayerNorm(16, bias=False), False),
        (Gated(nn.SiLU()), True),
        (Gated(nn.GELU()), False),
    ],
    ids=["rms", "gemma", "another-norm", "layer-norm", "layer-norm-without-bias", "swiglu", "geglu"],
)
def test_bound_only_where_right(module: nn.Module, right: bool) -> None:
    module = copy.deepcopy(module).double()
    stock = copy.deepcopy(module)
    holder: Any = nn.ModuleList([module])
    holder.base_model = holder
    fused.fuse(holder)
    assert bound(module) == right
    x = torch.randn(2, 5, 16, dtype=torch.float64, requires_grad=True)
    for ours, theirs in zip(
        torch.autograd.grad(module(x).pow(3).sum(), [x, *module.parameters()]),
        torch.autograd.grad(stock(x).pow(3).sum(), [x, *stock.parameters()]),
        strict=True,
    ):
        assert torch.allclose(ours, theirs, atol=1e-10)


def test_what_fits_is_kept_where_one_part_does_not() -> None:
    """Granite scales its residuals, so the trimmed last layer is not right; its norms and MLPs are."""
    hf = tiny("granite")
    model = Model(hf, None, "rows", frozenset())
    model.choose_backend("segment")
    assert not model.trimmed
    assert not bound(hf.model.layers[-1])
    assert bound(hf.model.norm) and bound(hf.model.layers[-1].mlp)
    assert "computes all tokens" in model.notes[-1]
    model = Model(tiny("llama"), None, "rows", frozenset())
    model.choose_backend("segment")
    assert model.trimmed and "computes all tokens" not in model.notes[-1]


def test_a_copy_of_a_fused_model_is_its_own() -> None:
    hf = tiny("llama")
    fused.fuse(hf)
    other = copy.deepcopy(hf)
    norm = next(module for module in other.modules() if bound(module))
    assert norm.forward.__self__ is norm


@pytest.mark.parametrize("tokens", [1, 3, 400])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_lora_is_pefts(family: str, tokens: int) -> None:
    """Few tokens take the factors, many the sum: outputs and gradients of PEFT's own forward either way."""
    hf = tiny(family).double()
    model = Model(hf, None, "segment", frozenset())
    model.add_lora(4, seed=0)
    layer = next(module for module in hf.modules() if hasattr(module, "lora_A") and bound(module)).double()
    weights = [layer.lora_A["default"].weight, layer.lora_B["default"].weight]
    with torch.no_grad():
        weights[1].normal_()
    x = torch.randn(1, tokens, layer.in_features, dtype=torch.float64, requires_grad=True)
    got, want = layer(x), type(layer).forward(layer, x)
    assert torch.allclose(got, want, atol=1e-10)
    for ours, theirs in zip(
        torch.autograd.grad(got.pow(2).sum(), [x, *weights]),
        torch.autograd.grad(want.pow(2).sum(), [x, *weights]),
        strict=True,
    ):
        assert torch.allclose(ours, theirs, atol=1e-8)


def test_lora_steps_aside() -> None:
    """What the one function does not do is left to PEFT's own forward."""
    hf = tiny("llama")
    model = Model(hf, None, "segment", frozenset())
    model.add_lora(4, seed=0)
    assert model.peft is not None
    layer = hf.model.layers[0].mlp.up_proj
    with torch.no_grad():
        layer.lora_B["default"].weight.normal_()
    x = torch.randn(3, layer.in_features)
    with model.peft.disable_adapter():
        assert torch.equal(layer(x), layer.get_base_layer()(x))
    adapted = layer(x)
    model.peft.merge_adapter()
    assert torch.allclose(layer(x), adapted, atol=1e-5)
