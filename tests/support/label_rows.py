"""Rows with labels for the tests of the data gate: texts whose label a bag of words mostly tells."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

from finetooth.config.task import DataConfig
from finetooth.quality.findings import View
from finetooth.types import Answer, Example, Message

SYLLABLES = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
LABELS = ("billing", "delivery", "returns", "technical")


def words(rng: random.Random, count: int) -> list[str]:
    """Different made-up words."""
    found: dict[str, None] = {}
    while len(found) < count:
        found["".join(rng.choices(SYLLABLES, k=3))] = None
    return list(found)


def row(text: str, answer: str, at: int = 0, **tags: str) -> Example:
    """An example of a question and an answer."""
    return Example(f"r{at}", (Message("user", text),), (Answer(answer),), tags)


def topics(
    rows: int, labels: Sequence[str] = LABELS, seed: int = 0, own: float = 0.45, shares: Sequence[float] = ()
) -> list[Example]:
    """Rows of 10 words, each with the chance `own` one of its label's 40, else one of 100 that all share."""
    rng = random.Random(seed)
    pool = words(rng, 100 + 40 * len(labels))
    common = pool[40 * len(labels) :]
    mine = {label: pool[40 * at : 40 * at + 40] for at, label in enumerate(labels)}
    result = []
    for at in range(rows):
        label = rng.choices(labels, shares or None)[0]
        text = " ".join(rng.choice(mine[label] if rng.random() < own else common) for _ in range(10))
        result.append(row(text, label, at))
    return result


def flipped(
    rows: Sequence[Example], share: float, seed: int = 0, to: Mapping[str, str] | None = None
) -> tuple[list[Example], set[str]]:
    """The rows with a share of their labels wrong, and the ids of those; to: which label becomes which."""
    rng = random.Random(seed)
    labels = sorted({example.target for example in rows})
    result, wrong = [], set()
    for example in rows:
        other = (
            to.get(example.target) if to else rng.choice([name for name in labels if name != example.target])
        )
        if other and rng.random() < share:
            wrong.add(example.id)
            example = replace(example, answers=(Answer(other),))
        result.append(example)
    return result, wrong


def view(
    train: Sequence[Example], format: str = "labels", test: Sequence[Example] = (), **config: str
) -> View:
    """What rules look at."""
    return View({"train": train, "test": test}, format, DataConfig(train="rows.jsonl", **config))
