"""Fused norms, gated MLPs and LoRA layers for the CPU, in float32 and float64.

No class is patched: an instance gets a `forward` of its own, and only after that gave the same output as its
class on random input. The capability proof and the laws then compare the whole model with the stock one.

Axes: N tokens, K tokens that are read, D inputs, O outputs, R rank, F width of the MLP.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

Forward = Callable[[Any, Tensor], Tensor]
TOLERANCE = 1e-5  # of the output on random input, relative to its largest value
WIDE = (torch.float32, torch.float64)
PRE_NORM = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}


def fuse(hf: Any) -> None:
    """Bind a fused forward to every norm and gated MLP of a transformers model that it reproduces."""
    for module in hf.modules():
        weight = next(module.parameters(), None)
        if weight is None or weight.dtype not in WIDE or weight.device.type != "cpu":
            continue
        for forward in _candidates(module):
            generator = torch.Generator().manual_seed(0)
            with torch.no_grad():
                x_ND = torch.randn(3, weight.shape[-1], generator=generator, dtype=weight.dtype)
                want, got = module(x_ND), forward(module, x_ND)
            if bool((got - want).abs().max() <= TOLERANCE * want.abs().max()):
                _bind(module, forward)
                break


def fuse_lora(hf: Any) -> None:
    """Bind the fused LoRA forward to every adapted linear layer."""
    for module in hf.modules():
        if _is_lora(module):
            _bind(module, _lora_forward)


def _bind(module: Any, forward: Callable[..., Tensor]) -> None:
    module.forward = MethodType(forward, module)


def _candidates(module: Any) -> list[Forward]:
    """Fused forwards that may equal this module's."""
    names = [name for name, _ in module.named_parameters()]
    if names == ["weight"] and module.weight.ndim == 1 and not isinstance(module, nn.LayerNorm):
        eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
        return [partial(_norm_forward, eps=eps, offset=offset) for offset in (0.0, 1.0)] if eps else []
    children = {name for name, _ in module.named_children()}
    return [_gated_forward] if children == {"gate_proj", "up_proj", "down_proj", "act_fn"} else []


# RMSNorm ---------------------------------------------------------------------------------------------------


def _norm_forward(module: Any, x: Tensor, *, eps: float, offset: float) -> Tensor:
    if x.dtype != module.weight.dtype:  # bfloat16 products with float32 master weights
        stock: Tensor = type(module).forward(module, x)
        return stock
    normed: Tensor = _RmsNorm.apply(x, module.weight, eps, offset)  # type: ignore[no-untyped-call]
    return normed


class _RmsNorm(torch.autograd.Function):
    """x / rms(x) * (weight + offset): Zhang & Sennrich 2019, equation 4; Gemma's offset is 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_D: Tensor, eps: float, offset: float) -> Tensor:
        scale = (torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]) + eps).rsqrt_()
        ctx.save_for_backward(x, weight_D, scale)
        ctx.offset = offset
        normed: Tensor = (x * scale).mul_(weight_D + offset if offset else weight_D)
        return normed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        x, weight_D, scale = ctx.saved_tensors
        grad_x = grad_weight = None
        if ctx.needs_input_grad[1]:
            grad_weight = (grads[0] * x).mul_(scale).flatten(0, -2).sum(0)
        if ctx.needs_input_grad[0]:
            grad_x = grads[0] * (weight_D + ctx.offset if ctx.offset else weight_D)
            along = (grad_x * x).sum(-1, keepdim=True).mul_(scale.pow(3)).div_(-x.shape[-1])
            grad_x = grad_x.mul_(scale).addcmul_(x, along)
        return grad_x, grad_weight, None, None


# Gated MLP -------------------------------------------------------------------------------------------------


def _gated_forward(module: Any, x: Tensor) -> Tensor:
    gate, up, down = module.gate_proj(x), module.up_proj(x), module.down_proj
    adapted = _plain_lora(down, gate) if _is_lora(down) else None
    if adapted is not None:
        out: Tensor = _GatedLora.apply(gate, up, *adapted)  # type: ignore[no-untyped-call]
    elif type(down) is nn.Linear and down.bias is None and down.weight.dtype == gate.dtype:
        out = _GatedLinear.apply(gate, up, down.weight)
    else:
        out = down(functional.silu(gate) * up)
    return out


class _GatedLinear(torch.autograd.Function):
    """(silu(gate) * up) @ weight.T (Shazeer 2020, equation 6). The backward pass recomputes the product."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, weight_OF: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up, weight_OF)
        return functional.silu(gate).mul_(up) @ weight_OF.T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        gate, up, weight_OF = ctx.saved_tensors
        silu, grad_weight = functional.silu(gate), None
        if ctx.needs_input_grad[2]:
            grad_weight = grads[0].flatten(0, -2).T @ (silu * up).flatten(0, -2)
        grad_gated = grads[0] @ weight_OF
        grad_up = silu.mul_(grad_gated)
        return torch.ops.aten.silu_backward(grad_gated.mul_(up), gate), grad_up, grad_weight


# LoRA ------------------------------------------------------------------------------------------------------


def _is_lora(module: Any) -> bool:
    return isinstance(module, LoraLinear) and isinstance(module.get_base_layer(), (nn.Linear, Conv1D))


