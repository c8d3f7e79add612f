"""Tiny random models of real architectures, and forests to try them on."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers_for_tests import save_tokenizer
from transformers import (
    GPT2Config,
    GPTNeoConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    Qwen2Config,
)

from finetooth.model.proof import random_forest, random_model
from finetooth.tree import Row

VOCABULARY = 96
NO_IDS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}

CONFIGS: dict[str, Any] = {
    "llama": LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=256,
        tie_word_embeddings=False,
        **NO_IDS,
    ),
    "qwen2": Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        **NO_IDS,
    ),
    "mistral": MistralConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=8,
        max_position_embeddings=256,
        **NO_IDS,
    ),
    "gpt2": GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=256, **NO_IDS),
    "opt": OPTConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        ffn_dim=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        word_embed_proj_dim=32,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=1,
    ),
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
TREE_FAMILIES = ("llama", "qwen2", "mistral", "gpt2", "opt")


def tiny(family: str, seed: int = 0) -> Any:
    """A random transformers model: norms and biases random too, so that nothing is hidden by ones and
    zeros.
    """
    return random_model(copy.deepcopy(CONFIGS[family]), seed)


def forest(seed: int = 0, scale: int = 1) -> list[Row]:
    """Rows with nested, shared and no prefixes, duplicates, a prefix of another row, random weights."""
    draw = np.random.default_rng(seed)
    rows = [row for part in range(scale) for row in random_forest(VOCABULARY, seed + 100 * part)]
    weighted = []
    for index, row in enumerate(rows):
        weight = draw.choice([0.0, 1.0, 0.5], len(row))
        weight[0] = 0.0
        weight[-1] = 1.0
        weighted.append(Row(row.tokens, weight, id=str(index)))
    return weighted


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
