"""The trial of graders on the expected answers, before a model is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from finetooth.config.evaluate_keys import GRADER_SECONDS
from finetooth.evaluation.graders.named import (
    DEFAULTS,
    PERPLEXITY,
    GraderSpec,
    is_custom,
    resolve_all,
    specs,
)
from finetooth.evaluation.graders.other_forms import number_doubts, settled
from finetooth.types import Example

TRIED = 100  # expected answers on which a built-in grader is tried
LONGEST = 100_000  # characters of an expected answer that is tried
CUSTOM_TRIED = 3  # the same for a custom grader, which may be slow; tried until one of them has no error


def validate_graders(  # long: the two kinds of graders side by side
    given: GraderSpec | Sequence[GraderSpec],
    format: str,
    examples: Sequence[Example],
    folder: Path | None = None,
    seconds: float = GRADER_SECONDS,
) -> tuple[list[str], list[str]]:
    """The errors and the warnings about the graders of evaluate.grader, in words.

    format, folder, seconds: as for resolve_all, whose GradeError it raises. Errors: a custom grader that
    fails on expected answers, and a built-in primary grader that gives full marks to none of them. Warnings:
    a grader that does not give full marks to all. Answers with reasoning or tool calls are skipped, since the
    template renders those.
    """
    plain = [row for row in examples if not any(answer.more for answer in row.answers)]
    plain = [row for row in plain if "</think>" not in row.target and len(row.target) <= LONGEST]
    errors: list[str] = []
    warnings: list[str] = []
    settled_specs = [settled(spec, plain) for spec in specs(given)]
    graders = resolve_all(settled_specs, format, folder, seconds)
    for spec, (name, grade) in zip(settled_specs, graders, strict=True):
        wrong_marks, doubts = number_doubts(spec, plain)
        errors += wrong_marks
        warnings += doubts
        if name == PERPLEXITY or not plain:
            continue
        custom = is_custom(name)
        tried = plain[:: -(-len(plain) // (CUSTOM_TRIED if custom else TRIED))]  # evenly: files may be sorted
        if custom:
            label = spec if isinstance(spec, str) else str(spec["name"])
            failures = []
            for row in tried:
                score = grade(row, row.target)
                if score.value is not None:
                    break
                failures.append(score.error)
            else:
                errors.append(
                    f"{label} fails on all {len(failures)} expected answers on which it was tried, such as "
                    f"that of row {tried[0].id}: {failures[0]}. A grader takes (example, text) and returns a "
                    "Score, a bool or a number from 0 to 1. Fix it, then run the same command again"
                )
                continue
            if (value := score.value or 0.0) < 1:
                why = f": {score.reason}" if score.reason else ""
                warnings.append(f"{label} gives the expected answer of row {row.id} only {value:.3g}{why}")
            continue
        scores = [(row, grade(row, row.target)) for row in tried]
        wrong = [(row, score) for row, score in scores if score.value != 1]
        if not wrong:
            continue
        row, score = wrong[0]
        example = f"such as that of row {row.id}: {score.error or score.reason}"
        if any(score.value for _, score in scores):
            warnings.append(
                f"{name} does not give full marks to {len(wrong)} of {len(tried)} expected answers, {example}"
            )
            continue
        other = DEFAULTS.get(format, name)
        instead = f". For rows of this kind: --evaluate.grader {other}" if other != name else ""
        message = f"{name} gives full marks to none of {len(tried)} expected answers, {example}{instead}"
        (errors if name == graders[0][0] else warnings).append(message)
    return errors, warnings
