"""Saving weights in the formats of PEFT and Hugging Face, and the digest of a model's weights."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import GenerationConfig

from finetooth.model import reward_head
from finetooth.model.load import quiet


def save(model: Any, peft: PeftModel | None, stop_ids: frozenset[int], path: Path) -> None:
    """Write the adapter in PEFT's format or the whole model in Hugging Face's, and the stop tokens."""
    path.mkdir(parents=True, exist_ok=True)
    config = model.generation_config or GenerationConfig()
    ends = sorted(stop_ids)
    config.eos_token_id = ends[0] if len(ends) == 1 else ends
    with quiet():
        if peft is None and reward_head.is_reward(model):
            reward_head.save(model, stop_ids, path)
        elif peft is None:
            model.save_pretrained(path)
        else:
            # The embeddings are not trained, and "auto" may query the hub to find out.
            adapter: Any
            for adapter in peft.peft_config.values():
                modules = getattr(adapter, "target_modules", None)
                if isinstance(modules, set):  # whose order differs between processes
                    setattr(adapter, "target_modules", sorted(modules))  # noqa: B010
            peft.save_pretrained(str(path), safe_serialization=True, save_embedding_layers=False)
            (path / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
        config.save_pretrained(path)


def digest(model: Any, adapter: bool = True) -> str:
    """Hex SHA-256 over names, dtypes, shapes and bytes of all weights, or of all but the adapter's.

    A reward model's score layer counts as part of the adapter.
    """
    weights = dict(model.state_dict())
    if not adapter:
        added = (".lora_", f"{reward_head.SCORE}.")
        weights = {name: w for name, w in weights.items() if not any(part in name for part in added)}
        weights = {name.replace(".base_layer", ""): w for name, w in weights.items()}
    result = hashlib.sha256(str(model.config.model_type).encode())
    for name, weight in sorted(weights.items()):
        result.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        flat = weight.detach().cpu().contiguous().flatten()
        result.update(flat.view(torch.uint8).numpy().data)  # without a copy: embeddings can take half a GiB
    return result.hexdigest()
