"""How many bytes of activations a forward pass keeps for its backward pass, counted on a small tree.

Counting needs no formula for each architecture: autograd hands every tensor that it keeps to a hook. Fused
modules, extra norms and recomputed products are all counted as they are.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from finetooth.model.api import Model
from finetooth.tree import PrefixTree, Row

TOKENS = 16, 48  # of the trees on which it is counted


def activation_bytes(model: Model) -> tuple[float, float, float]:
    """Bytes of activations for each token of a micro-tree: kept for the backward pass, of these those of one
    layer, and what is kept with gradient checkpointing, which is the inputs of the layers.
    """
    few, more = (_kept(model, count) for count in TOKENS)
    kept = (more - few) / (TOKENS[1] - TOKENS[0])  # without what does not depend on the number of tokens
    layers = model.hf.config.num_hidden_layers
    hidden = model.hf.get_input_embeddings().weight.shape[1]
    return kept, kept / layers, float(layers * hidden * model.dtype.itemsize)


def _kept(model: Model, count: int) -> int:
    """Bytes that the forward pass of a row of `count` tokens keeps, weights not counted."""
    tree = PrefixTree.build([Row(np.zeros(count, np.int64), np.zeros(count))])
    weights = {weight.untyped_storage().data_ptr() for weight in model.hf.parameters()}
    kept: dict[int, Tensor] = {}  # by storage; alive until the end, so that no address is used twice

    def keep(tensor: Tensor) -> None:
        # Autograd gets nothing to keep: a tensor here would hold the graph that holds it.
        kept[tensor.untyped_storage().data_ptr()] = tensor.detach()

    with model.eval_mode(), torch.autograd.graph.saved_tensors_hooks(keep, lambda nothing: nothing):
        model.hidden(tree, np.arange(count))
    return sum(t.untyped_storage().nbytes() for address, t in kept.items() if address not in weights)
