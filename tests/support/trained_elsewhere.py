"""A LoRA adapter trained by transformers and PEFT alone, and its merged model: nothing of finetooth in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer


def asked(tokenizer: Any, question: str) -> list[int]:
    """The prompt of a question by transformers' own rendering of the chat template."""
    turns = [{"role": "user", "content": question}]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def train_adapter(base: Path, rows: Sequence[tuple[str, str]], out: Path, steps: int = 12) -> Path:
    """Write a LoRA adapter of the base, trained on (question, answer) rows, as PEFT saves it."""
    torch.manual_seed(0)
    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    config = LoraConfig(r=4, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    model: Any = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config)
    optimizer = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], lr=0.02)
    for _ in range(steps):
        for question, answer in rows:
            context = asked(tokenizer, question)
            ids = [*context, *tokenizer(answer + "<|im_end|>", add_special_tokens=False)["input_ids"]]
            labels = torch.tensor([[-100] * len(context) + ids[len(context) :]])
            (model(input_ids=torch.tensor([ids]), labels=labels).loss / len(rows)).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(out)
    return out


def merged(base: Path, adapter: Path, out: Path) -> Path:
    """Write the merged model with the base's tokenizer, as transformers and PEFT do it."""
    model: Any = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter
    )
    model.merge_and_unload().save_pretrained(out)
    AutoTokenizer.from_pretrained(base).save_pretrained(out)
    return out


def greedy(base: Path, adapter: Path, questions: Sequence[str], max_tokens: int) -> list[str]:
    """The answers of transformers' own greedy generation, with PEFT's own forward pass."""
    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    model: Any = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter
    ).eval()
    answers = []
    for question in questions:
        ids = torch.tensor([asked(tokenizer, question)])
        with torch.no_grad():
            out = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=max_tokens,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        answers.append(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))
    return answers
