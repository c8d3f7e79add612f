"""Tiny GGUF files, written with the gguf package as llama.cpp's converter writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from models_for_tests import SHAPE
from templates_for_tests import CHATML
from tokenizers_for_tests import save_tokenizer
from transformers import LlamaConfig

from finetooth.model.tiny_copy import random_model

NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def tiny_llama(seed: int = 0) -> Any:
    """A random Llama whose matrices a block of 32 values divides."""
    return random_model(
        LlamaConfig(**SHAPE | {"vocab_size": 448, "hidden_size": 64, "intermediate_size": 96}), seed
    )


def write_gguf(
    path: Path, hf: Any, kind: str = "F32", pre: str = "llama-bpe", **metadata: Any
) -> dict[str, Any]:
    """Write a Llama as a GGUF file with the `chatml` tokenizer; returns the tokenizer's vocabulary.

    kind: how matrices are stored. metadata: more keys, or others, as {name: value}; the name
    `general.architecture` changes the architecture.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    config, quantised = hf.config, gguf.GGMLQuantizationType[kind]
    architecture = metadata.pop("architecture", "llama")
    writer = gguf.GGUFWriter(path, architecture)
    values = {
        f"{architecture}.block_count": config.num_hidden_layers,
        f"{architecture}.context_length": config.max_position_embeddings,
        f"{architecture}.embedding_length": config.hidden_size,
        f"{architecture}.feed_forward_length": config.intermediate_size,
        f"{architecture}.attention.head_count": config.num_attention_heads,
        f"{architecture}.attention.head_count_kv": config.num_key_value_heads,
        f"{architecture}.rope.dimension_count": config.hidden_size // config.num_attention_heads,
    } | metadata
    for name, value in values.items():
        (writer.add_string if isinstance(value, str) else writer.add_uint32)(name, value)
    writer.add_float32(f"{architecture}.attention.layer_norm_rms_epsilon", config.rms_norm_eps)
    writer.add_float32(f"{architecture}.rope.freq_base", 10000.0)
    spec = json.loads((save_tokenizer(path.parent / "tokenizer") / "tokenizer.json").read_text())
    vocabulary = spec["model"]["vocab"]
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    special = {token["content"] for token in spec["added_tokens"]}
    tokens += [f"[PAD{index}]" for index in range(len(tokens), config.vocab_size)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in special else 5 if token[:4] == "[PAD" else 1 for token in tokens])
    merges = spec["model"]["merges"]
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_eos_token_id(vocabulary["<|im_end|>"])
    writer.add_chat_template(CHATML)
    for name, weight in hf.state_dict().items():
        array = weight.float().numpy()
        if "q_proj" in name or "k_proj" in name:
            array = _permuted(array, config, "k_proj" in name)
        if array.ndim > 1 and kind != "F32":
            writer.add_tensor(_gguf_name(name), gguf.quantize(array, quantised), raw_dtype=quantised)
        else:
            writer.add_tensor(_gguf_name(name), array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return vocabulary


def _permuted(array: np.ndarray, config: Any, keys: bool) -> np.ndarray:
    """Rows of a head in the order of llama.cpp, which rotates neighbours and not halves."""
    heads = config.num_key_value_heads if keys else config.num_attention_heads
    return array.reshape(heads, 2, array.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(array.shape)


def _gguf_name(name: str) -> str:
    name = name.removesuffix(".weight")
    whole = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    if name in whole:
        return f"{whole[name]}.weight"
    _, _, layer, leaf = name.split(".", 3)
    return f"blk.{layer}.{NAMES[leaf]}.weight"
