"""Grader names and options. Custom functions, regular expressions and schemas run in a watched process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from finetooth.config.evaluate_keys import GRADER_SECONDS
from finetooth.config.method_keys import REWARD_MODEL
from finetooth.errors import GradeError
from finetooth.evaluation.graders import basic, label_sets, numbers, options, overlap, structured
from finetooth.evaluation.graders.custom import guard
from finetooth.evaluation.graders.shared import Grader, expected_answers
from finetooth.evaluation.graders.templated import declarative_grader
from finetooth.evaluation.graders.watched import WatchedGrader, file_of
from finetooth.evaluation.preference import grade_preference
from finetooth.rundir import sha256_file
from finetooth.types import Example, Score

LONG_ANSWER = 10  # words, of at least half of the expected answers
GraderSpec = str | Mapping[str, Any]  # a name, {name: ..., option: ...}, or {type: string_check, ...}

BUILT_IN: dict[str, Grader] = {
    "exact": basic.exact,
    "label": basic.label,
    "number": numbers.number,
    "labels": label_sets.labels,
    "contains": basic.contains,
    "json": structured.json_fields,
    "f1": overlap.f1,
    "rouge": overlap.rouge_l,
    "rouge1": overlap.rouge1,
    "rouge2": overlap.rouge2,
    "bleu": overlap.bleu,
    "chrf": overlap.chrf,
    "preference": grade_preference,
}
PREFERENCE = "preference"  # for candidates that choose between two answers: runs/preference_candidates.py
PERPLEXITY = "perplexity"  # from the model's likelihoods, without an answer: evaluation/runner.py
DEFAULTS = {
    "labels": "label",
    "several labels": "labels",
    "preference": "chrf",
    "long answers": "chrf",
    **dict.fromkeys(("qa", "alpaca", "chat", "prompt", "sharegpt"), "exact"),
}


def specs(given: GraderSpec | Sequence[GraderSpec]) -> list[GraderSpec]:
    """The graders of evaluate.grader, the primary one first."""
    return [given] if isinstance(given, str | Mapping) else list(given)


def without_options(display_name: str) -> str:
    """The name of the grader in a display name of `resolve`, without its options."""
    return display_name.partition(" (")[0]


def grading_format(columns: Mapping[str, str], format: str, rows: Sequence[Example] = ()) -> str:
    """What `auto` resolves by: the data format; `several labels` where several columns map to label, and
    `long answers` where free text is expected, which no answer repeats word for word.

    rows: of training.
    """
    if list(columns.values()).count("label") > 1:
        return "several labels"
    free = DEFAULTS.get(format) == "exact" and bool(rows)
    return "long answers" if free and median(map(_prose_words, rows)) >= LONG_ANSWER else format


def _prose_words(example: Example) -> int:
    """The number of words of the expected answer; 0 for one that is no prose: JSON, calls, reasoning."""
    text = example.target.strip()
    whole = text.startswith(("{", "[", "<", "```")) or any(answer.more for answer in example.answers)
    return 0 if whole or "</think>" in text else len(text.split())


def resolve(  # long: every kind of specification, in order
    spec: GraderSpec, format: str, folder: Path | None = None, seconds: float = GRADER_SECONDS
) -> tuple[str, Grader]:
    """The display name and the grader of a specification; format: the grading_format, which decides `auto`.

    folder: where a custom module may be (the command line passes the working directory). Every returned
    grader turns its own crash into Score(error). seconds: the most that a custom function, a regular
    expression or a schema may take for one answer; beyond it, the grader raises GradeError. GradeError for an
    unknown name or an invalid option.
    """
    if not isinstance(spec, str) and "type" in spec:
        display_name, grader = declarative_grader(spec)
        return display_name, guard(grader)
    given = {} if isinstance(spec, str) else dict(spec)
    name = spec if isinstance(spec, str) else given.pop("name", None)
    if not isinstance(name, str):
        raise GradeError(f"evaluate.grader: expected a name, as in {{name: json}}, found {spec}.")
    if name == "auto":
        if format not in DEFAULTS:
            raise GradeError(
                f"evaluate.grader: auto finds no grader for rows of the format {format!r}: they have no "
                "expected answer to compare with. Name one: `--evaluate.grader file.py:function`."
            )
        name = DEFAULTS[format]
    if name == REWARD_MODEL:
        raise GradeError(
            "evaluate.grader: reward_model is a reward (train.reward), not a grader: its scores have no "
            "absolute meaning, and it cannot evaluate a model that was trained to maximise it. Expected "
            "auto, preference, or another grader."
        )
    if name in options.OPTIONS and (given or name not in BUILT_IN):
        display_name = options.display_name(name, given)
        if options.is_watched(name, given):
            return display_name, WatchedGrader(name, given, folder, display_name, seconds)
        return display_name, guard(options.with_options(name, given))
    if given:
        raise GradeError(
            f"evaluate.grader: {name} takes no option, found {', '.join(given)}. Graders with one: "
            f"{options.taken()}."
        )
    if name == PERPLEXITY:
        return name, lambda example, text: Score(None, error="perplexity needs a model, not a text")
    if name in BUILT_IN:
        return name, guard(BUILT_IN[name])
    if ":" not in name:
        known = ", ".join([*BUILT_IN, "regex", PERPLEXITY])
        raise GradeError(
            f"evaluate.grader: {name!r} is unknown. Expected auto, {known} or a custom function as "
            "file.py:function or package.module:function."
        )
    return Path(name).name, WatchedGrader("function", name, folder, name, seconds)


def resolve_all(
    given: GraderSpec | Sequence[GraderSpec],
    format: str,
    folder: Path | None = None,
    seconds: float = GRADER_SECONDS,
) -> list[tuple[str, Grader]]:
    """The graders of evaluate.grader with their display names, the primary one first; see `resolve`."""
    graders = [resolve(spec, format, folder, seconds) for spec in specs(given)]
    names = [name for name, _ in graders]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not graders:
        problem = f"{twice[0]} is given twice" if twice else "no grader is given"
        raise GradeError(f"evaluate.grader: {problem}. Expected a grader, or a list of different ones.")
    return graders


def corpus_score(name: str, examples: Sequence[Example], texts: Sequence[str]) -> dict[str, Any] | None:
    """The corpus-level score {value, signature}; None for graders whose mean over the rows is reported."""
    if name not in ("bleu", "chrf") or not all(map(expected_answers, examples)):
        return None
    return overlap.corpus(name, examples, texts)


def grader_digest(spec: GraderSpec, folder: Path | None = None) -> str:
    """The digest of a custom grader's file; "" for a built-in grader.

    A changed grader is a different one: stored results of the old one do not count for it.
    """
    name = spec if isinstance(spec, str) else str(spec.get("name", ""))
    if ":" not in name or (not isinstance(spec, str) and "type" in spec):
        return ""
    file = file_of(name, folder)
    return sha256_file(Path(file)) if file else ""


def is_custom(name: str) -> bool:
    """Whether a display name of `resolve` is that of a custom function, not of a grader with an option."""
    return ":" in name and "(" not in name
