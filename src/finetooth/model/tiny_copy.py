"""A small random copy of a model's architecture, which the capability proof runs.

The copy keeps the first layers of the model, as many as are needed to include every kind of layer (sliding
and full attention, layers without rotary positions, dense and expert layers). It has a small vocabulary, a
short attention window and, if the model is wide, fewer heads of the same size.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from finetooth.errors import ModelError
from finetooth.model.load import decoder_layers, disable_dropout, quiet, seeded

LAYERS = 2
VOCABULARY = 96
WIDTH = 512  # a wider model is copied with fewer heads
WINDOW = 7  # shorter than the proof's longest row, so that an ignored window changes its result
_WINDOWS = ("sliding_window", "attention_chunk_size", "window_size")
_WIDTHS = (
    "intermediate_size",
    "ffn_dim",
    "ffn_hidden_size",
    "n_inner",
    "moe_intermediate_size",
    "shared_expert_intermediate_size",
    "word_embed_proj_dim",
)
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
_LAYER_NUMBERS = frozenset({"layer_idx", "layer_id", "layer_number", "training"})


def layer_kinds(model: Any) -> list[Hashable]:
    """The kind of each layer of a model: equal values mean equal modules, parameters and settings.

    Of numbers only zero or not counts, so that a narrower copy has the same kinds.
    """
    kinds: list[Hashable] = []
    for layer in decoder_layers(model) or ():
        traits: list[Hashable] = [(name, weight.ndim) for name, weight in layer.named_parameters()]
        for path, module in layer.named_modules():
            if path.rsplit(".", 1)[-1].isdigit():
                continue  # one of several experts, of which the copy may have fewer
            traits.append((path, type(module).__name__))
            for name, value in vars(module).items():
                if name in _LAYER_NUMBERS or name.startswith("_"):
                    continue
                if isinstance(value, str):
                    traits.append((path, name, value))
                elif value is None or isinstance(value, int | float):
                    traits.append((path, name, bool(value)))
        kinds.append(frozenset(traits))
    return kinds


def small_copy(model: Any) -> Any:
    """A random float32 model with every kind of layer of `model`. ModelError when that is impossible."""
    if model.config.get_text_config() is not model.config:
        raise ModelError("a model of several parts (text_config) has no small copy")
    kinds = layer_kinds(model)
    first = [kinds.index(kind) + 1 for kind in set(kinds)]
    small = random_model(small_config(model.config, max(LAYERS, *first) if first else LAYERS))
    missing = set(kinds) - set(layer_kinds(small))
    if missing:
        raise ModelError(f"the small copy lacks {len(missing)} of {len(set(kinds))} kinds of layers")
    return small


def small_config(config: Any, layers: int = LAYERS) -> Any:
    """The same architecture with its first layers, a small vocabulary, a short window and a small width."""
    small = copy.deepcopy(config)
    total = config.num_hidden_layers
    layers = min(layers, total)
    small.num_hidden_layers = layers
    for name, value in vars(config).items():
        if isinstance(value, list | tuple) and len(value) == total:
            setattr(small, name, value[:layers])
    if getattr(small, "attention_types", None):  # GPT-Neo lists its layers in groups
        small.attention_types = [[list(small.attention_layers), 1]]
    small.vocab_size = VOCABULARY
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        setattr(small, name, None)
    for name in _WINDOWS:
        if isinstance(getattr(small, name, None), int):
            setattr(small, name, WINDOW)
    if small.hidden_size > WIDTH and small.hidden_size % small.num_attention_heads == 0:
        _narrow(small)
    return small


def _narrow(small: Any) -> None:
    """Keep two groups of heads, each of its size, and scale the other widths in proportion."""
    heads = small.num_attention_heads
    names = [name for name in ("num_key_value_heads", "num_kv_heads") if getattr(small, name, None)]
    groups = getattr(small, names[0]) if names else heads
    kept = min(2, groups)
    fewer = max(2, heads // groups * kept) if groups > 1 else min(4, heads)
    for name in names:
        setattr(small, name, kept)
    for name in ("hidden_size", *_WIDTHS):
        if isinstance(getattr(small, name, None), int):
            setattr(small, name, getattr(small, name) * fewer // heads)
    small.num_attention_heads = fewer
    for name in _EXPERTS:
        if isinstance(getattr(small, name, None), int):
            limit = max(4, 2 * getattr(small, "num_experts_per_tok", 2))
            setattr(small, name, min(getattr(small, name), limit))


def random_model(config: Any, seed: int = 0) -> Any:
    """A float32 model of this configuration; every parameter is random, norms and biases included."""
    with seeded(seed), quiet():
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
        with torch.no_grad():
            for weight in model.parameters():
                if weight.ndim < 2:
                    weight.add_(torch.randn_like(weight) * 0.1)
                else:
                    weight.normal_(0.0, weight.shape[-1] ** -0.5)
    disable_dropout(model)
    return model.eval()
