"""A small random copy of a model's architecture: what the capability proof computes with.

The copy has the first layers of the architecture, as many as it takes to show every kind of layer that the
model has (sliding and full attention, layers without rotary positions, dense and expert layers), a small
vocabulary, a short window, and where the model is wide, fewer heads of the same size.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from finetooth.errors import ModelError
from finetooth.model.load import disable_dropout, quiet, seeded

LAYERS = 2
VOCABULARY = 96
WIDTH = 512  # a wider model is copied with fewer heads
WINDOW = 7  # shorter than the longest row of the proof, so that a window that is ignored shows
_LOCAL = ("sliding_window", "attention_chunk_size", "window_size")
_INNER = (
    "intermediate_size",
    "ffn_dim",
    "ffn_hidden_size",
    "n_inner",
    "moe_intermediate_size",
    "shared_expert_intermediate_size",
    "word_embed_proj_dim",
)
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
_NAMES_A_LAYER = frozenset({"layer_idx", "layer_id", "layer_number", "training"})


def layer_kinds(model: Any) -> list[Hashable]:
    """What sets the layers of a model apart, one value a layer: modules, parameters, and their switches.

    Numbers count only as zero or not, so that a copy of another width has the same kinds.
    """
    count = model.config.num_hidden_layers
    lists = (module for module in model.modules() if isinstance(module, torch.nn.ModuleList))
    layers = next((found for found in lists if len(found) == count), None)
    return [] if layers is None else [frozenset(_traits(layer)) for layer in layers]


def _traits(layer: Any) -> list[Hashable]:
    found: list[Hashable] = [(name, weight.ndim) for name, weight in layer.named_parameters()]
    for where, module in layer.named_modules():
        if where.rsplit(".", 1)[-1].isdigit():
            continue  # one of several like it (experts), whose number the copy may cut
        found.append((where, type(module).__name__))
        for name, value in vars(module).items():
            if name in _NAMES_A_LAYER or name.startswith("_"):
                continue
            if isinstance(value, str):
                found.append((where, name, value))
            elif value is None or isinstance(value, int | float):
                found.append((where, name, bool(value)))
    return found


def small_copy(model: Any) -> Any:
    """A random float32 model with every kind of layer of `model`. ModelError where that cannot be had."""
    if model.config.get_text_config() is not model.config:
        raise ModelError("a model of several parts (text_config) has no small copy")
    kinds = layer_kinds(model)
    first = [kinds.index(kind) + 1 for kind in set(kinds)]
    small = random_model(small_config(model.config, max(LAYERS, *first) if first else LAYERS))
    missing = set(kinds) - set(layer_kinds(small))
    if missing:
        raise ModelError(f"the small copy does not show {len(missing)} of {len(set(kinds))} kinds of layers")
    return small


def small_config(config: Any, layers: int = LAYERS) -> Any:
    """The same architecture cut to its first layers, a small vocabulary, a short window and a small width."""
    small = copy.deepcopy(config)
    total = config.num_hidden_layers
    layers = min(layers, total)
    small.num_hidden_layers = layers
    for name, value in vars(config).items():
        if isinstance(value, list | tuple) and len(value) == total:
            setattr(small, name, value[:layers])
    if getattr(small, "attention_types", None):  # GPT-Neo names its layers in groups
        small.attention_types = [[list(small.attention_layers), 1]]
    small.vocab_size = VOCABULARY
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        setattr(small, name, None)
    for name in _LOCAL:
        if isinstance(getattr(small, name, None), int):
            setattr(small, name, WINDOW)
    if small.hidden_size > WIDTH and small.hidden_size % small.num_attention_heads == 0:
        _narrow(small)
    return small


def _narrow(small: Any) -> None:
    """Keep two groups of heads of the size they have, and everything else in ratio."""
    heads = small.num_attention_heads
    names = [name for name in ("num_key_value_heads", "num_kv_heads") if getattr(small, name, None)]
    groups = getattr(small, names[0]) if names else heads
    kept = min(2, groups)
    fewer = max(2, heads // groups * kept) if groups > 1 else min(4, heads)
    for name in names:
        setattr(small, name, kept)
    for name in ("hidden_size", *_INNER):
        if isinstance(getattr(small, name, None), int):
            setattr(small, name, getattr(small, name) * fewer // heads)
    small.num_attention_heads = fewer
    for name in _EXPERTS:
        if isinstance(getattr(small, name, None), int):
            most = max(4, 2 * getattr(small, "num_experts_per_tok", 2))
            setattr(small, name, min(getattr(small, name), most))


def random_model(config: Any, seed: int = 0) -> Any:
    """A float32 model of this configuration with every parameter random, norms and biases included."""
    with seeded(seed), quiet():
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        with torch.no_grad():
            for weight in model.parameters():
                if weight.ndim < 2:
                    weight.add_(torch.randn_like(weight) * 0.1)
                else:
                    weight.normal_(0.0, weight.shape[-1] ** -0.5)
    disable_dropout(model)
    return model.eval()
