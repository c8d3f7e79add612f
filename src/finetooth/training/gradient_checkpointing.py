"""Gradient checkpointing: a layer keeps its input alone, and is computed again in the backward pass.

Source: Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", with a segment for every layer. The
operations and their order stay what they were, so the gradients do too. Instances get a forward of their own,
as in model/fused.py: an architecture needs no support for it. The tree comes with the keyword arguments, so
it is there the second time.
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
    """Compute the model's layers again in the backward pass, in training mode; how many layers there are.

    Raises TrainError where the layers of this architecture are not found.
    """
    count, layers = model.hf.config.num_hidden_layers, decoder_layers(model.hf)
    if layers is None:
        raise TrainError(
            f"train.checkpointing: no list of {count} layers is found in a {model.hf.config.model_type}. "
            "Set it to false; a smaller train.micro_tokens saves memory too."
        )
    for layer in layers:
        own = layer.forward  # bound to this instance, a fused one included
        layer.forward = MethodType(partial(_forward, own=own), layer)
    return len(layers)


def _forward(layer: Any, *args: Any, own: Any, **kwargs: Any) -> Any:
    if not (layer.training and torch.is_grad_enabled()):
        return own(*args, **kwargs)
    # Nothing in a layer is random, so no generator's state is kept.
    return checkpoint(partial(own, **kwargs), *args, use_reentrant=False, preserve_rng_state=False)