def _lora_forward(module: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """PEFT's adapted linear layer as one function, or PEFT's own forward where that does not apply."""
    adapted = None if args or kwargs else _plain_lora(module, x)
    if adapted is None:
        stock: Tensor = type(module).forward(module, x, *args, **kwargs)
        return stock
    out: Tensor = _Lora.apply(x, *adapted)  # type: ignore[no-untyped-call]
    return out


def _plain_lora(module: Any, x: Tensor) -> tuple[Any, ...] | None:
    """A [R, D], B [O, R], weight [O, D], bias [O] and scale; None unless there is exactly one active, plain
    adapter on a frozen layer in float32 or float64.
    """
    active = module.active_adapters
    name = active[0] if len(active) == 1 else None
    base = module.get_base_layer()
    plain = (
        name in module.lora_A
        and not (module.disable_adapters or module.merged)
        and not (base.weight.requires_grad or (base.bias is not None and base.bias.requires_grad))
        and not (module.lora_variant or module.lora_bias.get(name))
        and isinstance(module.lora_dropout[name], nn.Identity)
        and x.dtype == base.weight.dtype == module.lora_A[name].weight.dtype
        and x.dtype in WIDE
        and not torch.is_autocast_enabled(x.device.type)
    )
    if not plain:
        return None
    weight_OD = base.weight.T if isinstance(base, Conv1D) else base.weight
    return module.lora_A[name].weight, module.lora_B[name].weight, weight_OD, base.bias, module.scaling[name]


def _adapted(
    x_ND: Tensor, low_NR: Tensor, lora_OR: Tensor, weight_OD: Tensor, bias_O: Tensor | None, scale: float
) -> Tensor:
    """x @ weight.T + scale * low @ B.T + bias, where low = x @ A.T."""
    out_NO = (x_ND @ weight_OD.T).addmm_(low_NR, lora_OR.T, alpha=scale)
    return out_NO if bias_O is None else out_NO.add_(bias_O)


class _Lora(torch.autograd.Function):
    """x @ (weight + scale * B A).T + bias (Hu et al. 2021, equation 3), with gradients of x, A and B.

    The low-rank products of x and of the gradient are computed once each, since narrow products are slow.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        lora_RD: Tensor,
        lora_OR: Tensor,
        weight_OD: Tensor,
        bias_O: Tensor | None,
        scale: float,
    ) -> Tensor:
        x_ND = x.flatten(0, -2)
        low_NR = x_ND @ lora_RD.T
        ctx.save_for_backward(x, low_NR, lora_RD, lora_OR, weight_OD)
        ctx.scale = scale
        out_NO = _adapted(x_ND, low_NR, lora_OR, weight_OD, bias_O, scale)
        return out_NO.view(*x.shape[:-1], len(weight_OD))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        x, low_NR, lora_RD, lora_OR, weight_OD = ctx.saved_tensors
        grad_NO, grad_x = grads[0].flatten(0, -2), None
        grad_NR = (grad_NO @ lora_OR).mul_(ctx.scale)
        if ctx.needs_input_grad[0]:
            grad_x = (grad_NO @ weight_OD).addmm_(grad_NR, lora_RD).view_as(x)
        grad_OR = (grad_NO.T @ low_NR).mul_(ctx.scale)
        return grad_x, grad_NR.T @ x.flatten(0, -2), grad_OR, None, None, None


class _GatedLora(torch.autograd.Function):
    """The adapted down projection of silu(gate) * up. The backward pass recomputes that product, which saves
    a sixth of a layer's activation memory.
    """

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, *adapted: Any) -> Tensor:
        lora_RF, lora_OR, weight_OF, bias_O, scale = adapted
        gated_NF = functional.silu(gate).mul_(up).flatten(0, -2)
        low_NR = gated_NF @ lora_RF.T
        ctx.save_for_backward(gate, up, low_NR, lora_RF, lora_OR, weight_OF)
        ctx.scale = scale
        out_NO = _adapted(gated_NF, low_NR, lora_OR, weight_OF, bias_O, scale)
        return out_NO.view(*gate.shape[:-1], len(weight_OF))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        gate, up, low_NR, lora_RF, lora_OR, weight_OF = ctx.saved_tensors
        grad_NO, silu = grads[0].flatten(0, -2), functional.silu(gate)
        grad_NR = (grad_NO @ lora_OR).mul_(ctx.scale)
        grad_RF = grad_NR.T @ (silu * up).flatten(0, -2)
        grad_OR = (grad_NO.T @ low_NR).mul_(ctx.scale)
        grad_gated = (grad_NO @ weight_OF).addmm_(grad_NR, lora_RF).view_as(gate)
        grad_up = silu.mul_(grad_gated)
        grad_gate = torch.ops.aten.silu_backward(grad_gated.mul_(up), gate)
        return grad_gate, grad_up, grad_RF, grad_OR, None, None, None


# The last layer --------------------------------------------------------------------------------------------


def trim_last(hf: Any) -> bool:
    """Let the last layer compute its MLP only at tokens that are read (read_K of the attention plan); returns
    whether its form allows that.

    For decoder layers of the form norm, attention, residual, norm, MLP, residual. The capability proof
    catches layers that combine these modules in another way.
    """
    layers = getattr(hf.base_model, "layers", None)
    if layers is None or {name for name, _ in layers[-1].named_children()} != PRE_NORM:
        return False
    _bind(layers[-1], _trimmed_forward)
    return True


def _trimmed_forward(layer: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    tree = kwargs.get("tree")
    if args or tree is None or tree.read_K is None:
        return type(layer).forward(layer, hidden_states, *args, **kwargs)  # type: ignore[no-any-return]
    mixed, _ = layer.self_attn(hidden_states=layer.input_layernorm(hidden_states), **kwargs)
    hidden_K = hidden_states.index_select(1, tree.read_K) + mixed.index_select(1, tree.read_K)
    out: Tensor = hidden_K + layer.mlp(layer.post_attention_layernorm(hidden_K))
    return out
