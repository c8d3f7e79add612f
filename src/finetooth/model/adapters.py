"""LoRA on all linear layers, in PEFT's own modules and file format.

Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", equation 3. alpha is fixed at 32
and the product is scaled by alpha / rank, so the best learning rate hardly depends on the rank (Schulman et
al. 2025, "LoRA Without Regret").
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors import safe_open
from transformers.pytorch_utils import Conv1D

from finetooth.errors import ModelError
from finetooth.model.load import quiet, seeded

ALPHA = 32


@dataclass(frozen=True, slots=True)
class Coverage:
    """Which linear layers got an adapter: leaf name -> how many, and their share of the model's matrices."""

    layers: dict[str, int]
    share: float

    def __str__(self) -> str:
        counted = ", ".join(f"{count} {name}" for name, count in sorted(self.layers.items()))
        return f"LoRA on all {sum(self.layers.values())} linear layers ({counted})"


def linear_layers(model: Any) -> list[str]:
    """Full names of every linear layer (Conv1D included) except the output head.

    Raises ModelError when weights of three or more dimensions (expert tensors) would silently be left out.
    """
    head = model.get_output_embeddings()
    names = []
    for name, module in model.named_modules():
        if isinstance(module, (torch.nn.Linear, Conv1D)) and module is not head:
            names.append(name)
        for leaf, weight in module.named_parameters(recurse=False):
            if weight.ndim >= 3:
                raise ModelError(
                    f"{name}.{leaf} is a tensor of several projections (experts), which LoRA does not cover "
                    "yet. Use `train.adapter: none`."
                )
    if not names:
        raise ModelError("No linear layer was found, so there is nothing for LoRA to adapt.")
    return names


def add_lora(model: Any, rank: int, seed: int) -> tuple[PeftModel, Coverage]:
    """Wrap the model's linear layers; base weights are frozen, adapters are float32 and start as a no-op."""
    names = linear_layers(model)
    config = LoraConfig(
        r=rank, lora_alpha=ALPHA, target_modules=names, lora_dropout=0.0, task_type="CAUSAL_LM"
    )
    sizes = {name: model.get_submodule(name).weight.numel() for name in names}
    with seeded(seed), quiet():
        wrapped = get_peft_model(model, config)
    _require_covered(wrapped, names)
    matrices = sum(weight.numel() for _, weight in model.named_parameters() if weight.ndim == 2)
    layers = Counter(name.rsplit(".", 1)[-1] for name in names)
    return wrapped, Coverage(dict(layers), sum(sizes.values()) / max(1, matrices))


def _require_covered(wrapped: PeftModel, names: list[str]) -> None:
    adapted = {
        name.removeprefix("base_model.model.")
        for name, module in wrapped.named_modules()
        if hasattr(module, "lora_A") and len(module.lora_A)
    }
    missed = sorted(set(names) - adapted)
    if missed:
        raise ModelError(f"LoRA did not reach {len(missed)} linear layers, among them {missed[0]}.")


def load_adapter(model: Any, directory: Path) -> PeftModel:
    """Apply a saved PEFT adapter, trainable. ModelError when a tensor is missing or does not fit."""
    if not (directory / "adapter_config.json").is_file():
        raise ModelError(f"{directory}: no adapter_config.json, so this is not an adapter directory.")
    if not (directory / "adapter_model.safetensors").is_file():
        raise ModelError(f"{directory}: no adapter_model.safetensors (pickled adapters are not loaded).")
    try:
        with quiet():
            wrapped = PeftModel.from_pretrained(model, directory, is_trainable=True, local_files_only=True)
    except (RuntimeError, ValueError, KeyError) as error:
        raise ModelError(f"{directory}: the adapter does not fit this model: {error}") from None
    with safe_open(directory / "adapter_model.safetensors", "pt") as file:
        saved = set(file.keys())
    expected = set(get_peft_model_state_dict(wrapped, save_embedding_layers=False))
    if saved != expected:
        wrong = sorted(saved ^ expected)
        raise ModelError(
            f"{directory}: {len(wrong)} adapter tensors do not match this model, such as {wrong[0]}."
        )
    return wrapped


def base_of(directory: Path) -> str:
    """The base model that an adapter directory names."""
    return str(PeftConfig.from_pretrained(str(directory), local_files_only=True).base_model_name_or_path)
