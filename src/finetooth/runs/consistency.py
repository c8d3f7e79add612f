"""Further answers to the validation rows, for the tag `inconsistent`: RUN/errors/consistency.json.

Each question is asked again in the forms that should not change its answer (other case, punctuation, spaces,
typos), and a model that writes its answers is sampled from twice more.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from finetooth.analysis.answered import AnsweredRow
from finetooth.errors import DataError, GradeError
from finetooth.evaluation.perturbations.kept import Kept
from finetooth.evaluation.perturbations.kinds import perturbed
from finetooth.rundir import read_json, write_json
from finetooth.runs import asking
from finetooth.runs.context import RunContext
from finetooth.runs.error_analysis import CONSISTENCY, answers_digest

KINDS = ("case", "punctuation", "whitespace", "typos")
SAMPLES, TEMPERATURE = 2, 0.7


def measure(context: RunContext, answered: Sequence[AnsweredRow]) -> None:
    """Ask the tuned model again, and write the answers; nothing where it was asked with these weights, beside
    these answers, before.

    A form that is too long for the model is left out.
    """
    model, file = context.tuned(), context.path / CONSISTENCY
    rows = [row.example for row in answered]
    asked: dict[str, Any] = {"tuned": model.digest(), "beside": answers_digest(answered)}
    if file.is_file() and asked.items() <= read_json(file).items():
        return
    how = asking.of_run(context, model)
    kept = Kept.of([*context.prepared.train, *rows], how.labels)
    forms = [
        (row.id, how.cleaned(one.example))
        for row in rows
        for kind in KINDS
        if (one := perturbed(row, kind, context.task.seed, kept)) is not None
    ]
    answers: dict[str, list[str]] = {row.id: [] for row in rows}
    candidates = [(how.candidate, forms)]
    if not how.labels:
        for sample in range(1, SAMPLES + 1):
            sampling = replace(
                how.candidate.sampling, temperature=TEMPERATURE, seed=context.task.seed + sample
            )
            again = [(row.id, row) for row in rows]
            candidates.append((replace(how.candidate, sampling=sampling), again))
    for candidate, questions in candidates:
        contexts, ids = [], []
        for id, example in questions:
            with suppress(DataError, GradeError):
                contexts.append(candidate.context(example))
                ids.append(id)
        for prediction in candidate.answers(contexts):
            answers[ids[prediction.index]].append(prediction.text)
    write_json(file, {**asked, "answers": answers})
