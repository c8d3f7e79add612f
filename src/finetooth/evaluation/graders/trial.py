"""Graders are tried on the expected answers, before anything is trained for them to grade."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from finetooth.evaluation.graders.named import (
    DEFAULTS,
    PERPLEXITY,
    Grader,
    GraderSpec,
    is_custom,
    resolve_all,
    specs,
)
from finetooth.types import Example

TRIED = 100  # expected answers that a built-in grader is tried on
OWN_TRIED = 3  # and a user's own, which may be slow: the others only where the first ends in an error


def validate_graders(
    given: GraderSpec | Sequence[GraderSpec],
    format: str,
    examples: Sequence[Example],
    folder: Path | None = None,
) -> tuple[list[str], list[str]]:
    """What forbids to go on with the graders of evaluate.grader, and what is doubtful about them, in words.

    format, folder: as of resolve_all, whose GradeError it raises. Forbidden are a user's own grader that
    fails on expected answers, and a primary grader of finetooth that gives no marks to any. Doubtful is one
    that does not give full marks to all. Not tried are answers with a thought or calls: a template writes
    those.
    """
    plain = [row for row in examples if not any(answer.more for answer in row.answers)]
    plain = [row for row in plain if "</think>" not in row.target]
    refused: list[str] = []
    doubts: list[str] = []
    found = resolve_all(given, format, folder)
    for spec, (name, grade) in zip(specs(given), found, strict=True):
        if name == PERPLEXITY or not plain:
            continue
        if is_custom(name):
            file = spec if isinstance(spec, str) else str(spec["name"])
            _try_own(file, grade, plain, refused, doubts)
        else:
            primary = name == found[0][0]
            _try_built_in(name, grade, plain, format, refused if primary else doubts, doubts)
    return refused, doubts


def _spread(rows: Sequence[Example], most: int) -> Sequence[Example]:
    """At most this many rows, from all parts: a file may be sorted."""
    return rows[:: -(-len(rows) // most)]


def _try_own(
    name: str, grade: Grader, rows: Sequence[Example], refused: list[str], doubts: list[str]
) -> None:
    errors = []
    for row in _spread(rows, OWN_TRIED):
        score = grade(row, row.target)
        if score.value is not None:
            if score.value < 1:
                why = f": {score.reason}" if score.reason else ""
                doubts.append(f"{name} gives the expected answer of row {row.id} only {score.value:.3g}{why}")
            return
        errors.append(score.error)
    refused.append(
        f"{name} fails on every expected answer that it was tried on ({len(errors)}), such as that of row "
        f"{rows[0].id}: {errors[0]}. A grader takes (example, text) and returns a Score, a bool or a number "
        "from 0 to 1. Mend it, then: the same command again"
    )


def _try_built_in(
    name: str, grade: Grader, rows: Sequence[Example], format: str, refused: list[str], doubts: list[str]
) -> None:
    tried = _spread(rows, TRIED)
    scores = [(row, grade(row, row.target)) for row in tried]
    wrong = [(row, score) for row, score in scores if score.value != 1]
    if not wrong:
        return
    row, score = wrong[0]
    such = f"such as that of row {row.id}: {score.error or score.reason}"
    if any(score.value for _, score in scores):
        doubts.append(
            f"{name} does not give full marks to {len(wrong)} of {len(tried)} expected answers "
            f"themselves, {such}"
        )
        return
    other = DEFAULTS.get(format, name)
    instead = f". Rows of this kind take: --evaluate.grader {other}" if other != name else ""
    refused.append(
        f"{name} does not give full marks to any of {len(tried)} expected answers themselves, {such}{instead}"
    )
