"""Loading transformers models: safetensors only, no weight missing or made up, no remote code.

The model is transformers' own class with its own weights; only its attention function is chosen by name.
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
from transformers import MODEL_FOR_MASKED_LM_MAPPING, AutoConfig, AutoModelForCausalLM, GenerationConfig
from transformers.utils import logging as transformers_logging

from finetooth.config.values import first_few
from finetooth.data.hub import LENGTH_KEYS
from finetooth.data.model_files import first_line, named_code, read_config
from finetooth.errors import ModelError
from finetooth.model import reward_head
from finetooth.model.sizes import require_fitting


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch's global generator seeded with `seed` in this context, and restored on exit."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


@contextmanager
def quiet() -> Iterator[None]:
    """transformers without its progress bars and hints; both restored on exit."""
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)  # read by PEFT
            yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


def load_config(directory: Path) -> Any:
    """The model's configuration. ModelError when it is missing, needs remote code, or is not causal."""
    if not (directory / "config.json").is_file():
        raise ModelError(f"{directory}: no config.json, so this is not a model directory.")
    code = named_code(read_config(directory))
    try:
        config = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers checks some values with errors of its own
        if code:
            raise ModelError(
                f"{directory}: the model is code of its own ({code}), which is never run. Use a model whose "
                "architecture is part of transformers."
            ) from None
        raise ModelError(f"{directory}/config.json cannot be used: {first_line(error)}") from None
    causal = getattr(config, "is_decoder", False) or getattr(config, "causal", False)
    if type(config) in MODEL_FOR_MASKED_LM_MAPPING and not (causal or config.is_encoder_decoder):
        raise ModelError(
            f"{directory}: {config.model_type} is an encoder: it reads both ways and cannot write text. "
            "Expected a causal language model."
        )
    if config.is_encoder_decoder:
        raise ModelError(f"{directory}: {config.model_type} is an encoder-decoder; causal models only.")
    return config


def load_weights(directory: Path, config: Any, dtype: torch.dtype, seed: int) -> tuple[Any, bool]:
    """The model with its weights, and whether they are fresh: none were found, so `seed` initialised them.

    A saved sequence classifier with one label is loaded as a reward model. Raises ModelError.
    """
    gc.collect()  # reference cycles keep an unused model in memory; do not hold two at once
    if list(directory.glob("*.safetensors")):
        if not reward_head.is_classifier(config):
            return _pretrained(directory, config, dtype), False
        config = copy.deepcopy(config)
        config.tie_word_embeddings = True  # it has no output head: the embeddings stand in, and are unused
        model = _pretrained(directory, config, dtype)
        reward_head.attach(model)
        reward_head.load_layer(model, directory)
        return model, False
    pickled = [*directory.glob("*.bin"), *directory.glob("*.pt"), *directory.glob("*.pth")]
    if pickled:
        raise ModelError(
            f"{directory}: the weights are pickled ({pickled[0].name}), which can run code when loaded. "
            "Convert them to safetensors with transformers' save_pretrained and load the result."
        )
    require_fitting(directory, config, torch.float32)
    with seeded(seed), quiet():
        try:
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
        except Exception as error:
            raise ModelError(f"{directory}/config.json cannot be used: {first_line(error)}") from None
    return model.to(dtype), True


def _require_complete(directory: Path) -> None:
    """Raise ModelError when a file that the index lists is missing, or a file is truncated."""
    files = {path.name for path in directory.glob("*.safetensors")}
    index = directory / "model.safetensors.index.json"
    if index.is_file():
        try:
            named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
            raise ModelError(f"{index} cannot be read: {error}") from None
        if missing := sorted(named - files):
            raise ModelError(
                f"{directory}: {len(missing)} of {len(named)} weight files are missing, among them "
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


def _pretrained(directory: Path, config: Any, dtype: torch.dtype) -> Any:
    _require_complete(directory)
    require_fitting(directory, config, dtype)
    loader: Any = AutoModelForCausalLM
    with quiet():
        try:
            model, info = loader.from_pretrained(
                directory,
                config=config,
                dtype=dtype,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
            )
        except Exception as error:  # transformers raises many types for a broken file
            raise ModelError(f"{directory}: the model cannot be loaded: {first_line(error)}") from None
    for kind in ("missing_keys", "mismatched_keys"):
        if names := sorted(map(str, info.get(kind) or ())):
            raise ModelError(f"{directory}: {kind.replace('_', ' ')}: {first_few(names, 5)}.")
    return model


def disable_dropout(model: Any) -> int:
    """Set every dropout of the base model to 0 and return how many there were.

    Rows that share a prefix share its hidden states, so dropout could not be independent between them.
    Training mode itself stays available: gradient checkpointing needs it.
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


def has_experts(config: Any) -> bool:
    """Whether this is a mixture of experts."""
    names = ("num_local_experts", "num_experts", "n_routed_experts")
    return any(getattr(config, name, None) for name in names)


def decoder_layers(model: Any) -> Any | None:
    """The list of the model's transformer layers; None where none is found."""
    count = model.config.num_hidden_layers
    lists = (module for module in model.modules() if isinstance(module, torch.nn.ModuleList))
    return next((found for found in lists if len(found) == count), None)


def context_length(config: Any) -> int:
    """The longest row in tokens: the number of the model's positions, 2^20 if it has no limit (ALiBi)."""
    values = [getattr(part, key, None) for part in (config, config.get_text_config()) for key in LENGTH_KEYS]
    return next((value for value in values if isinstance(value, int) and value > 0), 1 << 20)


def end_tokens(directory: Path, config: Any) -> frozenset[int]:
    """The ids that end an answer: those of generation_config.json, else of config.json."""
    found = getattr(config, "eos_token_id", None)
    if (directory / "generation_config.json").is_file():
        try:
            generation = GenerationConfig.from_pretrained(
                directory, local_files_only=True, trust_remote_code=False
            )
        except Exception as error:
            path = directory / "generation_config.json"
            raise ModelError(f"{path} cannot be read: {first_line(error)}") from None
        found = generation.eos_token_id or found
    ids = [] if found is None else found if isinstance(found, list | tuple) else [found]
    if not all(isinstance(index, int) for index in ids):
        raise ModelError(f"{directory}: eos_token_id is {found!r:.60}; expected a token id or a list of ids.")
    return frozenset(ids)
