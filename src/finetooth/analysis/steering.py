"""Which validation rows choose the next rows, and which ones judge that choice.

Where a random arm is asked for, the rows to add are chosen by the failures on one half of the validation
rows, and the arms are compared on the other half: on the rows that chose, the chosen ones would be favoured.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from itertools import compress

from finetooth.analysis.answered import AnsweredRow
from finetooth.config.values import format_count
from finetooth.data.split import CLUSTER, split_keys, uniform
from finetooth.errors import ConfigError
from finetooth.evaluation.runner import row_groups
from finetooth.evaluation.statistics import MIN_ROWS
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


def choosing_rows(rows: Sequence[AnsweredRow]) -> list[AnsweredRow]:
    """The half of the validation rows whose failures choose. ConfigError where no comparison could show
    anything.
    """
    chooses = steering([row.example for row in rows])
    choosing = [*compress(rows, chooses)]
    if all(chooses):
        raise ConfigError(
            "--random: the validation rows are one group, so no half of them could judge what the other half "
            "has chosen. Leave out --random, or validate on more groups."
        )
    if not any(row.wrong for row in choosing):
        raise ConfigError(
            f"--random: none of the {format_count(len(choosing), 'validation row')} that would choose is "
            "wrong, so the chosen rows would be random ones as well. Leave out --random."
        )
    return choosing


def halves(rows: Sequence[AnsweredRow], by: Set[str]) -> str:
    """Which rows choose and which judge, and whether these are enough for a verdict."""
    judging = [row.example for row in rows if row.id not in by]
    units = len({*(row_groups(judging) or map(str, range(len(judging))))})
    words = (
        f"The failures of {format_count(len(by), 'validation row')} have chosen the rows of the pool; the "
        f"other {len(judging):,} are to judge whether choosing them has helped. Rows of your own beside them "
        "make that impossible."
    )
    if units < MIN_ROWS:
        words += (
            f" They are {format_count(units, 'independent row')}, and a verdict needs {MIN_ROWS}: it will be "
            '"not proven" without more validation rows.'
        )
    return words
