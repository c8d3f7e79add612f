"""A reward model: a linear layer gives a whole answer one score, read at its last token.

It is transformers' sequence classifier with one label and is saved as one: as a whole model after full
fine-tuning, else as a PEFT adapter with the layer among its saved modules.

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
from finetooth.model.device import at_least_float32

SCORE = "score"  # the layer that transformers' classifiers have instead of an output head


def is_reward(hf: Any) -> bool:
    """Whether this model has the score layer of a reward model."""
    return hasattr(hf, SCORE)


def is_classifier(config: Any) -> bool:
    """Whether this is the configuration of a saved sequence classifier, which has no output head."""
    return any(str(name).endswith("ForSequenceClassification") for name in config.architectures or [])


def require_output_head(hf: Any) -> None:
    """Raise ModelError for a model that was loaded without an output head: a saved reward model."""
    if hasattr(hf, SCORE) and is_classifier(hf.config):  # the proof's random copy of one has a head
        raise ModelError(
            "This is a reward model: it scores answers and cannot generate text. It can be a reward: "
            "train.reward: {name: reward_model, model: ...}."
        )


def attach(hf: Any) -> None:
    """Add a score layer of zeros to a model, so that every answer has the same score before training.

    The output head is not used and is frozen, unless it is tied to the embeddings.
    """
    head = hf.get_output_embeddings()
    dtype = torch.promote_types(head.weight.dtype, torch.float32)
    layer = torch.nn.Linear(head.weight.shape[1], 1, bias=False, device=head.weight.device, dtype=dtype)
    torch.nn.init.zeros_(layer.weight)
    setattr(hf, SCORE, layer)
    if head.weight is not hf.get_input_embeddings().weight:
        head.requires_grad_(False)


def read(hf: Any, hidden_KD: Tensor) -> Tensor:
    """The scores of last hidden states: [K], float32 or float64, differentiable."""
    score_K: Tensor = getattr(hf, SCORE)(at_least_float32(hidden_KD))[:, 0]
    return score_K


def save(hf: Any, stop_ids: frozenset[int], path: Path) -> None:
    """Write the whole model as a sequence classifier. ModelError when transformers has none of its kind.

    A padding token that also ends answers is left out of the configuration: classifiers read the score at the
    last token that is not padding, which must be the one that ends the answer.
    """
    config = copy.deepcopy(hf.config)
    config.num_labels = 1
    if config.pad_token_id in stop_ids:
        config.pad_token_id = None
    try:
        with torch.device("meta"):
            shell = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
    except ValueError:
        raise ModelError(
            f"transformers has no sequence classifier of the kind {config.model_type}."
        ) from None
    weights = {name: weight for name, weight in hf.state_dict().items() if name in shell.state_dict()}
    if set(weights) != set(shell.state_dict()):
        missing = sorted(set(shell.state_dict()) - set(weights))[0]
        raise ModelError(f"The sequence classifier of {config.model_type} has a further layer: {missing}.")
    shell.load_state_dict(weights, assign=True)
    shell.save_pretrained(path)


def load_layer(hf: Any, directory: Path) -> None:
    """Load the score layer's weights. ModelError when the directory holds a classifier of another shape."""
    found: dict[str, Tensor] = {}
    for file in sorted(directory.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            names = [name for name in tensors.keys() if name.startswith(f"{SCORE}.")]  # noqa: SIM118
            found |= {name: tensors.get_tensor(name) for name in names}
    layer = getattr(hf, SCORE)
    expected = list(layer.weight.shape)
    if {name: list(weight.shape) for name, weight in found.items()} != {f"{SCORE}.weight": expected}:
        shapes = ", ".join(f"{name} {list(weight.shape)}" for name, weight in found.items()) or "none"
        raise ModelError(
            f"{directory}: a classifier, but not a reward model: expected {SCORE}.weight {expected}, "
            f"found {shapes}."
        )
    with torch.no_grad():
        layer.weight.copy_(found[f"{SCORE}.weight"])
