"""Tiny random models of real architectures, and forests to try them on."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers_for_tests import save_tokenizer
from transformers import (
    BloomConfig,
    FalconConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoConfig,
    GPTNeoXConfig,
    GptOssConfig,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Olmo2Config,
    OPTConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)

from finetooth.model import capability
from finetooth.model.api import Model
from finetooth.model.capability import random_rows
from finetooth.model.tiny_copy import random_model
from finetooth.tree import Row

VOCABULARY = 96
NO_IDS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "tie_word_embeddings": False,
    **NO_IDS,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0, 1.1, 1.2, 1.3],
    "long_factor": [1.0, 2.0, 4.0, 8.0],
}
GEMMA = {
    "head_dim": 8,
    "query_pre_attn_scalar": 8,
    "sliding_window": 8,
    "layer_types": ["sliding_attention", "full_attention"],
    "tie_word_embeddings": True,
}


def _config(kind: Any, **changes: Any) -> Any:
    return kind(**(SHAPE | changes))


CONFIGS: dict[str, Any] = {
    "llama": _config(LlamaConfig, num_key_value_heads=4),
    "llama3": _config(LlamaConfig, rope_parameters=LLAMA3),
    "mistral": _config(MistralConfig, sliding_window=8),
    "mixtral": _config(MixtralConfig, num_local_experts=4),
    "qwen2": _config(Qwen2Config, tie_word_embeddings=True),
    "qwen3": _config(Qwen3Config, head_dim=16),
    "gemma2": _config(Gemma2Config, **GEMMA, attn_logit_softcapping=2.0, final_logit_softcapping=3.0),
    "gemma3": _config(Gemma3TextConfig, **GEMMA),
    "phi3": _config(Phi3Config),
    "phi3-longrope": _config(Phi3Config, rope_parameters=LONGROPE, original_max_position_embeddings=128),
    "gpt-oss": _config(
        GptOssConfig, num_local_experts=4, num_experts_per_tok=2, head_dim=8, sliding_window=8
    ),
    "gpt2": GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=256, **NO_IDS),
    "gpt-neox": _config(GPTNeoXConfig),
    "opt": _config(OPTConfig, ffn_dim=48, word_embed_proj_dim=32, tie_word_embeddings=True, pad_token_id=1),
    "opt-projected": _config(
        OPTConfig,
        ffn_dim=48,
        word_embed_proj_dim=16,
        do_layer_norm_before=False,
        tie_word_embeddings=True,
        pad_token_id=1,
    ),
    "olmo2": _config(Olmo2Config),
    "granite": _config(
        GraniteConfig,
        logits_scaling=4.0,
        residual_multiplier=0.5,
        attention_multiplier=0.2,
        embedding_multiplier=3.0,
    ),
    "smollm3": _config(SmolLM3Config, no_rope_layers=[1, 0], no_rope_layer_interval=2),
    "falcon": _config(FalconConfig, ffn_hidden_size=48),
    "falcon-alibi": _config(FalconConfig, ffn_hidden_size=48, alibi=True),
    "bloom": BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4, **NO_IDS),
    "gpt-neo": GPTNeoConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_layers=2,
        attention_types=[[["global", "local"], 1]],
        num_heads=4,
        window_size=8,
        intermediate_size=48,
        max_position_embeddings=256,
        **NO_IDS,
    ),
}
ROWS_FAMILIES = ("phi3-longrope", "falcon", "falcon-alibi", "bloom", "gpt-neo")
TREE_FAMILIES = tuple(family for family in CONFIGS if family not in ROWS_FAMILIES)

# The gate tries the laws on a plain architecture, one with norms inside its attention, one with windows and
# soft caps, one with experts and sinks, and one with learned positions; `make test-all` on every one.
GATE_FAMILIES = ("llama", "qwen3", "gemma2", "gpt-oss", "opt")


# Of what costs seconds for each, the gate tries the plainest and the furthest from it.
TWO_FAMILIES = ("llama", "gpt-oss")


def family_param(family: str, *more: Any, chosen: Iterable[str] = GATE_FAMILIES) -> Any:
    """A parameter of a test that begins with a family; marked `full` unless the gate tries the family."""
    return pytest.param(family, *more, marks=() if family in chosen else pytest.mark.full)


def families(names: Iterable[str] = CONFIGS, chosen: Iterable[str] = GATE_FAMILIES) -> list[Any]:
    """These families as the parameters of a test (`family_param`)."""
    return [family_param(name, chosen=chosen) for name in names]


def tiny(family: str, seed: int = 0) -> Any:
    """A random transformers model: norms and biases random too, so that nothing is hidden by ones and
    zeros.
    """
    return random_model(copy.deepcopy(CONFIGS[family]), seed)


def forest(seed: int = 0, scale: int = 1) -> list[Row]:
    """Rows with nested, shared and no prefixes, duplicates, a prefix of another row, random weights."""
    draw = np.random.default_rng(seed)
    rows = [row for part in range(scale) for row in random_rows(VOCABULARY, seed + 100 * part)]
    weighted = []
    for index, row in enumerate(rows):
        weight = draw.choice([0.0, 1.0, 0.5], len(row))
        weight[0] = 0.0
        weight[-1] = 1.0
        weighted.append(Row(row.tokens, weight, id=str(index)))
    return weighted


def stock_logprobs(hf: Any, rows: list[Row]) -> torch.Tensor:
    """The reference: one row per call through transformers alone, log_softmax, gather."""
    pieces = []
    for row in rows:
        ids = torch.tensor(row.tokens)
        logp_TV = hf(input_ids=ids[None]).logits[0].log_softmax(-1)
        at = np.flatnonzero(row.weight)
        pieces.append(logp_TV[at - 1, ids[at]])
    return torch.cat(pieces)


def gradients(hf: Any) -> dict[str, torch.Tensor]:
    """Gradients by name, taken off the model."""
    found = {n: w.grad.clone() for n, w in hf.named_parameters() if w.grad is not None}
    hf.zero_grad()
    return found


def assert_same_gradients(
    got: dict[str, torch.Tensor], want: dict[str, torch.Tensor], tolerance: float
) -> None:
    """The tolerance of all laws about gradients."""
    assert got.keys() == want.keys()
    largest = max(float(grad.abs().max()) for grad in want.values())
    assert largest > 0
    for name, grad in want.items():
        # Without rotary positions a key bias shifts all scores of a query alike, so its true gradient is 0
        # and both sides hold nothing but rounding (float64 below shows it); it gets ten times the floor.
        floor = 1e-2 if "decoder.layers" in name and name.endswith("k_proj.bias") else 1e-3
        bound = tolerance * max(float(grad.abs().max()), floor * largest)
        assert float((got[name] - grad).abs().max()) <= bound, name


def tiny_model_dir(
    directory: Path, family: str = "llama", seed: int = 0, tokenizer: str = "chatml", weights: bool = True
) -> Path:
    """A model directory as one finds it: config, tokenizer, and random weights unless they are left out."""
    save_tokenizer(directory, tokenizer)
    config = copy.deepcopy(CONFIGS[family])
    config.vocab_size = 448
    if weights:
        random_model(config, seed).save_pretrained(directory)
    else:
        config.architectures = [type(random_model(copy.deepcopy(config))).__name__]
        config.save_pretrained(directory)
    return directory


def fastest(model: Model, kind: str) -> str:
    """The fastest modules with which this back-end is proven for the model; stock ones if none are."""
    return next(
        (
            speed
            for speed in capability.VARIANTS
            if capability.proof_failure(model.hf, kind, model.dtype, Model.wrap, speed) is None
        ),
        "stock",
    )
