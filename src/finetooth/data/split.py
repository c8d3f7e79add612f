"""Which side an example is on: decided by a hash, so that adding rows moves none, and checked for leaks."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations

from finetooth.data.examples import normalised_context
from finetooth.types import Example

SIDES = ("train", "validation", "test")
SHOWN = 5


def uniform(seed: int, key: str) -> float:
    """A number in [0, 1) that depends on the seed and the key alone."""
    digest = hashlib.sha256(f"{seed}\0{key}".encode()).digest()
    return float(int.from_bytes(digest[:8], "big") / 2**64)


def split_keys(examples: Sequence[Example]) -> list[str]:
    """For each example the text that decides its side.

    It is the normalised context; examples linked by a group or by the same context share one, so that
    neither copies nor groups ever straddle two sides.
    """
    contexts = [normalised_context(example) for example in examples]
    if not any("group" in example.tags for example in examples):
        return contexts
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while parent.setdefault(key, key) != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for example, context in zip(examples, contexts, strict=True):
        if "group" in example.tags:
            # The smaller name wins, and "group" sorts before "same": the key of a lone group is its name.
            low, high = sorted((root(f"group\0{example.tags['group']}"), root(f"same\0{context}")))
            parent[high] = low
    return [root(f"same\0{context}") for context in contexts]


def split(
    examples: Sequence[Example], keys: Sequence[str], seed: int, test: float, validation: float
) -> dict[str, list[Example]]:
    """Sides of the examples, in their order: test where uniform < test, then validation, the rest train.

    keys: what decides the side of each; examples of one key are never apart.
    """
    sides: dict[str, list[Example]] = {side: [] for side in SIDES}
    for example, key in zip(examples, keys, strict=True):
        at = uniform(seed, key)
        side = "test" if at < test else "validation" if at < test + validation else "train"
        sides[side].append(example)
    return sides


def leaks(sides: Mapping[str, Sequence[Example]], groups: bool) -> list[tuple[str, Example, str, Example]]:
    """(side, example, later side, example): every row of the later side whose normalised context is on the
    other one too, each once, with the first that has it there.

    groups: examples of one group on two sides are leaks as well.
    """
    keys: dict[str, list[list[str]]] = {}
    first: dict[str, dict[str, Example]] = {}
    for side, examples in sides.items():
        keys[side] = [_same(example, groups) for example in examples]
        first[side] = {}
        for example, own in zip(examples, keys[side], strict=True):
            for key in own:
                first[side].setdefault(key, example)
    return [
        (one, first[one][shared], other, example)
        for one, other in combinations(sides, 2)
        for example, own in zip(sides[other], keys[other], strict=True)
        if (shared := next((key for key in own if key in first[one]), None)) is not None
    ]


def _same(example: Example, groups: bool) -> list[str]:
    """What a row shares with those that must be on its side: its context and, with groups, its group."""
    group = [f"group\0{example.tags['group']}"] if groups and "group" in example.tags else []
    return [normalised_context(example), *group]


def label_notes(sides: Mapping[str, Sequence[Example]]) -> list[str]:
    """Warnings where a side's label shares differ from the training rows' by more than chance explains.

    More than chance: beyond 4 standard errors of the difference and 5 points. Labels that training rows do
    not have are the business of the rule `unseen-label`.
    """
    counts = {
        side: Counter(example.tags["label"] for example in examples if "label" in example.tags)
        for side, examples in sides.items()
    }
    train = counts["train"]
    notes = []
    for side in [side for side in sides if side != "train" and counts[side]]:
        size, total = train.total(), counts[side].total()
        for label, count in sorted(train.items()):
            share, other = count / size, counts[side][label] / total
            pooled = (count + counts[side][label]) / (size + total)
            error = math.sqrt(pooled * (1 - pooled) * (1 / size + 1 / total))
            if abs(share - other) > max(0.05, 4 * error):
                notes.append(f"{label!r} is {share:.0%} of train but {other:.0%} of {side}.")
    return notes
