"""Rows a second of `finetooth predict` beside a plain transformers loop, on the same rows and model.

    python benchmarks/predict.py --model milktooth --rows 10000 --out predict.json

Two cases: free text, where all answer greedily with up to --tokens tokens, and labels, where finetooth
chooses among eight labels and the loops generate an answer as long as a label. Loops: `generate` for one row
at a time, and for padded batches of --batch rows. Everything from the text of a row to the text of its answer
counts; loading does not.

The rows are cut into rounds. In each round every system answers the same rows, one system after the other,
in turned order, so that interference affects all alike; with --loop-rows the loops, whose time for a row
does not depend on how many there are, answer only so many in all. A ratio is the median over the rounds.
The script does not make the machine idle: it stores the load average and warns above 0.5.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer

from finetooth.config.task import EMBEDDED
from finetooth.data.formats.questions import Question
from finetooth.data.hub import model_directory
from finetooth.runs import asking as asks
from finetooth.runs.predictions import answer_rows
from finetooth.types import Example, Message, Sampling

SYSTEM = "You sort the mail of a shop. Name the team that should get the message, and nothing else."
LABELS = ("billing", "delivery", "account", "returns", "products", "complaints", "orders", "other")
STARTS = ("I was charged twice for", "Where is", "I cannot open", "Please cancel", "Who can tell me about")
THINGS = ("my order", "the parcel from last week", "the invoice for June", "my account", "the blue lamp")
ENDS = ("since Monday.", "please.", "and nobody answers the phone.", "although I paid.", "again!")
PARTS = (STARTS, THINGS, ENDS)


def texts(count: int, seed: int = 0) -> list[str]:
    """Short messages, no two alike."""
    draw = random.Random(seed)
    return [f"{' '.join(map(draw.choice, PARTS))} Number {n}." for n in range(count)]


def finetooth(asking: asks.Asking, rows: Sequence[str]) -> list[str]:
    """The answers of `predict`."""
    messages = [(Message("user", text),) for text in rows]
    questions = [Question(n, f"row {n}", Example(str(n), context, ())) for n, context in enumerate(messages)]
    found = dict(answer_rows(asking, questions))
    return [found[n].answer or "" for n in range(len(rows))]


def loop(model: Any, tokenizer: Any, tokens: int, batch: int, rows: Sequence[str]) -> list[str]:
    """The answers of transformers' `generate`, for `batch` rows at a time, padded on the left."""
    answers = []
    for start in range(0, len(rows), batch):
        chats = [
            [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]
            for text in rows[start : start + batch]
        ]
        given = tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        )
        with torch.inference_mode():
            out = model.generate(**given, max_new_tokens=tokens, do_sample=False)
        new = out[:, given["input_ids"].shape[1] :]
        answers += tokenizer.batch_decode(new, skip_special_tokens=True)
    return answers


def systems(
    name: str, labels: bool, tokens: int, batch: int
) -> dict[str, Callable[[Sequence[str]], list[str]]]:
    """Each system by its name, loaded and ready to answer rows."""
    asking, _ = asks.of_target(name, Console(quiet=True))
    candidate = asking.candidate
    sampling = Sampling(max_tokens=tokens)
    chosen = LABELS if labels else None
    asking = replace(asking, system=SYSTEM, candidate=replace(candidate, sampling=sampling, labels=chosen))
    if labels:
        tokens = max(len(candidate.renderer.answer_ids([Message("user", "?")], label)) for label in LABELS)
    directory = model_directory(name) if name in EMBEDDED else Path(name)
    tokenizer = AutoTokenizer.from_pretrained(directory, padding_side="left", trust_remote_code=False)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, trust_remote_code=False)
    model.generation_config.eos_token_id = sorted(candidate.model.stop_ids)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return {
        "finetooth": lambda rows: finetooth(asking, rows),
        "transformers": lambda rows: loop(model, tokenizer, tokens, 1, rows),
        f"transformers, {batch} rows padded": lambda rows: loop(model, tokenizer, tokens, batch, rows),
    }


def measure(case: str, given: argparse.Namespace) -> dict[str, Any]:
    """Rows a second of every system, the ratios, and how many answers are equal to those of the loop."""
    named = systems(given.model, case == "labels", given.tokens, given.batch)
    rows, names = texts(given.rows), list(named)
    size = -(-len(rows) // given.rounds)
    looped = max(given.batch, -(-(given.loop_rows or len(rows)) // given.rounds))
    seconds: dict[str, list[float]] = {name: [] for name in names}
    equal: dict[str, int] = dict.fromkeys(names, 0)
    for name in names:  # the first call builds what is kept
        named[name](rows[:4])
    for number in range(given.rounds):
        part = rows[number * size : (number + 1) * size]
        answers: dict[str, list[str]] = {}
        for name in (names if number % 2 else names[::-1]) if part else ():
            asked = part if name == names[0] else part[:looped]
            begun = time.perf_counter()
            answers[name] = named[name](asked)
            seconds[name].append((time.perf_counter() - begun) / len(asked))
        for name, found in answers.items():
            equal[name] += sum(map(str.__eq__, found, answers.get("transformers", ())))
    ratios = {
        name: statistics.median(map(float.__truediv__, seconds[name], seconds["finetooth"])) for name in names
    }
    return {
        "rows_per_second": {name: 1 / statistics.median(seconds[name]) for name in names},
        "times_finetooth": ratios,
        "equal_to_transformers": equal if case == "free" else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="milktooth", help="milktooth, or the directory of a model")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--loop-rows", type=int, help="rows that the loops answer, default: all")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=16, help="longest free answer")
    parser.add_argument("--batch", type=int, default=16, help="rows of a padded batch")
    parser.add_argument("--cases", nargs="+", choices=("free", "labels"), default=("free", "labels"))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    load = os.getloadavg()[0]
    if load > 0.5:
        print(
            f"warning: the load average is {load:.1f}; the figures are not those of a quiet machine",
            file=sys.stderr,
        )
    result = {"model": given.model, "rows": given.rows, "threads": torch.get_num_threads(), "load": load}
    result |= {case: measure(case, given) for case in given.cases}
    text = json.dumps(result, indent=2)
    print(text)
    if given.out:
        given.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
