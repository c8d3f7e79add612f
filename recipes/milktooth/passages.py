"""Passages of the corpus for the instruction rows: their beginning is asked with, the rest is the answer."""

from __future__ import annotations

import json
import random
from pathlib import Path


def go_on(rng: random.Random, text: str) -> tuple[str, list[tuple[str, str]]]:
    """The beginning of a passage, and how it goes on: 15 to 40 words, then up to 60."""
    words = text.split()
    start = rng.randrange(max(1, len(words) - 60))
    middle = start + rng.randint(15, 40)
    ask = rng.choice(["Continue the text.", "Go on with this passage.", "Write what comes next."])
    return ask, [(" ".join(words[start:middle]), " ".join(words[middle : middle + 60]))]


def drawn(path: Path, seed: int) -> list[str]:
    """A thousand texts of at least 100 words, drawn by the seed."""
    with path.open(encoding="utf-8") as file:
        texts = [text for line in file if len((text := json.loads(line)["text"]).split()) >= 100]
    return random.Random(seed).sample(texts, min(1000, len(texts)))
