"""LoRA on all linear layers, experts included, in PEFT's own modules and file format.

Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", equation 3. alpha is fixed at 32
and the product is scaled by alpha / rank, so the best learning rate hardly depends on the rank (Schulman et
al. 2025, "LoRA Without Regret").
"""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.tuners.lora.layer import ParamWrapper
from safetensors import SafetensorError, safe_open
from transformers.pytorch_utils import Conv1D

from finetooth.errors import ModelError
from finetooth.model import reward_head
from finetooth.model.load import quiet, seeded

ALPHA = 32


@dataclass(frozen=True, slots=True)
class Coverage:
    """Which projections got an adapter: leaf name -> how many, and their share of the model's matrices.

    An expert tensor counts once for each expert. kept: matrices without an adapter that are neither head nor
    embeddings (the routers of experts), by name.
    """

    layers: dict[str, int]
    share: float
    kept: dict[str, int]

    def __str__(self) -> str:
        text = f"LoRA on all {sum(self.layers.values())} linear layers ({_listed(self.layers)})"
        return f"{text}; as they were: {_listed(self.kept)}" if self.kept else text


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


@dataclass(frozen=True, slots=True)
class Projections:
    """What LoRA can adapt, full name -> how many matrices: linear layers, tensors of several experts.

    kept: matrices of other modules, which it leaves alone.
    """

    layers: dict[str, int]
    experts: dict[str, int]
    kept: dict[str, int]


def projections(model: Any) -> Projections:
    """Every linear layer (Conv1D included) except the output head, and every tensor of experts.

    Raises ModelError when there is none, or a tensor of four or more dimensions.
    """
    head = model.get_output_embeddings()
    found = Projections({}, {}, {})
    for name, module in model.named_modules():
        if isinstance(module, (torch.nn.Linear, Conv1D)):
            if module is not head and name != reward_head.SCORE:
                found.layers[name] = 1
            continue
        if isinstance(module, torch.nn.Embedding):
            continue
        for leaf, weight in module.named_parameters(recurse=False):
            if weight.ndim > 3:
                raise ModelError(
                    f"{name}.{leaf} has {weight.ndim} dimensions, and LoRA adapts two or three. "
                    "Use `train.adapter: none`."
                )
            if weight.ndim == 3 and not hasattr(module, "kernel_size"):
                found.experts[f"{name}.{leaf}"] = weight.shape[0]
            elif weight.ndim > 1 and not leaf.endswith("bias"):
                found.kept[name] = 1
    if not found.layers and not found.experts:
        raise ModelError("No linear layer was found, so there is nothing for LoRA to adapt.")
    return found


def add_lora(model: Any, rank: int, seed: int) -> tuple[PeftModel, Coverage]:
    """Wrap the model's projections; base weights are frozen, adapters are float32 and start as a no-op.

    Experts that are stored as one tensor get a product of rank `rank` each, by PEFT's `target_parameters`.
    """
    found = projections(model)
    scores = reward_head.is_reward(model)
    config = LoraConfig(
        r=rank,
        lora_alpha=ALPHA,
        target_modules=list(found.layers),
        target_parameters=list(found.experts) or None,
        lora_dropout=0.0,
        modules_to_save=[reward_head.SCORE] if scores else None,
        task_type="SEQ_CLS" if scores else "CAUSAL_LM",
    )
    sizes = {name: weight.numel() for name, weight in model.named_parameters() if weight.ndim >= 2}
    adapted = sum(sizes.get(f"{name}.weight", 0) for name in found.layers)
    adapted += sum(sizes[name] for name in found.experts)
    with seeded(seed), quiet():
        wrapped = get_peft_model(model, config)
    _require_covered(wrapped, [*found.layers, *found.experts])
    covered = _by_leaf(found.layers | found.experts)
    return wrapped, Coverage(covered, adapted / max(1, sum(sizes.values())), _by_leaf(found.kept))


def _by_leaf(counts: dict[str, int]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for name, count in counts.items():
        total[name.rsplit(".", 1)[-1]] += count
    return dict(total)


def _require_covered(wrapped: PeftModel, names: list[str]) -> None:
    adapted = set()
    for name, module in wrapped.named_modules():
        if hasattr(module, "lora_A") and len(module.lora_A):
            name = name.removeprefix("base_model.model.")
            if isinstance(module, ParamWrapper):  # one wrapper a tensor, each around the one before
                name = f"{name.replace('.base_layer', '')}.{module.parameter_name}"
            adapted.add(name)
    missed = sorted(set(names) - adapted)
    if missed:
        raise ModelError(f"LoRA did not reach {len(missed)} linear layers, among them {missed[0]}.")


def load_adapter(model: Any, directory: Path) -> PeftModel:
    """Apply a saved PEFT adapter, trainable. ModelError when a tensor is missing or does not fit."""
    if not (directory / "adapter_config.json").is_file():
        raise ModelError(f"{directory}: no adapter_config.json, so this is not an adapter directory.")
    if not (directory / "adapter_model.safetensors").is_file():
        raise ModelError(f"{directory}: no adapter_model.safetensors (pickled adapters are not loaded).")
    if PeftConfig.from_pretrained(str(directory), local_files_only=True).task_type == "SEQ_CLS":
        reward_head.attach(model)
    try:
        with quiet():
            wrapped = PeftModel.from_pretrained(model, directory, is_trainable=True, local_files_only=True)
    except SafetensorError as error:
        damaged = directory / "adapter_model.safetensors"
        raise ModelError(f"{damaged}: damaged or cut off ({error}). Copy it again, or train again.") from None
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


def bare_copy(wrapped: PeftModel) -> Any:
    """The network below an adapter as a model of its own, which shares all its weights and buffers.

    Modules are copied, since another adapter would replace them; their own `forward`s are not (fused.py and
    gradient checkpointing bind them again where they are wanted).
    """
    shared = {id(tensor): tensor for tensor in (*wrapped.parameters(), *wrapped.buffers())}
    hf: Any = copy.deepcopy(wrapped, shared).unload()
    for module in hf.modules():
        vars(module).pop("forward", None)
    for weight in hf.parameters():
        weight.requires_grad_(False)
    return hf


def copy_adapter_weights(wrapped: PeftModel | None, directory: Path) -> None:
    """Put the matrices of a saved adapter into a fresh one, exactly. ModelError when the two differ in shape.

    A reward model's own layer is no part of it and stays as it is.
    """
    assert wrapped is not None, "add_lora comes first"
    own, saved = wrapped.peft_config["default"], PeftConfig.from_pretrained(str(directory))
    weights = get_peft_model_state_dict(wrapped, save_embedding_layers=False)  # the parameters' own memory
    weights = {name: weight for name, weight in weights.items() if f".{reward_head.SCORE}." not in name}
    with safe_open(directory / "adapter_model.safetensors", "pt") as file:
        tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
    for key in ("r", "lora_alpha", "use_rslora", "use_dora"):
        if getattr(own, key) != getattr(saved, key):
            raise ModelError(f"{directory}: its {key} is {getattr(saved, key)}, here {getattr(own, key)}.")
    shapes = ({name: tuple(tensor.shape) for name, tensor in all.items()} for all in (weights, tensors))
    wrong = sorted(dict(set.symmetric_difference(*(set(one.items()) for one in shapes))))
    if wrong:
        raise ModelError(f"{directory}: {len(wrong)} adapter tensors do not fit, such as {wrong[0]}.")
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(tensors[name])


def base_of(directory: Path) -> str:
    """The base model that an adapter directory names."""
    return str(PeftConfig.from_pretrained(str(directory), local_files_only=True).base_model_name_or_path)
