"""The optimizers AdamW and Muon, and their state by parameter name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from finetooth.config.task import TrainConfig
from finetooth.errors import TrainError
from finetooth.model.api import Model


class _CombinedOptimizer(torch.optim.Optimizer):
    """Several optimizers over disjoint weights, as one."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        # No super().__init__: the base class would register all weights as its own.
        self.parts = parts
        self.param_groups = [group for part in parts for group in part.param_groups]
        self.state = defaultdict(dict)
        for part in parts:
            part.state = self.state

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One step of each optimizer."""
        return [part.step(closure) for part in self.parts]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Reset the gradients of all weights."""
        for part in self.parts:
            part.zero_grad(set_to_none)


def build(model: Model, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimizer of `train.optimizer` over the trainable weights; weight decay applies to matrices only.

    adamw: AdamW (Loshchilov & Hutter 2019), fused into one kernel on the CPU and on CUDA, where the step
    count stays on the device and causes no synchronisation. Norms and biases are not decayed, since weight
    decay is not meant to pull scales towards 0. muon: Muon (Jordan et al. 2024) for the matrices inside the
    layers; its updates have singular values near 1 and are scaled to the size of AdamW's (Liu et al. 2025,
    arXiv 2502.16982), so the same learning rate applies. Embeddings, output head, norms and biases use AdamW.
    Raises TrainError when nothing is trainable, or a weight's dtype is too narrow for small updates.
    """
    weights = model.trainable()
    if not weights:
        raise TrainError("The model has no trainable weights. Use train.adapter lora or none.")
    for name, weight in model.named_trainable().items():
        if weight.dtype not in (torch.float32, torch.float64):
            raise TrainError(
                f"The trainable weight {name} is {weight.dtype}, in which small updates are rounded away. "
                "Load the model in float32, or with master_weights=True to compute in bfloat16 over float32 "
                "weights; under LoRA the frozen base may be narrower."
            )
    inner: list[Tensor] = []
    if config.optimizer == "muon":  # matrices between hidden states: no embeddings, no output head
        ends = (model.hf.get_input_embeddings(), model.hf.get_output_embeddings())
        outer = {id(part.weight) for part in ends if part}
        inner = [weight for weight in weights if weight.ndim == 2 and id(weight) not in outer]
    by_muon = {id(weight) for weight in inner}
    weights = [weight for weight in weights if id(weight) not in by_muon]
    groups = [
        {"params": [weight for weight in weights if weight.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [weight for weight in weights if weight.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    parts: list[torch.optim.Optimizer] = []
    if inner:
        decay = config.weight_decay
        parts.append(torch.optim.Muon(inner, lr=0.0, weight_decay=decay, adjust_lr_fn="match_rms_adamw"))
    if groups:
        parts.append(torch.optim.AdamW(groups, lr=0.0, fused=True))
    return parts[0] if len(parts) == 1 else _CombinedOptimizer(*parts)


def mean_gradient(optimizer: torch.optim.Optimizer, weight: Tensor) -> Tensor:
    """The running mean of a weight's gradient; available after the first step."""
    moments: Mapping[str, Tensor] = optimizer.state[weight]
    return moments["exp_avg" if "exp_avg" in moments else "momentum_buffer"]  # names in AdamW and Muon


def state(model: Model, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's own tensors: NAME/exp_avg, exp_avg_sq and step, or NAME/momentum_buffer. They are not
    copied, which would take as much memory as two models: write them before the next step.
    """
    return {
        f"{name}/{key}": tensor
        for name, weight in model.named_trainable().items()
        for key, tensor in optimizer.state.get(weight, {}).items()
    }


def load_state(model: Model, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore the optimizer state. Raises TrainError when it belongs to other parameters."""
    weights = model.named_trainable()
    unknown = {key.rpartition("/")[0] for key in tensors} - set(weights)
    if unknown:
        raise TrainError(
            f"The optimizer state of the checkpoint has unknown weights, such as {sorted(unknown)[0]}."
        )
    for key, tensor in tensors.items():
        name, _, kind = key.rpartition("/")
        optimizer.state[weights[name]][kind] = tensor.to(weights[name].device)
