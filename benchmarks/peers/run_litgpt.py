"""LitGPT: its model, LoRA, chunked head, loss and optimizer, put together as its fine-tuning scripts do.

Its loss is the mean of each micro-batch divided by their number, so rows with few scored tokens weigh more
than in the other systems. What is compared is the mean over all scored tokens, made from the same numbers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch
from litgpt.config import Config as PlainConfig
from litgpt.data.base import get_sft_collate_fn
from litgpt.lora import GPT as LoraGPT
from litgpt.lora import Config as LoraConfig
from litgpt.lora import mark_only_lora_as_trainable
from litgpt.model import GPT as PlainGPT
from litgpt.scripts.convert_hf_checkpoint import copy_weights_hf_llama
from litgpt.utils import chunked_cross_entropy, instantiate_torch_optimizer
from protocol import Channel, Facts, in_parts, labels, read_rows, read_spec, serve
from safetensors.torch import load_file


def shape(spec: Facts) -> Facts:
    """The model's shape in LitGPT's names."""
    given = spec["shape"]
    return {
        "name": "side-by-side",
        "block_size": given["max_position_embeddings"],
        "vocab_size": given["vocab_size"],
        "padded_vocab_size": given["vocab_size"],
        "n_layer": given["num_hidden_layers"],
        "n_head": given["num_attention_heads"],
        "n_query_groups": given["num_key_value_heads"],
        "n_embd": given["hidden_size"],
        "intermediate_size": given["intermediate_size"],
        "rotary_percentage": 1.0,
        "parallel_residual": False,
        "bias": False,
        "norm_class_name": "RMSNorm",
        "norm_eps": given["rms_norm_eps"],
        "mlp_class_name": "LLaMAMLP",
    }


def load(spec: Facts) -> Any:
    """The model with the harness's weights, and an adapter on all its linear layers for LoRA."""
    if spec["adapter"] == "lora":
        parts = ("query", "key", "value", "projection", "mlp")
        where = {f"lora_{part}": True for part in parts} | {"lora_head": False}
        model = LoraGPT(
            LoraConfig(
                **shape(spec), lora_r=spec["rank"], lora_alpha=spec["alpha"], lora_dropout=0.0, **where
            )
        )
        mark_only_lora_as_trainable(model)
    else:
        model = PlainGPT(PlainConfig(**shape(spec)))
    weights: dict[str, torch.Tensor] = {}
    copy_weights_hf_llama(model.config, {}, weights, load_file(Path(spec["model"]) / "model.safetensors"))
    left = model.load_state_dict(weights, strict=False)
    if left.unexpected_keys or any("lora" not in key for key in left.missing_keys):
        raise SystemExit(f"the weights do not fit: {left}")
    return model


def main() -> None:
    """A turn is one optimizer step over all rows, or those in the `range` of the message."""
    spec = read_spec()
    torch.set_num_threads(spec["threads"])
    torch.manual_seed(0)
    fabric = L.Fabric(devices=1, accelerator="auto", precision="32-true")
    model = fabric.setup_module(load(spec))
    optimizer = instantiate_torch_optimizer(
        "AdamW", model.parameters(), lr=spec["rate"], weight_decay=0.0, fused=True
    )
    optimizer = fabric.setup_optimizers(optimizer)
    rows = read_rows(spec)
    model.max_seq_length = max(len(row["tokens"]) for row in rows)
    collate = get_sft_collate_fn(model.max_seq_length)
    model.train()

    def turn(message: Facts) -> Facts:
        parts = in_parts(rows[slice(*message.get("range", (None,)))], spec["micro"])
        total, count = 0.0, 0
        for at, part in enumerate(parts):
            batch = collate([sample(row) for row in part])
            targets = batch["labels"][..., 1:]
            with fabric.no_backward_sync(model, enabled=at < len(parts) - 1):
                logits = model(batch["input_ids"], lm_head_chunk_size=128)
                logits[-1] = logits[-1][..., :-1, :]
                loss = chunked_cross_entropy(logits, targets)
                fabric.backward(loss / len(parts))
            scored = int((targets != -100).sum())
            total, count = total + loss.item() * scored, count + scored
        optimizer.step()
        optimizer.zero_grad()
        return {"loss": total / count}

    serve(Channel(), turn, "torch", "litgpt", "lightning")


def sample(row: Facts) -> Facts:
    """A row as LitGPT's data sets give it."""
    counts = {"raw": len(row["tokens"]), "raw_plus_prompt_template": len(row["tokens"])}
    return {
        "input_ids": torch.tensor(row["tokens"]),
        "labels": torch.tensor(labels(row)),
        "token_counts": counts,
    }


if __name__ == "__main__":
    main()
