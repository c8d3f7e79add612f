"""Loading stock transformers models: safetensors only, nothing missing, nothing random, no code from a hub.

What is loaded is transformers' own class with its own weights; only its attention function is chosen by name.
"""

from __future__ import annotations

import copy
import gc
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig
from transformers.utils import logging as transformers_logging

from finetooth.errors import ModelError
from finetooth.model import reward_head
from finetooth.model.head import is_classifier


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch's global generator set to `seed` inside, and put back as it was afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


@contextmanager
def quiet() -> Iterator[None]:
    """transformers without its progress bars and hints; restored afterwards."""
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)  # PEFT's question
            yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


def load_config(directory: Path) -> Any:
    """The model's configuration. ModelError when there is none, it needs remote code, or is not causal."""
    if not (directory / "config.json").is_file():
        raise ModelError(f"{directory}: no config.json, so this is not a model directory.")
    try:
        config = AutoConfig.from_pretrained(directory, local_files_only=True)
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise ModelError(f"{directory}/config.json cannot be used: {error}") from None
    if config.is_encoder_decoder:
        raise ModelError(f"{directory}: {config.model_type} is an encoder-decoder; causal models only.")
    return config


def load_weights(directory: Path, config: Any, dtype: torch.dtype, seed: int) -> tuple[Any, bool]:
    """The model with its weights, and whether it is fresh: no weights found, initialised from `seed`.

    A saved sequence classifier with one label is a reward model (reward.py), and loads as one.
    """
    gc.collect()  # a model that is not used any more holds its memory by cycles; not both at once
    if list(directory.glob("*.safetensors")):
        return (_scoring if is_classifier(config) else _pretrained)(directory, config, dtype), False
    pickled = [*directory.glob("*.bin"), *directory.glob("*.pt"), *directory.glob("*.pth")]
    if pickled:
        raise ModelError(
            f"{directory}: the weights are pickled ({pickled[0].name}), which can run code when loaded. "
            "Convert them to safetensors with transformers' save_pretrained and load the result."
        )
    with seeded(seed), quiet():
        try:
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        except (ValueError, KeyError) as error:
            raise ModelError(f"{directory}: {error}") from None
    return model.to(dtype), True


def _require_whole(directory: Path) -> None:
    """Every file that the index names is there, and none is cut off. ModelError names what is not."""
    files = {path.name for path in directory.glob("*.safetensors")}
    index = directory / "model.safetensors.index.json"
    if index.is_file():
        try:
            named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, AttributeError) as error:
            raise ModelError(f"{index} cannot be read: {error}") from None
        if missing := sorted(named - files):
            raise ModelError(
                f"{directory}: {len(missing)} of {len(named)} files of weights are missing, among them "
                f"{missing[0]}. Copy them next to the others."
            )
    for name in sorted(files):
        try:
            with safe_open(directory / name, "pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"{directory / name}: the file is damaged or cut off, so the model cannot be loaded "
                f"({error}). Copy or download it again."
            ) from None


def _scoring(directory: Path, config: Any, dtype: torch.dtype) -> Any:
    """A reward model. Its network has no output head of its own: the embeddings stand there, never read."""
    config = copy.deepcopy(config)
    config.tie_word_embeddings = True
    model = _pretrained(directory, config, dtype)
    reward_head.attach(model)
    reward_head.load_layer(model, directory)
    return model


def _pretrained(directory: Path, config: Any, dtype: torch.dtype) -> Any:
    _require_whole(directory)
    loader: Any = AutoModelForCausalLM
    with quiet():
        try:
            model, info = loader.from_pretrained(
                directory, config=config, dtype=dtype, local_files_only=True, output_loading_info=True
            )
        except Exception as error:  # transformers raises many types for a broken file; all mean the same here
            raise ModelError(f"{directory}: the model cannot be loaded: {error}") from None
    wrong = {kind: sorted(map(str, info.get(kind) or ())) for kind in ("missing_keys", "mismatched_keys")}
    for kind, names in wrong.items():
        if names:
            raise ModelError(
                f"{directory}: {kind.replace('_', ' ')}: {', '.join(names[:5])} of {len(names)}."
            )
    return model


def disable_dropout(model: Any) -> int:
    """Set every dropout of the base model to 0 and return how many there were.

    Rows that share a prefix share what is computed of it once, so noise inside the base model has no meaning;
    training mode itself stays available (gradient checkpointing needs it).
    """
    found = 0
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout) and module.p:
            module.p = 0.0
            found += 1
        for name in ("dropout", "attention_dropout", "activation_dropout", "layerdrop", "hidden_dropout"):
            if isinstance(getattr(module, name, None), float) and getattr(module, name):
                setattr(module, name, 0.0)
                found += 1
    return found


def routing_note(config: Any) -> list[str]:
    """What is said at load of a model with experts; nothing for others."""
    names = ("num_local_experts", "num_experts", "n_routed_experts")
    if not any(getattr(config, name, None) for name in names):
        return []
    return ["experts: the router's load-balancing loss is not part of the loss (see docs/models.md)"]


def longest_row(config: Any) -> int:
    """How many tokens a row may have: the positions the model knows."""
    for name in ("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length"):
        value = getattr(config, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return 1 << 20  # no position limit (ALiBi)


def end_tokens(directory: Path, config: Any) -> frozenset[int]:
    """The ids that end an answer: generation_config.json's, else config.json's."""
    found = getattr(config, "eos_token_id", None)
    if (directory / "generation_config.json").is_file():
        try:
            found = GenerationConfig.from_pretrained(directory, local_files_only=True).eos_token_id or found
        except (OSError, ValueError) as error:
            raise ModelError(f"{directory}/generation_config.json cannot be read: {error}") from None
    if found is None:
        return frozenset()
    return frozenset([found] if isinstance(found, int) else found)
