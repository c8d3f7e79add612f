"""The cases with a real base model and real rows: instructions with answers, and labels behind a long prompt.

The rows are rendered once, by finetooth with the model's own chat template, and every system gets their ids.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from finetooth.data.render.renderer import Renderer
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.types import Answer, Example, Message
from sidebyside.models import SHAPE
from sidebyside.rows import Tokens
from sidebyside.training import ROWS_A_STEP, TrainingCase

INSTRUCTIONS = "dolly_flan_6400/google_flan-t5-base_decode_output.jsonl"
INTENTS = "clinc150/data_small.json"
MOST = 1024  # tokens of a row


def shape_of(model: Path) -> dict[str, int]:
    """The sizes of a model as the floor of operations wants them."""
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    return {name: int(config[name]) for name in SHAPE}


def stop_and_padding(model: Path) -> dict[str, int]:
    """The token that ends an answer, and one to pad with."""
    tokenizer = Tokenizer.load(model)
    stop = Renderer(tokenizer).stop_id
    return {"stop": stop, "padding": stop}


def real_cases(model: Path, data: Path) -> dict[str, TrainingCase]:
    """16 instruction rows in the order of the file, and 16 requests behind a list of all 150 intents."""
    return {
        "real-instructions": TrainingCase(
            "dolly_flan instruction rows, LoRA", scored_rows(model, instructions(data)), "lora"
        ),
        "real-labels": TrainingCase(
            "clinc150, all 150 labels in the system prompt, LoRA",
            scored_rows(model, intents(data, "train")),
            "lora",
        ),
    }


def scored_rows(model: Path, examples: Sequence[Example]) -> list[Tokens]:
    """The first rows of a step, answers scored."""
    renderer = Renderer(Tokenizer.load(model))
    rows = [row for example in examples for row in renderer.rows(example)]
    kept = [row for row in rows if len(row) <= MOST][:ROWS_A_STEP]
    return [Tokens(row.tokens.tolist(), (row.weight > 0).astype(int).tolist()) for row in kept]


def real_contexts(model: Path, data: Path, count: int) -> list[list[int]]:
    """Test requests behind the same system prompt, up to the answer."""
    renderer = Renderer(Tokenizer.load(model))
    return [renderer.context_row(one.context).tokens.tolist() for one in intents(data, "test")[:count]]


def instructions(data: Path) -> list[Example]:
    """The first 64 instructions with the reference answer."""
    found = []
    with (data / INSTRUCTIONS).open(encoding="utf-8") as file:
        for number, line in zip(range(64), file, strict=False):
            row = json.loads(line)
            asked = (Message("user", row["instruction"]),)
            found.append(Example(str(number), asked, (Answer(row["text"]),)))
    return found


def intents(data: Path, side: str) -> list[Example]:
    """All requests of a side of clinc150, in random order."""
    rows: Any = json.loads((data / INTENTS).read_text(encoding="utf-8"))
    labels = sorted({label for _, label in rows["train"]})
    system = Message("system", "Name the intent of the request: one of " + ", ".join(labels) + ".")
    order = np.random.default_rng(0).permutation(len(rows[side]))
    return [
        Example(str(at), (system, Message("user", rows[side][at][0])), (Answer(rows[side][at][1]),))
        for at in order.tolist()
    ]
