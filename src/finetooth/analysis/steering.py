"""Which validation rows choose the next rows, and which ones judge that choice.

Where a random arm is asked for, the rows to add are chosen by the failures on one half of the validation
rows, and the arms are compared on the other half: on the rows that chose, the chosen ones would be favoured.
"""

from __future__ import annotations

from collections.abc import Sequence

from finetooth.data.split import CLUSTER, split_keys, uniform
from finetooth.types import Example


def steering(examples: Sequence[Example]) -> list[bool]:
    """Of each validation row whether its failure may choose rows; the others judge.

    Half of the rows, and half of those of each answer, as rare ones are where a model fails. Rows of one
    group, and near copies, are on one side.
    """
    keys = split_keys(examples, ("group", CLUSTER))
    rows: dict[str, list[int]] = {}
    for at, key in enumerate(keys):
        rows.setdefault(key, []).append(at)
    chosen = [False] * len(examples)
    ahead = 0  # rows that choose, less those that judge
    for key in sorted(rows, key=lambda key: (examples[rows[key][0]].target, uniform(0, key))):
        chooses = ahead <= 0
        for at in rows[key]:
            chosen[at] = chooses
        ahead += len(rows[key]) if chooses else -len(rows[key])
    return chosen
