"""The whole way as a straightforward script goes it: TRL's SFTTrainer, then stock `generate`.

It gets rows and prompts as token ids, so it spends no time on splitting or rendering.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from protocol import Channel, Facts, labels, read_spec
from run_stock import until_stop
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer


def train(spec: Facts, model: Any, tokenizer: Any) -> Any:
    """The tuned model, from the same rows, number of epochs, rows a step and peak learning rate."""
    rows = spec["train"]
    data = Dataset.from_dict(
        {"input_ids": [row["tokens"] for row in rows], "labels": [labels(row) for row in rows]}
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            output_dir=folder,
            per_device_train_batch_size=spec["micro"],
            gradient_accumulation_steps=max(1, spec["batch_size"] // spec["micro"]),
            num_train_epochs=spec["epochs"],
            learning_rate=spec["learning_rate"],
            lr_scheduler_type="cosine",
            warmup_steps=0.05,  # a share of all steps
            optim="adamw_torch_fused",
            train_sampling_strategy="group_by_length",
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=not torch.cuda.is_available(),
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            max_length=None,
        )
        adapter = LoraConfig(r=spec["rank"], lora_alpha=2 * spec["rank"], lora_dropout=0.0,
                             target_modules="all-linear", task_type="CAUSAL_LM")  # fmt: skip
        trainer = SFTTrainer(
            model, arguments, train_dataset=data, processing_class=tokenizer, peft_config=adapter
        )
        trainer.train()
        return trainer.model


def answer(spec: Facts, model: Any, tokenizer: Any, contexts: list[list[int]]) -> list[str]:
    """Greedy answers, rows of like length in a batch."""
    order = sorted(range(len(contexts)), key=lambda row: len(contexts[row]))
    found = [""] * len(contexts)
    pad, stop = spec["stop"], spec["stop"]
    for start in range(0, len(order), spec["batch"]):
        part = order[start : start + spec["batch"]]
        longest = max(len(contexts[row]) for row in part)
        empty = [longest - len(contexts[row]) for row in part]
        out = model.generate(
            input_ids=torch.tensor(
                [[pad] * gap + contexts[row] for gap, row in zip(empty, part, strict=True)]
            ),
            attention_mask=torch.tensor([[0] * gap + [1] * (longest - gap) for gap in empty]),
            do_sample=False,
            max_new_tokens=spec["max_tokens"],
            pad_token_id=pad,
            eos_token_id=stop,
        )
        for row, tokens in zip(part, out[:, longest:].tolist(), strict=True):
            found[row] = tokenizer.decode(until_stop(tokens, stop), skip_special_tokens=True).strip()
    return found


def main() -> None:
    """Train, answer, and say what each took."""
    spec, channel, seconds = read_spec(), Channel(), {}

    @contextlib.contextmanager
    def timed(name: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        seconds[name] = time.perf_counter() - begun

    torch.set_num_threads(spec["threads"])
    torch.manual_seed(0)
    with timed("load"):
        tokenizer = AutoTokenizer.from_pretrained(spec["model"])
        model = AutoModelForCausalLM.from_pretrained(spec["model"], dtype=torch.float32)
    with timed("train"):
        model = train(spec, model, tokenizer)
    model.eval()
    score = {}
    with timed("answer"), torch.inference_mode():
        for name, asked in spec["questions"].items():
            with contextlib.nullcontext() if asked["tuned"] else model.disable_adapter():
                said = answer(spec, model, tokenizer, asked["contexts"])
            score[name] = sum(a == b for a, b in zip(said, asked["want"], strict=True)) / len(said)
    channel.tell({"seconds": seconds, "score": score})
    channel.close()


if __name__ == "__main__":
    main()
