"""The candidates of a preference evaluation: each chooses between two answers."""

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
from finetooth.evaluation.prompts import ZERO_SHOT
from finetooth.evaluation.summary import START, TUNED
from finetooth.model import reward_head
from finetooth.model.api import Model
from finetooth.model.inference import row_logprobs, row_scores
from finetooth.runs.context import RunContext
from finetooth.tree import Row


def is_preference_evaluation(graders: Sequence[tuple[str, Grader]]) -> bool:
    """Whether the grader is `preference`. GradeError where it is combined with other graders."""
    names = [name for name, _ in graders]
    if PREFERENCE in names and len(names) > 1:
        raise GradeError(
            "evaluate.grader: preference grades a choice between two answers, the others a generated answer, "
            f"so it cannot be combined with them; found {', '.join(names)}."
        )
    return PREFERENCE in names


def candidates(context: RunContext) -> Iterator[Candidate]:
    """Length alone; the base by the mean log-probability of a token; the tuned model by its reward.

    The parent run's model, where there is one, is scored like the base and becomes the reference of the tuned
    model. The reward is the score of a reward model, else the implicit reward of the training method
    (evaluation/preference.py). Each model is loaded at its turn.
    """
    task = context.task
    reference: dict[bytes, float] = {}  # tokens of a row -> log-probability of its answer, nats

    def by_likelihood(model: Model, rows: Sequence[Row]) -> Any:
        sum_R = [float(logp.sum()) for logp in row_logprobs(model, rows)]
        reference.update(zip((row.tokens.tobytes() for row in rows), sum_R, strict=True))
        return implicit_rewards(MEAN_LOGPROB, sum_R, sum_R, rows)

    def by_training(model: Model, rows: Sequence[Row]) -> Any:
        if reward_head.is_reward(model.hf):
            return row_scores(model, rows)
        sum_R = [float(logp.sum()) for logp in row_logprobs(model, rows)]
        start_R = np.array([reference[row.tokens.tobytes()] for row in rows])
        return implicit_rewards(IMPLICIT_REWARDS.get(task.train.method, MEAN_LOGPROB), sum_R, start_R, rows)

    def scored(name: str, model: Model, reward: Any) -> PreferenceCandidate:
        function = partial(reward, model)
        return PreferenceCandidate(name, context.renderer, function, model.max_tokens, task.data.overlong)

    own, base_tokenizer = context.tokenizer, context.base_tokenizer
    if own is not base_tokenizer and own.backend.get_vocab() != base_tokenizer.backend.get_vocab():
        raise GradeError(
            "evaluate.grader: preference compares the probabilities of two models for the same tokens, and "
            f"{task.tuned} has another tokenizer than {task.model}. Grade its answers: --evaluate.grader chrf"
        )
    yield LengthBaseline(context.prepared.train)
    with context.base() as base:
        yield scored(ZERO_SHOT, base, by_likelihood)
    if task.start is not None:
        reference.clear()
        yield scored(START, context.parent_model(), by_likelihood)
    yield scored(TUNED, context.tuned(), by_training)
