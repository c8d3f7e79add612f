"""Gradient checkpointing: each layer keeps only its input and is recomputed in the backward pass.

Source: Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", with one segment per layer. The
operations and their order are unchanged, so the gradients are too. As in model/fused.py the forward of each
layer instance is replaced, so architectures need no support for it. The tree is among the keyword arguments
and therefore available in the recomputation.
"""

from __future__ import annotations

from functools import partial
from types import MethodType
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from finetooth.errors import TrainError
from finetooth.model.api import Model
from finetooth.model.load import decoder_layers


def enable_gradient_checkpointing(model: Model) -> int:
    """Recompute the model's layers in the backward pass when in training mode; returns their number.

    Raises TrainError when the layers of this architecture are not found.
    """
    count, layers = model.hf.config.num_hidden_layers, decoder_layers(model.hf)
    if layers is None:
        raise TrainError(
            f"train.checkpointing: no list of {count} layers was found in this {model.hf.config.model_type} "
            "model. Set it to false; a smaller train.micro_tokens saves memory too."
        )
    for layer in layers:
        forward = layer.forward  # bound to this instance, possibly a fused one
        layer.forward = MethodType(partial(_forward, forward=forward), layer)
    return len(layers)


def _forward(layer: Any, *args: Any, forward: Any, **kwargs: Any) -> Any:
    if not (layer.training and torch.is_grad_enabled()):
        return forward(*args, **kwargs)
    # Layers have no randomness, so no generator state is kept.
    return checkpoint(partial(forward, **kwargs), *args, use_reentrant=False, preserve_rng_state=False)
