"""Bits per byte of a model directory on texts that it was not trained on.

    python recipes/milktooth/measure.py MODEL .staging/milktooth/heldout/*.jsonl --json measured.json

FILE is .jsonl with {"text": ...} rows, or .txt or .txt.gz, whose lines are joined into rows of up to
--row-tokens tokens: what lies in front of a row is not seen. The number is the sum of -log2 p(token) over all
tokens of a text, the first one included (it is predicted from the beginning token), by the raw UTF-8 bytes of
the text: comparable between tokenizers. A lower number is better; no end token is counted.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
from collections.abc import Iterator
from pathlib import Path

import torch

from finetooth.errors import ModelError
from finetooth.model.api import Model
from finetooth.tree import Row, microtrees

BUDGET = 8192  # tokens computed at once


def texts(path: Path) -> Iterator[str]:
    """The file's texts in order; of a .txt file its lines, line ends kept."""
    with (
        gzip.open(path, "rt", encoding="utf-8")
        if path.suffix == ".gz"
        else path.open(encoding="utf-8") as file
    ):
        for line in file:
            yield json.loads(line)["text"] if path.suffix == ".jsonl" else line


def rows(path: Path, model: Model, longest: int) -> tuple[list[Row], int]:
    """The file as scored rows of at most `longest` tokens, and its size in bytes.

    A row of a .jsonl file never continues the one before it; lines of a .txt file are joined.
    """
    tokenizer = model.tokenizer
    if tokenizer is None or tokenizer.bos_token_id is None:
        raise ModelError("Measuring needs a tokenizer with a beginning token.")
    size, step = 0, longest - 1
    filled: list[list[int]] = []
    for text in texts(path):
        size += len(text.encode("utf-8"))
        ids = tokenizer.encode(text)
        if path.suffix != ".jsonl" and filled and len(filled[-1]) + len(ids) <= step:
            filled[-1] += ids
        else:
            filled += [ids[start : start + step] for start in range(0, len(ids), step)]
    start = tokenizer.bos_token_id
    return [Row([start, *ids], [0.0] + [1.0] * len(ids)) for ids in filled if ids], size


def measure(path: Path, model: Model, longest: int) -> dict[str, float]:
    """bytes, tokens and bits_per_byte of one file."""
    scored, size = rows(path, model, longest)
    nats = 0.0
    with torch.inference_mode():
        for first in range(0, len(scored), 32):
            for tree in microtrees(scored[first : first + 32], BUDGET):
                nats -= float(model.logprobs(tree).double().sum())
    tokens = sum(len(row.tokens) - 1 for row in scored)
    return {"bytes": size, "tokens": tokens, "bits_per_byte": nats / math.log(2) / size}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", help="a model directory, or milktooth")
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--row-tokens", type=int, default=512, help="the longest row, as trained")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    options = parser.parse_args()
    model = Model.load(options.model, device=options.device)
    measured = {}
    for path in options.files:
        name = path.name.partition(".")[0]
        measured[name] = measure(path, model, min(options.row_tokens, model.max_tokens))
        print(f"{name:32} {measured[name]['bits_per_byte']:.4f} bits per byte", flush=True)
    if options.json:
        options.json.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
