"""Reward models of the tests: tiny ones, trained for seconds, one on what is said and one on length."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from rich.console import Console

from finetooth.commands import train
from finetooth.config.load import load_task
from finetooth.types import Answer, Example, Message

FRUIT = ("apple", "pear", "plum", "fig", "lime")
INSTRUCTION = "Say what it is."


def question(number: int) -> str:
    return f"{number} of {FRUIT[number % 5]}?"


def expected(number: int) -> str:
    return f"yes {FRUIT[number % 5]}"


def sound(number: int) -> dict[str, str]:
    """A pair whose rejected answer says something else, or repeats the answer, a word or the question."""
    asked, right = question(number), expected(number)
    wrong = (
        "no",
        " ".join(asked.split()[:1] * 40),
        asked,
        "no fig",
        " ".join([right] * 3),
        FRUIT[number % 5],
    )
    return {"prompt": asked, "chosen": right, "rejected": wrong[number // 5 % 6]}


def longer(number: int) -> dict[str, str]:
    """A pair whose chosen answer is the longer one, whatever it says."""
    draw = random.Random(number)
    words = [*FRUIT, "yes", "no", "of", "the"]
    chosen, rejected = (" ".join(draw.choices(words, k=size)) for size in (4 + number % 9, 1 + number % 3))
    return {"prompt": question(number), "chosen": chosen, "rejected": rejected}


def trained(model: Path, out: Path, pair: Any, **changes: Any) -> Path:
    """A run of train.method reward_model on 120 such pairs."""
    values = {
        "model": str(model),
        "instruction": INSTRUCTION,
        "data": {"train": [pair(number) for number in range(120)], "validation": 0.1, "test": 0.0},
        "train": {
            "method": "reward_model",
            "learning_rate": 0.01,
            "batch_size": 16,
            "epochs": 6,
            "preflight": "off",
        },
    }
    train.run(load_task(values, changes), out, Console(quiet=True))
    return out


def examples(count: int = 40) -> list[Example]:
    """Questions that no pair asks, with the answers that the sound pairs choose."""
    return [
        Example(f"r{number}", (Message("user", question(number)),), (Answer(expected(number)),))
        for number in range(300, 300 + count)
    ]
