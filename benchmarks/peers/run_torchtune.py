"""torchtune's modules: its Llama builders, LoRA and chunked loss, stepped as its recipes do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from protocol import Channel, Facts, in_parts, labels, read_rows, read_spec, serve
from safetensors.torch import load_file
from torchtune.data import padded_collate_sft
from torchtune.models.convert_weights import hf_to_tune
from torchtune.models.llama2 import llama2, lora_llama2
from torchtune.modules.loss import CEWithChunkedOutputLoss
from torchtune.modules.peft import get_adapter_params, set_trainable_params
from torchtune.training import scale_grads


def load(spec: Facts) -> Any:
    """The model with the harness's weights, and an adapter on all its linear layers for LoRA."""
    given = spec["shape"]
    shape = {
        "vocab_size": given["vocab_size"],
        "num_layers": given["num_hidden_layers"],
        "num_heads": given["num_attention_heads"],
        "num_kv_heads": given["num_key_value_heads"],
        "embed_dim": given["hidden_size"],
        "max_seq_len": given["max_position_embeddings"],
        "intermediate_dim": given["intermediate_size"],
        "norm_eps": given["rms_norm_eps"],
    }
    if spec["adapter"] == "lora":
        where = ["q_proj", "k_proj", "v_proj", "output_proj"]
        model = lora_llama2(
            where, True, False, **shape, lora_rank=spec["rank"], lora_alpha=spec["alpha"], lora_dropout=0.0
        )
        set_trainable_params(model, get_adapter_params(model))
    else:
        model = llama2(**shape)
    weights = hf_to_tune(
        load_file(Path(spec["model"]) / "model.safetensors"),
        num_heads=given["num_attention_heads"],
        num_kv_heads=given["num_key_value_heads"],
        dim=given["hidden_size"],
    )
    left = model.load_state_dict(weights, strict=False)
    if left.unexpected_keys or any("lora" not in key for key in left.missing_keys):
        raise SystemExit(f"the weights do not fit: {left}")
    return model


def main() -> None:
    """A turn is one optimizer step over all rows, accumulated over micro-batches."""
    spec = read_spec()
    torch.set_num_threads(spec["threads"])
    torch.manual_seed(0)
    model = load(spec).train()
    loss_of = CEWithChunkedOutputLoss()
    model.set_num_output_chunks(loss_of.num_output_chunks)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=spec["rate"], weight_decay=0.0, fused=True)
    rows = [{"tokens": row["tokens"], "labels": labels(row)} for row in read_rows(spec)]

    def turn(_: Facts) -> Facts:
        total, count = 0.0, 0
        for part in in_parts(rows, spec["micro"]):
            batch = padded_collate_sft(part, padding_idx=0, ignore_idx=loss_of.ignore_index)
            target = torch.nn.functional.pad(batch["labels"][:, 1:], (0, 1), value=loss_of.ignore_index)
            scored = int((target != loss_of.ignore_index).sum())
            loss = loss_of(model(batch["tokens"]), target) * scored
            loss.backward()
            total, count = total + loss.item(), count + scored
        scale_grads(model, torch.tensor(1 / count))
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return {"loss": total / count, "grad_norm": float(norm)}

    serve(Channel(), turn, "torch", "torchtune", "torchao")


if __name__ == "__main__":
    main()
