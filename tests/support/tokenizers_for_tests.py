"""Tiny real tokenizers with real templates: trained here, saved as a model directory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers
from templates_for_tests import (
    CHATML,
    CHATML_DEFAULT_SYSTEM,
    GEMMA,
    LLAMA2,
    LLAMA3,
    LLAMA31,
    QWEN3,
    THINKING,
    ZEPHYR,
)
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

SENTENCES = [
    "The quick brown fox jumps over the lazy dog. What is the capital of France? Paris, of course!",
    "### Instruction:\nTranslate the text.\n\n### Input:\nGood morning\n\n### Response:\nGuten Morgen\n",
    "user assistant system INST model start of turn header id Which way? Left, then right.",
    "Two:\n\nThree:\n\n\nTwo:\n\n  Three:\n\n\n   Two:\n\nThree:\n\n\nSpaces   and\n\n\n\n\nlines.\n\n",
    "Numbers such as 1, 23, 456 and 7890; signs like (these), \"those\" and 'others' - or dashes.",
]

TOKENS: dict[str, dict[str, str]] = {
    "chatml": {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "open": "<|im_start|>"},
    "llama3": {
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|eot_id|>",
        "start": "<|start_header_id|>",
        "end": "<|end_header_id|>",
    },
    "llama2": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
    "gemma": {
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "open": "<start_of_turn>",
        "close": "<end_of_turn>",
    },
    "gpt2": {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"},
}

# family -> (chat template, its tokens, whether the post-processor puts BOS in front of a text)
FAMILIES: dict[str, tuple[str | None, str, bool]] = {
    "chatml": (CHATML, "chatml", False),
    "chatml-default-system": (CHATML_DEFAULT_SYSTEM, "chatml", False),
    "thinking": (THINKING, "chatml", False),
    "qwen3": (QWEN3, "chatml", False),
    "llama3": (LLAMA3, "llama3", True),
    "llama3.1": (LLAMA31, "llama3", True),
    "llama2": (LLAMA2, "llama2", True),
    "llama2-metaspace": (LLAMA2, "llama2", True),
    "zephyr": (ZEPHYR, "llama2", True),
    "zephyr-without-bos": (ZEPHYR, "llama2", False),
    "gemma": (GEMMA, "gemma", True),
}
BASE: dict[str, tuple[str | None, str, bool]] = {
    "gpt2": (None, "gpt2", False),
    "llama-base": (None, "llama2", True),
    "metaspace-base": (None, "llama2", True),
}


# How Llama 3 and Qwen cut a text before merging: line breaks stay with what is before them.
LLAMA3_PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_level(
    special: list[str],
    vocab_size: int = 400,
    pieces: str | None = None,
    texts: Sequence[str] = SENTENCES,
) -> tokenizers.Tokenizer:
    """A byte-level BPE, cut into pieces as in GPT-2, or by another pattern."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if pieces is not None:
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(tokenizers.Regex(pieces), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return backend


def metaspace(special: list[str], vocab_size: int = 400) -> tokenizers.Tokenizer:
    """A BPE over words with a leading mark for the space and bytes as a fallback, as in SentencePiece."""
    backend = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[*special, *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    backend.train_from_iterator([word for line in SENTENCES for word in line.split()], trainer)
    spec = json.loads(backend.to_str())  # the bytes are vocabulary, not markup
    spec["added_tokens"] = [token for token in spec["added_tokens"] if not token["content"].startswith("<0x")]
    return tokenizers.Tokenizer.from_str(json.dumps(spec))


def save_tokenizer(
    directory: Path,
    family: str = "chatml",
    template: str | None = None,
    vocab_size: int = 400,
    **config: Any,
) -> Path:
    """Write tokenizer.json and tokenizer_config.json of a family into `directory`, and return it.

    template: instead of the family's. config: more keys of tokenizer_config.json; None takes a key out.
    """
    family_template, names, with_bos = {**FAMILIES, **BASE}[family]
    tokens = TOKENS[names]
    special = list(dict.fromkeys(tokens.values()))
    if "metaspace" in family:
        backend = metaspace(special, max(vocab_size, 420))
    else:
        backend = byte_level(special, vocab_size, LLAMA3_PIECES if names in ("chatml", "llama3") else None)
    if with_bos:
        bos = tokens["bos_token"]
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A",
            pair=f"{bos} $A {bos} $B",
            special_tokens=[(bos, backend.token_to_id(bos))],
        )
    directory.mkdir(parents=True, exist_ok=True)
    backend.save(str(directory / "tokenizer.json"))
    values = {name: text for name, text in tokens.items() if name.endswith("_token")}
    values |= {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": template or family_template}
    values |= config
    values = {name: value for name, value in values.items() if value is not None}
    (directory / "tokenizer_config.json").write_text(json.dumps(values), encoding="utf-8")
    return directory
