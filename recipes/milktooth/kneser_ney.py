"""Bits per byte of a modified Kneser-Ney n-gram model of the same tokens: the bar that milktooth has to pass.

    python recipes/milktooth/kneser_ney.py .staging/milktooth --json .staging/milktooth/kneser_ney.json

counts all rows of train.jsonl and measures heldout/*.jsonl as measure.py does: every token of a row is
predicted, the first one from the beginning token, and the bits are divided by the raw bytes of the text.
The model is interpolated, with three discounts an order (Chen and Goodman, "An empirical study of smoothing
techniques for language modeling", 1999, sections 2.7 and 3.3), over the tokens of milktooth's own tokenizer,
so that nothing is out of vocabulary. About 6 GB and some minutes for 30 million tokens.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
FALLBACK = np.array([0.0, 0.5, 1.0, 1.5])
BEGIN = 0  # the token that every row begins with, and that is never predicted


@dataclass(frozen=True, slots=True)
class Order:
    """The k-grams seen, as children of the (k-1)-grams before their last token.

    keys: (U,) sorted, parent * vocabulary + token; a k-gram's index in it is its number in the next order.
    count: (U,) after discounting. total, left: per parent, the counts before discounting and the share of
    probability that the discounts leave to the shorter context.
    """

    keys: Ints
    count: Floats
    total: Floats
    left: Floats


def discounts(counts: Ints) -> Floats:
    """(4,) what is taken off a count of 0, 1, 2, and 3 or more."""
    seen = [int((counts == times).sum()) for times in (1, 2, 3, 4)]
    if not all(seen):  # every token follows many others: the formula has nothing to go by
        return FALLBACK
    ratio = seen[0] / (seen[0] + 2 * seen[1])
    off = [times - (times + 1) * ratio * seen[times] / seen[times - 1] for times in (1, 2, 3)]
    return np.array([0.0, *off])


def discounted(keys: Ints, counts: Ints, parents: int, vocabulary: int) -> Order:
    """An order from its k-grams' counts; `parents` is the number of (k-1)-grams."""
    off = discounts(counts)[np.minimum(counts, 3)]
    parent = keys // vocabulary
    total = np.bincount(parent, weights=counts, minlength=parents)
    taken = np.bincount(parent, weights=off, minlength=parents)
    return Order(keys, counts - off, total, taken / np.maximum(total, 1))


def after(nodes: Ints, tokens: Ints) -> Ints:
    """(N,) for each position the number of the context that ends before it, -1 where a row begins."""
    return np.where(tokens == BEGIN, -1, np.concatenate([[-1], nodes[:-1]]))


class KneserNey:
    """An n-gram model of rows that begin with BEGIN and have it nowhere else, joined to one array."""

    def __init__(self, tokens: Ints, vocabulary: int, order: int = 5) -> None:
        self.vocabulary = vocabulary
        self.orders: list[Order] = []
        context, parents = np.zeros_like(tokens), 1  # the empty context, before every token
        below: tuple[Ints, Ints, int] | None = None  # keys, raw counts and parents of the order below
        nodes_below = tokens
        for _ in range(order):
            inside = np.flatnonzero(context >= 0)
            keys, first, number, raw = np.unique(
                context[inside] * vocabulary + tokens[inside],
                return_index=True,
                return_inverse=True,
                return_counts=True,
            )
            if below is not None:
                # A shorter n-gram counts the different tokens before it; one that begins a row has none.
                before = np.bincount(nodes_below[inside[first]], minlength=len(below[0]))
                self._add(below[0], np.where(before == 0, below[1], before), below[2])
            nodes = np.full_like(tokens, -1)
            nodes[inside] = number
            below, nodes_below = (keys, raw, parents), nodes
            context, parents = after(nodes, tokens), len(keys)
        assert below is not None
        self._add(*below)

    def _add(self, keys: Ints, counts: Ints, parents: int) -> None:
        if not self.orders:
            counts = np.where(keys == BEGIN, 0, counts)  # never predicted
        self.orders.append(discounted(keys, counts, parents, self.vocabulary))

    def probabilities(self, tokens: Ints) -> Floats:
        """(N,) the probability of each token given those before it in its row; of BEGIN it means nothing."""
        chance = np.full(len(tokens), 1.0 / (self.vocabulary - 1))
        context = np.zeros_like(tokens)
        for order in self.orders:
            known = np.flatnonzero(context >= 0)
            parent = context[known]
            wanted = parent * self.vocabulary + tokens[known]
            place = np.minimum(np.searchsorted(order.keys, wanted), len(order.keys) - 1)
            found = order.keys[place] == wanted
            seen = order.total[parent] > 0
            own = np.where(found, order.count[place], 0.0) / np.maximum(order.total[parent], 1)
            chance[known] = np.where(seen, own + order.left[parent] * chance[known], chance[known])
            nodes = np.full_like(tokens, -1)
            nodes[known] = np.where(found, place, -1)
            context = after(nodes, tokens)
        return chance


def texts(path: Path) -> Iterator[str]:
    """The texts of a .jsonl file; a .txt file is one text."""
    with path.open(encoding="utf-8") as file:
        if path.suffix != ".jsonl":
            yield file.read()
            return
        for line in file:
            yield json.loads(line)["text"]


def joined(rows: Iterable[str], tokenizer: Tokenizer) -> Ints:
    """All rows as one array of token ids, BEGIN before each."""
    parts: list[npt.NDArray[np.int32]] = []
    left = list(rows)
    while left:
        some, left = left[:10_000], left[10_000:]
        parts += [np.array([BEGIN, *code.ids], np.int32) for code in tokenizer.encode_batch_fast(some)]
    return np.concatenate(parts).astype(np.int64)


def measure(model: KneserNey, path: Path, tokenizer: Tokenizer) -> dict[str, float]:
    """bytes, tokens and bits_per_byte of one file."""
    asked = joined(texts(path), tokenizer)
    scored = asked != BEGIN
    bits = -float(np.log2(model.probabilities(asked)[scored]).sum())
    size = sum(len(text.encode()) for text in texts(path))
    return {"bytes": size, "tokens": int(scored.sum()), "bits_per_byte": bits / size}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("staging", type=Path, help="what prepare.py wrote")
    parser.add_argument("--also", type=Path, nargs="*", default=[], help="other texts, outside the total")
    parser.add_argument("--order", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    options = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(options.staging / "model" / "tokenizer.json"))
    tokens = joined(texts(options.staging / "train.jsonl"), tokenizer)
    print(f"{len(tokens):,} tokens to count", flush=True)
    model = KneserNey(tokens, tokenizer.get_vocab_size(), options.order)
    heldout = sorted((options.staging / "heldout").glob("*.jsonl"))
    measured = {path.stem: measure(model, path, tokenizer) for path in [*heldout, *options.also]}
    counted = [measured[path.stem] for path in heldout]
    size = math.fsum(entry["bytes"] for entry in counted)
    bits = math.fsum(entry["bits_per_byte"] * entry["bytes"] for entry in counted)
    measured["all"] = {"bytes": int(size), "bits_per_byte": bits / size}
    for name, entry in measured.items():
        print(f"{name:32} {entry['bits_per_byte']:.4f} bits per byte")
    if options.json:
        options.json.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
