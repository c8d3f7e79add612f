"""LoRA on all linear layers, experts included, with PEFT's modules and file format.

Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", equation 3. alpha is fixed at 32
and the update is scaled by alpha / rank, so the best learning rate hardly depends on the rank (Schulman et
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

from finetooth.data.model_files import first_line, read_object, refusing
from finetooth.data.watched import problem_of_patterns
from finetooth.errors import ModelError
from finetooth.model import reward_head
from finetooth.model.load import quiet, seeded

ALPHA = 32
LARGEST_RANK = 65_536  # of an adapter that is loaded
PATTERN_SECONDS = 10.0  # for the regular expressions of an adapter


@dataclass(frozen=True, slots=True)
class Coverage:
    """Which layers have an adapter. layers: last part of a name -> count. share: of the matrices' parameters.

    A tensor of experts counts once for each expert. kept: matrices without an adapter, other than the output
    head and embeddings (the routers of experts).
    """

    layers: dict[str, int]
    share: float
    kept: dict[str, int]

    def __str__(self) -> str:
        def listed(counts: dict[str, int]) -> str:
            return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))

        text = f"LoRA on all {sum(self.layers.values())} linear layers ({listed(self.layers)})"
        return f"{text}; without an adapter: {listed(self.kept)}" if self.kept else text


@dataclass(frozen=True, slots=True)
class Projections:
    """What LoRA can adapt, full name -> number of matrices: linear layers, and tensors of several experts.

    kept: matrices of other modules, which are not adapted.
    """

    layers: dict[str, int]
    experts: dict[str, int]
    kept: dict[str, int]


def projections(model: Any) -> Projections:
    """Every linear layer (Conv1D included) except the output head, and every tensor of experts.

    Raises ModelError when there is none, or for a tensor of four or more dimensions.
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
    """Put an adapter on every projection: the base is frozen, adapters are float32 and start at zero.

    Experts that are stored as one tensor each get a product of rank `rank`, by PEFT's `target_parameters`.
    Raises ModelError when a projection was not reached.
    """
    found = projections(model)
    reward = reward_head.is_reward(model)
    config = LoraConfig(
        r=rank,
        lora_alpha=ALPHA,
        target_modules=list(found.layers),
        target_parameters=list(found.experts) or None,
        lora_dropout=0.0,
        modules_to_save=[reward_head.SCORE] if reward else None,
        task_type="SEQ_CLS" if reward else "CAUSAL_LM",
    )
    sizes = {name: weight.numel() for name, weight in model.named_parameters() if weight.ndim >= 2}
    adapted = sum(sizes.get(f"{name}.weight", 0) for name in found.layers)
    adapted += sum(sizes[name] for name in found.experts)
    with seeded(seed), quiet():
        wrapped = get_peft_model(model, config)
    reached = set()
    for name, module in wrapped.named_modules():
        if hasattr(module, "lora_A") and len(module.lora_A):
            name = name.removeprefix("base_model.model.")
            if isinstance(module, ParamWrapper):  # one wrapper a tensor, each around the previous one
                name = f"{name.replace('.base_layer', '')}.{module.parameter_name}"
            reached.add(name)
    if missed := sorted({*found.layers, *found.experts} - reached):
        raise ModelError(f"LoRA did not reach {len(missed)} linear layers, among them {missed[0]}.")
    share = adapted / max(1, sum(sizes.values()))
    return wrapped, Coverage(_by_last_name(found.layers | found.experts), share, _by_last_name(found.kept))


