"""The one model that every system gets: a random Llama from a config, with a tokenizer of as many words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

SHAPE = {
    "hidden_size": 512,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "intermediate_size": 1376,
    "vocab_size": 32000,
    "max_position_embeddings": 2048,
}
LITTLE = {  # of the cases that learn from rewards and preferences: 7 million parameters
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "intermediate_size": 688,
    "vocab_size": 8000,
    "max_position_embeddings": 1024,
}
EPSILON = 1e-5  # of the RMS norms, given to every system
# Three times the usual spread of random weights: probabilities then differ between tokens and depend on the
# context, so a system that scores other tokens, or lets rows see each other, shows another loss.
SPREAD = 0.06


def make_model(directory: Path, shape: Mapping[str, int] = SHAPE, seed: int = 0) -> Path:
    """Write config, fp32 safetensors and tokenizer into `directory`, unless they are there; returns it."""
    if (directory / "model.safetensors").is_file():
        return directory
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    config = LlamaConfig(
        **shape,
        rms_norm_eps=EPSILON,
        initializer_range=SPREAD,
        tie_word_embeddings=False,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    write_tokenizer(directory, shape["vocab_size"])
    model.save_pretrained(directory)
    return directory


def make_adapter(directory: Path, model: Path, rank: int, seed: int = 0) -> Path:
    """Write a LoRA adapter of `model` whose every matrix is random, and returns it.

    Where B is 0, as a fresh adapter has it, A has no gradient that could be compared.
    """
    import torch

    import finetooth as ft

    adapted = ft.Model.load(model)
    adapted.add_lora(rank, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in adapted.named_trainable().items():
            if "lora_B" in name:
                weight.normal_(0.0, 0.02, generator=generator)
    adapted.save(directory)
    return directory


def write_tokenizer(directory: Path, vocabulary: int) -> None:
    """A tokenizer in which id n is the word "wn"; three special tokens in front."""
    import tokenizers

    special = ["<pad>", "<s>", "</s>"]
    words = {word: at for at, word in enumerate(special)}
    words |= {f"w{at}": at for at in range(len(special), vocabulary)}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<pad>"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.add_special_tokens(special)
    directory.mkdir(parents=True, exist_ok=True)
    backend.save(str(directory / "tokenizer.json"))
    names = dict(zip(("pad_token", "bos_token", "eos_token"), special, strict=True))
    names["tokenizer_class"] = "PreTrainedTokenizerFast"
    (directory / "tokenizer_config.json").write_text(json.dumps(names), encoding="utf-8")
