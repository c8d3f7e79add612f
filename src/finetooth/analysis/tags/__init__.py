"""Deterministic detectors of what is wrong with an answer, each with its evidence. Nothing is downloaded.

A tag that holds of the training answers is no sign of an error in this task: the tags are tried on training
answers that they know nothing of, and are silent where more than QUIET of those have them.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from finetooth.analysis.answered import AnsweredRow
from finetooth.analysis.tags import figures, form, labels, length, manner, names, repetition, spelling
from finetooth.analysis.tags.base import Evidence, Tag, TagContext, has_source
from finetooth.types import Example

__all__ = ["QUIET", "TAGS", "Evidence", "Tag", "TagContext", "gold_rows", "silent_tags", "tag_rows"]

QUIET = 0.03  # share of training answers from which a tag is silent, if they are two or more

TAGS: tuple[Tag, ...] = (
    *form.TAGS,
    *labels.TAGS,
    *length.TAGS,
    *repetition.TAGS,
    *manner.TAGS,
    *figures.TAGS,
    *names.TAGS,
    *spelling.TAGS,
)


def tag_rows(
    rows: Sequence[AnsweredRow], context: TagContext, more: Sequence[Tag] = ()
) -> list[dict[str, Evidence]]:
    """For each row the tags that hold, by name, with their evidence. more: further tags, never silent.

    A tag of TAGS is silent for a kind of row (with and without a long input) whose training answers have it.
    """
    silent = silent_tags(context)
    return [dict(_held(row, context, silent, more)) for row in rows]


def _held(
    row: AnsweredRow, context: TagContext, silent: dict[tuple[str, bool], float], more: Sequence[Tag]
) -> Iterator[tuple[str, Evidence]]:
    long = has_source(row.example)
    for tag in TAGS:
        if (tag.name, long) not in silent and (found := tag.detect(row, context)):
            yield tag.name, found
    for tag in more:
        if found := tag.detect(row, context):
            yield tag.name, found


@functools.lru_cache(8)
def silent_tags(context: TagContext) -> dict[tuple[str, bool], float]:
    """(silent tag, whether the input is long) -> share of such training answers that have the tag."""
    if context.half is None:
        return {}
    half = context.half
    rows: Counter[bool] = Counter()
    hits: Counter[tuple[str, bool]] = Counter()
    for row in gold_rows(context.held):
        long = has_source(row.example)
        rows[long] += 1
        hits.update((tag.name, long) for tag in TAGS if tag.detect(row, half))
    return {key: count / rows[key[1]] for key, count in hits.items() if count >= max(2, QUIET * rows[key[1]])}


def gold_rows(examples: Iterable[Example]) -> Iterator[AnsweredRow]:
    """The expected answers as if a model had given them, of rows that do not tell what is expected."""
    for example in examples:
        yield AnsweredRow(replace(example, answers=()), example.target, None)
