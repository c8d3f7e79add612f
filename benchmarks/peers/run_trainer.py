"""transformers' Trainer and TRL's SFTTrainer. Their loops cannot be stepped from outside: a callback waits.

The wait is in on_log, which comes last in a step (loss logged, weights updated), so what is timed from one
turn to the next is everything the trainer does for a step: collating, forward, backward, clipping, update.
"""

from __future__ import annotations

import tempfile
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from protocol import Channel, Facts, labels, read_rows, read_spec
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)


class Turns(TrainerCallback):  # type: ignore[misc]
    """Waits for the harness before every step and tells it the logged loss after it."""

    def __init__(self, channel: Channel, packages: tuple[str, ...]) -> None:
        self.channel, self.packages = channel, packages

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Everything is loaded."""
        self.channel.ready(*self.packages)
        self.channel.wait()

    def on_log(self, args: Any, state: Any, control: Any, logs: Facts, **_: Any) -> None:
        """A step has ended."""
        if "loss" in logs:
            self.channel.answer({"loss": float(logs["loss"]), "grad_norm": float(logs["grad_norm"])})
            if self.channel.wait() is None:
                control.should_training_stop = True


def settings(spec: Facts, folder: str, rows: int) -> Facts:
    """The arguments that both trainers share. The fused optimizer and no checkpointing: their fastest."""
    return {
        "output_dir": folder,
        "per_device_train_batch_size": spec["micro"],
        "gradient_accumulation_steps": -(-rows // spec["micro"]),
        "num_train_epochs": 10_000,
        "learning_rate": spec["rate"],
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "optim": "adamw_torch_fused",
        "train_sampling_strategy": spec.get("order", "sequential"),
        "gradient_checkpointing": False,
        "bf16": False,
        "use_cpu": not torch.cuda.is_available(),
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def lora(spec: Facts) -> LoraConfig:
    """The same adapter as everywhere: all linear layers but the output head."""
    return LoraConfig(
        r=spec["rank"],
        lora_alpha=spec["alpha"],
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def plain(spec: Facts, model: Any, tokenizer: Any, data: Dataset, folder: str, turns: Turns) -> Trainer:
    """transformers' Trainer, padding each micro-batch to its longest row."""
    if spec["adapter"] == "lora":
        model = get_peft_model(model, lora(spec))
    collator = DataCollatorForSeq2Seq(tokenizer, padding=True, label_pad_token_id=-100)
    args = TrainingArguments(**settings(spec, folder, len(data)))
    return Trainer(
        model, args, train_dataset=data, data_collator=collator, processing_class=tokenizer, callbacks=[turns]
    )


def trl(spec: Facts, model: Any, tokenizer: Any, data: Dataset, folder: str, turns: Turns) -> Trainer:
    """TRL's SFTTrainer on tokenised rows with labels, padded or packed (best fit, positions restarted)."""
    from trl import SFTConfig, SFTTrainer
    from trl.data_utils import pack_dataset

    packing = spec.get("packing")
    count = len(pack_dataset(data, packing, "bfd")) if packing else len(data)
    args = SFTConfig(**settings(spec, folder, count), packing=bool(packing), max_length=packing)
    return SFTTrainer(
        model,
        args,
        train_dataset=data,
        processing_class=tokenizer,
        peft_config=lora(spec) if spec["adapter"] == "lora" else None,
        callbacks=[turns],
    )


def main() -> None:
    """Train until the harness wants no more."""
    spec = read_spec()
    torch.set_num_threads(spec["threads"])
    torch.manual_seed(0)
    channel = Channel()
    rows = read_rows(spec)
    data = Dataset.from_dict(
        {"input_ids": [row["tokens"] for row in rows], "labels": [labels(row) for row in rows]}
    )
    tokenizer = AutoTokenizer.from_pretrained(spec["model"])
    model = AutoModelForCausalLM.from_pretrained(spec["model"], dtype=torch.float32)
    packages = ("torch", "transformers", "peft", "accelerate", "trl")
    make = trl if spec["system"].startswith("trl") else plain
    with tempfile.TemporaryDirectory() as folder:
        make(spec, model, tokenizer, data, folder, Turns(channel, packages)).train()
    channel.close()


if __name__ == "__main__":
    main()
