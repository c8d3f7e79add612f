"""AdamW, and its state by parameter name."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from finetooth.config import TrainConfig
from finetooth.errors import TrainError
from finetooth.model.api import Model


def build(model: Model, config: TrainConfig) -> torch.optim.AdamW:
    """Fused AdamW (Loshchilov & Hutter 2019) over the trainable weights; decay on matrices only.

    One kernel for all weights, on the CPU and on CUDA, where its step count is on the device and nothing
    waits for it. Norms and biases are not decayed: pulling a scale towards 0 is not what weight decay is for.
    Raises TrainError when nothing is trainable, or a weight is too narrow to take small updates.
    """
    weights = model.trainable()
    if not weights:
        raise TrainError("The model has no trainable weights. Use train.adapter lora or none.")
    for name, weight in model.named_trainable().items():
        if weight.dtype not in (torch.float32, torch.float64):
            raise TrainError(
                f"The trainable weight {name} is {weight.dtype}, in which small updates are rounded away. "
                "Load the model in float32, or with masters=True to compute in bfloat16 over float32 "
                "weights; a frozen base under LoRA may be narrower."
            )
    groups = [
        {"params": [weight for weight in weights if weight.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [weight for weight in weights if weight.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=0.0, fused=True)


def state(model: Model, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's tensors, on the CPU, as NAME/exp_avg, NAME/exp_avg_sq and NAME/step."""
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
