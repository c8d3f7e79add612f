"""The candidates of an evaluation by preference: which of two answers does each of them take?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from finetooth.config.task import Task
from finetooth.data.render.renderer import Renderer
from finetooth.errors import GradeError
from finetooth.evaluation.candidates import Candidate
from finetooth.evaluation.graders import PREFERENCE, Grader
from finetooth.evaluation.preference import (
    IMPLICIT,
    LIKELY,
    ByLength,
    Prefers,
    implied,
    row_logprobs,
    row_scores,
)
from finetooth.evaluation.summary import START, TUNED
from finetooth.model import reward_head
from finetooth.model.api import Model
from finetooth.quality.prepare import Prepared
from finetooth.runs.models import require_same_base
from finetooth.tree import Row


def asked(graders: Sequence[tuple[str, Grader]]) -> bool:
    """Whether the grader is preference. GradeError where others, which grade written answers, are with it."""
    names = [name for name, _ in graders]
    if PREFERENCE in names and len(names) > 1:
        raise GradeError(
            "evaluate.grader: preference grades a decision between two answers, and the others a written "
            f"one, so it stands alone; found {', '.join(names)}."
        )
    return PREFERENCE in names


def candidates(
    task: Task,
    path: Path,
    prepared: Prepared,
    renderer: Renderer,
    base: Callable[[], Model],
    tuned: Callable[[], Model],
    before: Callable[[], Model] | None = None,
) -> Iterator[Candidate]:
    """Length alone; the base by the mean log-probability of a token; the tuned model by what it was taught.

    before: loads what training started from where that is another run's; like the base it is asked what is
    likely, and the tuned model is then measured against it. What a model was taught is the score of a reward
    model, else what the method takes an answer to be worth
    (evaluation/preference.py). Models are loaded when their turn comes.
    """
    yield ByLength(prepared.train)
    start: dict[bytes, float] = {}
    yield _by(task, renderer, "zero-shot", _base(path, base), partial(_likely, start=start))
    if before is not None:
        start.clear()
        yield _by(task, renderer, START, before(), partial(_likely, start=start))
    yield _by(task, renderer, TUNED, tuned(), partial(_taught, method=task.train.method, start=start))


def _by(task: Task, renderer: Renderer, name: str, model: Model, worth: Any) -> Prefers:
    return Prefers(name, renderer, partial(worth, model), model.max_tokens, task.data.overlong)


def _base(path: Path, load: Callable[[], Model]) -> Model:
    model = load()
    require_same_base(path, model)
    return model


def _likely(model: Model, rows: Sequence[Row], start: dict[bytes, float]) -> Any:
    """By the base or the start, whose sums are kept in `start`: tokens of a row -> nats."""
    sum_R = [float(logp.sum()) for logp in row_logprobs(model, rows)]
    start.update(zip((row.tokens.tobytes() for row in rows), sum_R, strict=True))
    return implied(LIKELY, sum_R, sum_R, rows)


def _taught(model: Model, rows: Sequence[Row], method: str, start: dict[bytes, float]) -> Any:
    if reward_head.is_reward(model.hf):
        return row_scores(model, rows)
    sum_R = [float(logp.sum()) for logp in row_logprobs(model, rows)]
    start_R = np.array([start[row.tokens.tobytes()] for row in rows])
    return implied(IMPLICIT.get(method, LIKELY), sum_R, start_R, rows)
