"""AdamW and Muon, and their state by parameter name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from finetooth.config.task import TrainConfig
from finetooth.errors import TrainError
from finetooth.model.api import Model


class _Together(torch.optim.Optimizer):
    """Several optimizers, each of some of the weights, as one."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        # Nothing of the base class's own: it would step over all weights itself.
        self.parts = parts
        self.param_groups = [group for part in parts for group in part.param_groups]
        self.state = defaultdict(dict)
        for part in parts:
            part.state = self.state

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One step of each."""
        return [part.step(closure) for part in self.parts]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Of all weights."""
        for part in self.parts:
            part.zero_grad(set_to_none)


def build(model: Model, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimizer of `train.optimizer` over the trainable weights; decay on matrices only.

    adamw: AdamW (Loshchilov & Hutter 2019), one kernel for all weights, on the CPU and on CUDA, where its
    step count is on the device and nothing waits for it. Norms and biases are not decayed: pulling a scale
    towards 0 is not what weight decay is for.
    muon: the matrices inside the layers by Muon (Jordan et al. 2024), whose steps have all their singular
    values near 1, scaled to the size of AdamW's (Liu et al. 2025, arXiv 2502.16982), so that the learning
    rate means the same; embeddings, output head, norms and biases by AdamW.
    Raises TrainError when nothing is trainable, or a weight is too narrow to take small updates.
    """
    weights = model.trainable()
    if not weights:
        raise TrainError("The model has no trainable weights. Use train.adapter lora or none.")
    for name, weight in model.named_trainable().items():
        if weight.dtype not in (torch.float32, torch.float64):
            raise TrainError(
                f"The trainable weight {name} is {weight.dtype}, in which small updates are rounded away. "
                "Load the model in float32, or with master_weights=True to compute in bfloat16 over float32 "
                "weights; a frozen base under LoRA may be narrower."
            )
    inner = _inner(model) if config.optimizer == "muon" else []
    chosen = {id(weight) for weight in inner}
    weights = [weight for weight in weights if id(weight) not in chosen]
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
    return parts[0] if len(parts) == 1 else _Together(*parts)


def _inner(model: Model) -> list[Tensor]:
    """The trainable matrices that map between hidden states: all but embeddings and the output head."""
    hf = model.hf
    outer = {id(part.weight) for part in (hf.get_input_embeddings(), hf.get_output_embeddings()) if part}
    return [weight for weight in model.trainable() if weight.ndim == 2 and id(weight) not in outer]


def mean_gradient(optimizer: torch.optim.Optimizer, weight: Tensor) -> Tensor:
    """The running mean of a weight's gradient, once a step has been taken."""
    kept: Mapping[str, Tensor] = optimizer.state[weight]
    return kept["exp_avg" if "exp_avg" in kept else "momentum_buffer"]  # AdamW's and Muon's names


def state(model: Model, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's tensors, on the CPU: NAME/exp_avg, exp_avg_sq and step, or NAME/momentum_buffer."""
    return {
        f"{name}/{key}": tensor.detach().cpu().clone()
        for name, weight in model.named_trainable().items()
        for key, tensor in optimizer.state.get(weight, {}).items()
    }


def load_state(model: Model, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put the state back. TrainError when it belongs to other parameters."""
    weights = model.named_trainable()
    unknown = {key.rpartition("/")[0] for key in tensors} - set(weights)
    if unknown:
        raise TrainError(
            f"The checkpoint's optimizer state has unknown weights, such as {sorted(unknown)[0]}."
        )
    for key, tensor in tensors.items():
        name, _, kind = key.rpartition("/")
        optimizer.state[weights[name]][kind] = tensor.to(weights[name].device)
