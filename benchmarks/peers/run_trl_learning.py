"""TRL's GRPOTrainer and DPOTrainer, on given answers or, in task `sampled`, on those it samples itself.

Given answers reach GRPOTrainer by its `rollout_func`, which takes the place of generation and of nothing
else; its log-probabilities, loss and update run as they are. What each trainer has tokenised is compared with
the rows before the first step.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from typing import Any

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"  # rollout_func is called experimental

import torch
from datasets import Dataset
from peft import PeftModel
from protocol import Channel, Facts, even_share, read_rows, read_spec
from run_trainer import Turns, settings
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer
from trl.trainer import utils

EPOCH = 1000  # times that the prompts are repeated, so that no epoch ends while steps are timed


def context(row: Facts) -> list[int]:
    """The prompt of a row."""
    return [token for token, scored in zip(row["tokens"], row["scored"], strict=True) if not scored]


def answer(row: Facts) -> list[int]:
    """The answer of a row."""
    return [token for token, scored in zip(row["tokens"], row["scored"], strict=True) if scored]


def in_groups(rows: Sequence[Facts]) -> list[list[Facts]]:
    """The rows of each prompt."""
    groups: dict[int, list[Facts]] = {}
    for row in rows:
        groups.setdefault(row["group"], []).append(row)
    return list(groups.values())


def rewarded(spec: Facts, folder: str, model: Any, tokenizer: Any, turns: Turns) -> GRPOTrainer:
    """GRPO with TRL's defaults: a mean over tokens, advantages over the group's deviation, no KL."""
    rows = read_rows(spec)
    groups = in_groups(rows)
    texts = [tokenizer.decode(context(group[0])) for group in groups]
    assert [tokenizer(text)["input_ids"] for text in texts] == [context(group[0]) for group in groups]
    worth = {tuple(answer(row)): row["worth"] for row in rows}
    sampled = spec["task"] == "sampled"

    def given(prompts: list[str], trainer: Any) -> Facts:
        seen: Counter[str] = Counter()
        found: Facts = {"prompt_ids": [], "completion_ids": [], "logprobs": None}
        for prompt in prompts:
            group = groups[texts.index(prompt)]
            row = group[seen[prompt] % len(group)]
            seen[prompt] += 1
            found["prompt_ids"].append(context(row))
            found["completion_ids"].append(answer(row))
        return found

    def reward(completions: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
        if sampled:
            assert all(len(tokens) == len(answer(rows[0])) for tokens in completion_ids)
            return [even_share(text) for text in completions]
        return [worth[tuple(tokens)] for tokens in completion_ids]

    longest = len(answer(rows[0]))
    args = GRPOConfig(
        **settings(spec, folder, len(rows)),
        num_generations=len(groups[0]),
        max_completion_length=longest,
        generation_kwargs={"min_new_tokens": longest} if sampled else None,
        shuffle_dataset=False,
    )
    return GRPOTrainer(
        model,
        reward,
        args,
        train_dataset=Dataset.from_list([{"prompt": text} for text in texts] * EPOCH),
        processing_class=tokenizer,
        callbacks=[turns],
        rollout_func=None if sampled else given,
    )


def preferred(spec: Facts, folder: str, model: Any, tokenizer: Any, turns: Turns) -> DPOTrainer:
    """DPO; the reference's log-probabilities once before the first step, or (TRL's default) in every step."""
    pairs = [sorted(group, key=lambda row: -row["worth"]) for group in in_groups(read_rows(spec))]
    data = [
        {
            "prompt": tokenizer.decode(context(chosen)),
            "chosen": " " + tokenizer.decode(answer(chosen)),
            "rejected": " " + tokenizer.decode(answer(rejected)),
        }
        for chosen, rejected in pairs
    ]
    args = DPOConfig(
        **settings(spec, folder, len(pairs)),
        beta=spec["beta"],
        precompute_ref_log_probs=not spec.get("reference_each_step", False),
    )
    trainer = DPOTrainer(
        model,
        args=args,
        train_dataset=Dataset.from_list(data),
        processing_class=tokenizer,
        callbacks=[turns],
    )
    for made, (chosen, rejected) in zip(trainer.train_dataset, pairs, strict=True):
        assert made["prompt_ids"] == context(chosen)
        assert [made["chosen_ids"], made["rejected_ids"]] == [answer(chosen), answer(rejected)]
    return trainer


def main() -> None:
    """Train until the harness wants no more."""
    spec = read_spec()
    torch.set_num_threads(spec["threads"])
    channel = Channel()
    tokenizer = AutoTokenizer.from_pretrained(spec["model"])
    model = AutoModelForCausalLM.from_pretrained(spec["model"], dtype=torch.float32)
    if spec["adapter"] == "lora":
        model = PeftModel.from_pretrained(model, spec["start"], is_trainable=True)
    if spec.get("answers_only"):
        utils._use_triton = lambda device: True  # what chooses, in TRL, to take the head at answers alone
    turns = Turns(channel, ("torch", "transformers", "peft", "accelerate", "trl"))
    make = preferred if spec["task"] == "preferred" else rewarded
    with tempfile.TemporaryDirectory() as folder:
        make(spec, folder, model, tokenizer, turns).train()
    channel.close()


if __name__ == "__main__":
    main()
