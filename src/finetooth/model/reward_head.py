"""A reward model: one number for a whole answer, read by a linear layer at its last token.

It is transformers' sequence classification with one label, and saved as that: as a model of its own where all
weights are trained, else as a PEFT adapter with the layer among its saved modules.

Axes: K positions that are read, D hidden size.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from finetooth.errors import ModelError
from finetooth.model.head import SCORE as SCORE
from finetooth.model.head import at_least_float32


def is_reward(hf: Any) -> bool:
    """Whether this network has the layer of a reward model."""
    return hasattr(hf, SCORE)


def attach(hf: Any) -> None:
    """Put the layer on a network, all zero: every answer is worth the same before training.

    The output head takes no part and is not trained any more, unless it is the embeddings too.
    """
    head = hf.get_output_embeddings()
    kind = torch.promote_types(head.weight.dtype, torch.float32)
    layer = torch.nn.Linear(head.weight.shape[1], 1, bias=False, device=head.weight.device, dtype=kind)
    torch.nn.init.zeros_(layer.weight)
    setattr(hf, SCORE, layer)
    if head.weight is not hf.get_input_embeddings().weight:
        head.requires_grad_(False)


def read(hf: Any, hidden_KD: Tensor) -> Tensor:
    """What the layer says of last hidden states: [K], at least float32, differentiable."""
    score_K: Tensor = getattr(hf, SCORE)(at_least_float32(hidden_KD))[:, 0]
    return score_K


def save(hf: Any, stop_ids: frozenset[int], path: Path) -> None:
    """Write the whole network as a sequence classifier. ModelError where transformers has none of its kind.

    A padding token that also ends answers is left out of the configuration: the layer reads the last token
    that is no padding, and that is the one that ends the answer.
    """
    config = copy.deepcopy(hf.config)
    config.num_labels = 1
    if config.pad_token_id in stop_ids:
        config.pad_token_id = None
    try:
        with torch.device("meta"):
            shell = AutoModelForSequenceClassification.from_config(config)
    except ValueError:
        raise ModelError(
            f"transformers has no sequence classifier of the kind {config.model_type}."
        ) from None
    weights = {name: weight for name, weight in hf.state_dict().items() if name in shell.state_dict()}
    if set(weights) != set(shell.state_dict()):
        missing = sorted(set(shell.state_dict()) - set(weights))[0]
        raise ModelError(f"The sequence classifier of {config.model_type} has another layer: {missing}.")
    shell.load_state_dict(weights, assign=True)
    shell.save_pretrained(path)


def load_layer(hf: Any, directory: Path) -> None:
    """Give the layer of `attach` its saved weights. ModelError where the classifier has another layer."""
    found: dict[str, Tensor] = {}
    for file in sorted(directory.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            names = [name for name in tensors.keys() if name.startswith(f"{SCORE}.")]  # noqa: SIM118
            found |= {name: tensors.get_tensor(name) for name in names}
    layer = getattr(hf, SCORE)
    wanted = list(layer.weight.shape)
    if {name: list(weight.shape) for name, weight in found.items()} != {f"{SCORE}.weight": wanted}:
        said = ", ".join(f"{name} {list(weight.shape)}" for name, weight in found.items()) or "none"
        raise ModelError(
            f"{directory}: a classifier, but no reward model: expected {SCORE}.weight {wanted}, found {said}."
        )
    with torch.no_grad():
        layer.weight.copy_(found[f"{SCORE}.weight"])