def _by_last_name(counts: dict[str, int]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for name, count in counts.items():
        total[name.rsplit(".", 1)[-1]] += count
    return dict(total)


def load_adapter(model: Any, directory: Path) -> PeftModel:
    """Put a saved PEFT adapter on the model, trainable. ModelError for a missing or unfitting tensor."""
    if not (directory / "adapter_config.json").is_file():
        raise ModelError(f"{directory}: no adapter_config.json, so this is not an adapter directory.")
    if not (directory / "adapter_model.safetensors").is_file():
        raise ModelError(f"{directory}: no adapter_model.safetensors (pickled adapters are not loaded).")
    if _adapter_config(directory, model).task_type == "SEQ_CLS":
        reward_head.attach(model)
    try:
        with quiet():
            wrapped = PeftModel.from_pretrained(
                model, directory, is_trainable=True, local_files_only=True, trust_remote_code=False
            )
    except SafetensorError as error:
        damaged = directory / "adapter_model.safetensors"
        raise ModelError(f"{damaged}: damaged or cut off ({error}). Copy it again, or train again.") from None
    except Exception as error:  # PEFT raises many types for a file that does not fit
        raise ModelError(f"{directory}: the adapter does not fit this model: {first_line(error)}") from None
    with safe_open(directory / "adapter_model.safetensors", "pt") as file:
        saved = set(file.keys())
    expected = set(get_peft_model_state_dict(wrapped, save_embedding_layers=False))
    if saved != expected:
        wrong = sorted(saved ^ expected)
        raise ModelError(
            f"{directory}: {len(wrong)} adapter tensors do not match this model, such as {wrong[0]}."
        )
    return wrapped


def shared_base(wrapped: PeftModel) -> Any:
    """The base below an adapter as a model of its own, which shares weights and buffers with the original.

    Modules are copied, since another adapter will replace some of them. Forwards that were bound to modules
    (fused.py, gradient checkpointing) are left out: they would call the original's modules.
    """
    shared = {id(tensor): tensor for tensor in (*wrapped.parameters(), *wrapped.buffers())}
    hf: Any = copy.deepcopy(wrapped, shared).unload()
    for module in hf.modules():
        vars(module).pop("forward", None)
    return hf


def copy_adapter_weights(wrapped: PeftModel | None, directory: Path) -> None:
    """Copy a saved adapter's matrices into a fresh adapter. Raises ModelError when the two differ in shape.

    The score layer of a reward model is left as it is.
    """
    assert wrapped is not None, "add_lora comes first"
    own, saved = wrapped.peft_config["default"], _adapter_config(directory)
    weights = get_peft_model_state_dict(wrapped, save_embedding_layers=False)  # shares the parameters' memory
    weights = {name: weight for name, weight in weights.items() if f".{reward_head.SCORE}." not in name}
    with safe_open(directory / "adapter_model.safetensors", "pt") as file:
        tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
    for key in ("r", "lora_alpha", "use_rslora", "use_dora"):
        if getattr(own, key) != getattr(saved, key):
            raise ModelError(f"{directory}: its {key} is {getattr(saved, key)}, here {getattr(own, key)}.")
    shapes = [{(name, *weight.shape) for name, weight in every.items()} for every in (weights, tensors)]
    if wrong := sorted({name for name, *_ in shapes[0] ^ shapes[1]}):
        raise ModelError(f"{directory}: {len(wrong)} adapter tensors do not fit, such as {wrong[0]}.")
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(tensors[name])


def base_of(directory: Path) -> str:
    """The base model that an adapter directory names."""
    return str(_adapter_config(directory).base_model_name_or_path)


def _adapter_config(directory: Path, model: Any = None) -> PeftConfig:
    """adapter_config.json, whose sizes and regular expressions are tried first. Raises ModelError.

    model: the expressions select among its modules.
    """
    path = directory / "adapter_config.json"
    config = read_object(path)
    ranks = [config.get("r", 8), *_values(config.get("rank_pattern"))]
    for rank in ranks:
        if isinstance(rank, bool) or not isinstance(rank, int) or not 0 < rank <= LARGEST_RANK:
            raise ModelError(
                f"{path}: the rank is {str(rank)[:40]!r}; expected a whole number from 1 to {LARGEST_RANK:,}."
            )
    if config.get("megatron_config"):
        raise ModelError(f"{path}: it names code of Megatron to import (megatron_core), which is not done.")
    if model is not None:
        given = [config.get(key) for key in ("target_modules", "exclude_modules", "layers_pattern")]
        given += [*(config.get("rank_pattern") or ()), *(config.get("alpha_pattern") or ())]
        patterns = [one for one in given if isinstance(one, str) and one != "all-linear"]
        names = [name for name, _ in model.named_modules()]
        if problem := problem_of_patterns(patterns, names, PATTERN_SECONDS):
            raise ModelError(f"{path}: {problem}.")
    with refusing(f"{path} cannot be used", "Copy it again, or train again."):
        loaded: PeftConfig = PeftConfig.from_pretrained(
            str(directory), local_files_only=True, trust_remote_code=False
        )
    if loaded.peft_type != "LORA":
        raise ModelError(f"{path}: a PEFT adapter of the type {loaded.peft_type}; finetooth loads LoRA only.")
    return loaded


def _values(pattern: Any) -> list[Any]:
    return list(pattern.values()) if isinstance(pattern, dict) else []
