"""The candidates of an evaluation by preference: which of two answers does each of them take?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from finetooth.errors import GradeError
from finetooth.evaluation.candidates import Candidate
from finetooth.evaluation.graders import PREFERENCE, Grader
from finetooth.evaluation.preference import (
    IMPLICIT_REWARDS,
    MEAN_LOGPROB,
    LengthBaseline,
    PreferenceCandidate,
    implicit_rewards,
)
from finetooth.evaluation.summary import START, TUNED
from finetooth.model import reward_head
from finetooth.model.api import Model
from finetooth.model.inference import row_logprobs, row_scores
from finetooth.runs.context import RunContext
from finetooth.tree import Row


def is_preference_evaluation(graders: Sequence[tuple[str, Grader]]) -> bool:
    """Whether the grader is preference. GradeError where others, which grade written answers, are with it."""
    names = [name for name, _ in graders]
    if PREFERENCE in names and len(names) > 1:
        raise GradeError(
            "evaluate.grader: preference grades a decision between two answers, and the others a written "
            f"one, so it stands alone; found {', '.join(names)}."
        )
    return PREFERENCE in names


def candidates(context: RunContext) -> Iterator[Candidate]:
    """Length alone; the base by the mean log-probability of a token; the tuned model by what it was taught.

    What training started from, where that is another run's, is asked what is likely, as the base is, and the
    tuned model is then measured against it. What a model was taught is the score of a reward model, else what
    the method takes an answer to be worth (evaluation/preference.py). Models are loaded at their turn.
    """
    task = context.task

    def by(name: str, model: Model, worth: Any) -> PreferenceCandidate:
        return PreferenceCandidate(
            name, context.renderer, partial(worth, model), model.max_tokens, task.data.overlong
        )

    yield LengthBaseline(context.prepared.train)
    start: dict[bytes, float] = {}
    with context.base() as base:
        yield by("zero-shot", base, partial(_likely, start=start))
    if task.start is not None:
        start.clear()
        yield by(START, context.parent_model(), partial(_likely, start=start))
    yield by(TUNED, context.tuned(), partial(_taught, method=task.train.method, start=start))


def _likely(model: Model, rows: Sequence[Row], start: dict[bytes, float]) -> Any:
    """By the base or the start, whose sums are kept in `start`: tokens of a row -> nats."""
    sum_R = [float(logp.sum()) for logp in row_logprobs(model, rows)]
    start.update(zip((row.tokens.tobytes() for row in rows), sum_R, strict=True))
    return implicit_rewards(MEAN_LOGPROB, sum_R, sum_R, rows)


def _taught(model: Model, rows: Sequence[Row], method: str, start: dict[bytes, float]) -> Any:
    if reward_head.is_reward(model.hf):
        return row_scores(model, rows)
    sum_R = [float(logp.sum()) for logp in row_logprobs(model, rows)]
    start_R = np.array([start[row.tokens.tobytes()] for row in rows])
    return implicit_rewards(IMPLICIT_REWARDS.get(method, MEAN_LOGPROB), sum_R, start_R, rows)
