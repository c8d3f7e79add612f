"""The small copy that the proof computes with: every kind of layer, little memory, the same heads."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from models_for_tests import CONFIGS, tiny
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    MixtralConfig,
    SmolLM3Config,
)

from finetooth.errors import ModelError
from finetooth.model.tiny_copy import layer_kinds, small_config, small_copy


def without_memory(config: Any) -> Any:
    config.vocab_size = 64
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


WIDE = {
    "llama": LlamaConfig(num_hidden_layers=4),
    "mixtral": MixtralConfig(num_hidden_layers=2),
    "gemma3": Gemma3TextConfig(
        num_hidden_layers=12, hidden_size=3840, num_attention_heads=16, num_key_value_heads=8, head_dim=256
    ),
}


@pytest.mark.parametrize("family", WIDE)
def test_a_copy_of_a_7b_shape_is_small(family: str) -> None:
    model = without_memory(WIDE[family])
    small = small_copy(model)
    assert model.num_parameters() > 5 * small.num_parameters()
    assert small.num_parameters() < 100e6
    assert small.config.head_dim == model.config.head_dim
    ratio = model.config.num_attention_heads // model.config.num_key_value_heads
    assert small.config.num_attention_heads // small.config.num_key_value_heads == ratio
    assert small.config.num_key_value_heads > 1, "one group would hide a wrong order of the heads"
    assert set(layer_kinds(small)) == set(layer_kinds(model))


@pytest.mark.parametrize("family", CONFIGS)
def test_every_family_has_a_copy_with_all_its_layers(family: str) -> None:
    model = tiny(family)
    assert {n: w.shape[1:] for n, w in small_copy(model).named_parameters()} == {
        n: w.shape[1:] for n, w in model.named_parameters()
    }


def test_rare_kinds_of_layers_are_in_the_copy() -> None:
    """SmolLM3 leaves rotary positions out in every fourth layer, Gemma 3 attends fully in every sixth."""
    smol = SmolLM3Config(hidden_size=32, intermediate_size=48, num_hidden_layers=12, num_attention_heads=4)
    smol.num_key_value_heads, smol.pad_token_id = 2, None
    assert smol.no_rope_layers[:4] == [1, 1, 1, 0]
    assert small_copy(without_memory(smol)).config.no_rope_layers == [1, 1, 1, 0]
    gemma = small_copy(without_memory(WIDE["gemma3"])).config
    assert gemma.layer_types == ["sliding_attention"] * 5 + ["full_attention"]
    assert gemma.sliding_window < 12, "shorter than the rows of the proof"


def test_a_kind_that_the_copy_cannot_show_is_no_proof() -> None:
    model = tiny("llama")
    model.model.layers[1].self_attn.q_norm = torch.nn.LayerNorm(8)
    with pytest.raises(ModelError, match="1 of 2 kinds of layers"):
        small_copy(model)


def test_only_the_config_of_the_copy_changes() -> None:
    config = SmolLM3Config(num_hidden_layers=8, pad_token_id=None)
    before = config.to_dict()
    small_config(config)
    assert config.to_dict() == before
