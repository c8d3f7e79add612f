"""The evaluation loop: one code path grades every candidate on the same rows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from finetooth.data.split import CLUSTER, split_keys
from finetooth.errors import GradeError
from finetooth.evaluation.answer_text import AnswerNormaliser, identity
from finetooth.evaluation.candidates import Candidate, Prediction, SupportsLikelihood
from finetooth.evaluation.form import lenient_scores
from finetooth.evaluation.graders import PERPLEXITY, Grader, corpus_score, grade_all, without_options
from finetooth.evaluation.statistics import ALPHA
from finetooth.evaluation.summary import CandidateResult, Grades, summarise
from finetooth.rundir import json_bytes, jsonl_bytes, write_bytes
from finetooth.types import Example, Record, Score

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The records of all candidates, in the examples' order, and the summary of the contract.

    logprobs: of candidates that give them, those of all labels (nats) for each example. seconds: an answer
    took, by candidate: the mean, as the rows were answered together.
    """

    records: list[Record]
    summary: dict[str, Any]
    logprobs: Mapping[str, list[Mapping[str, float]]] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict, compare=False)

    def write(self, directory: Path) -> None:
        """Write the files; their digests are not recorded, as ledger.store_files does."""
        for name, content in self.files().items():
            write_bytes(directory / name, content)

    def files(self) -> dict[str, bytes]:
        """The files in the order of writing: a summary is only there when its records are."""
        lines = map(asdict, self.records)
        empty: dict[str, Any] = {"also": {}, "lenient": None, "confidence": None}
        records = (
            {key: value for key, value in line.items() if key not in empty or value != empty[key]}
            for line in lines
        )
        return {"records.jsonl": jsonl_bytes(records), "summary.json": json_bytes(self.summary)}


def evaluate(  # long: one pass over the candidates
    examples: Sequence[Example],
    candidates: Iterable[Candidate],
    grader: Grader,
    grader_name: str,
    split: str,
    secondary_graders: Mapping[str, Grader] | None = None,
    progress: Progress | None = None,
    normalise: AnswerNormaliser = identity,
    alpha: float = ALPHA,
    margin: float | None = None,
) -> Evaluation:
    """Grade every candidate's answers to the same examples, and compare `tuned` with every prompting one.

    candidates: taken one at a time, so each may be built when its turn comes. grader: decides the verdict;
    secondary_graders are reported beside it. progress: called with (candidate, rows done, rows). normalise:
    turns a row and its answer into what graders compare. alpha: two-sided level of the comparisons; their
    intervals have the level 1 - alpha. margin: of non-inferiority, a share. Perplexity is computed for
    candidates that have likelihoods. GradeError for zero rows, or where nothing could be graded.
    """
    if not examples:
        raise GradeError(f"The {split} split has no rows: there is nothing to evaluate.")
    results = []
    records = []
    logprobs, seconds = {}, {}
    for candidate in candidates:
        started = time.perf_counter()
        predictions = _predictions(candidate, examples, progress)
        seconds[candidate.name] = (time.perf_counter() - started) / len(examples)
        pairs = [normalise(example, one.text) for example, one in zip(examples, predictions, strict=True)]
        grades = _grade(grader_name, grader, candidate, examples, pairs)
        if grades is None:
            raise GradeError(f"{grader_name} needs a language model, and {candidate.name} has none.")
        if all(score.value is None for score in grades.score_R):
            raise GradeError(
                f"The grader {grader_name} failed on every one of {len(examples)} answers of "
                f"{candidate.name}, so there is no score. The first error: {grades.score_R[0].error}"
            )
        secondary = {
            name: _grade(name, other, candidate, examples, pairs)
            for name, other in (secondary_graders or {}).items()
        }
        others = {name: other for name, other in secondary.items() if other is not None}
        given = [prediction.logprobs for prediction in predictions if prediction.logprobs is not None]
        if len(given) == len(predictions):
            logprobs[candidate.name] = given
        lenient = None
        if grader_name != PERPLEXITY and any(prediction.written for prediction in predictions):
            lenient = lenient_scores(without_options(grader_name), grader, pairs, grades.score_R)
        results.append(
            CandidateResult(candidate.name, predictions, grades, others, list(candidate.notes), lenient)
        )
        for row, (example, prediction) in enumerate(zip(examples, predictions, strict=True)):
            score = grades.score_R[row]
            also = {name: other.score_R[row] for name, other in others.items()}
            records.append(
                Record(
                    id=example.id,
                    candidate=candidate.name,
                    text=prediction.text,
                    score=score.value,
                    error=score.error,
                    reason=score.reason,
                    got=score.got,
                    want=score.want,
                    prompt_tokens=prediction.prompt_tokens,
                    completion_tokens=prediction.completion_tokens,
                    stop=prediction.stop,
                    also={
                        name: {"score": one.value, "error": one.error, "reason": one.reason}
                        for name, one in also.items()
                    },
                    lenient=lenient[row].value if lenient else None,
                )
            )
        del candidate  # and its model, before the next one is loaded
    groups = row_groups(examples)
    summary = summarise(results, grader_name, split, groups, alpha, margin)
    return Evaluation(records, summary, logprobs, seconds)


def row_groups(examples: Sequence[Example]) -> list[str] | None:
    """The cluster of each row; None when no two rows share one.

    Rows of one group (tags.group: a conversation, a customer) and near copies (the split tags them) resemble
    each other, and identical prompts get identical answers: as evidence, each cluster counts as one
    observation. Clusters that share a row, or a prompt, are one.
    """
    groups = split_keys(examples, ("group", CLUSTER))
    return groups if len(set(groups)) < len(groups) else None


def _predictions(
    candidate: Candidate, examples: Sequence[Example], progress: Progress | None
) -> list[Prediction]:
    """The candidate's answers in the examples' order. GradeError for a missing or a second answer."""
    predictions: dict[int, Prediction] = {}
    for prediction in candidate.predict(examples):
        if prediction.index in predictions or not 0 <= prediction.index < len(examples):
            raise GradeError(
                f"{candidate.name} answered row {prediction.index} twice, or there is no such row."
            )
        predictions[prediction.index] = prediction
        if progress is not None:
            progress(candidate.name, len(predictions), len(examples))
    if len(predictions) < len(examples):
        raise GradeError(f"{candidate.name} answered {len(predictions)} of {len(examples)} rows.")
    return [predictions[index] for index in range(len(examples))]


def _grade(
    name: str,
    grader: Grader,
    candidate: Candidate,
    examples: Sequence[Example],
    pairs: Sequence[tuple[Example, str]],
) -> Grades | None:
    """One grader's result for one candidate; None for perplexity of a candidate without likelihoods.

    pairs: the normalised rows and answers.
    """
    if name == PERPLEXITY:
        return _perplexity(candidate, examples) if isinstance(candidate, SupportsLikelihood) else None
    rows, texts = zip(*pairs, strict=True)
    return Grades(grade_all(grader, pairs), corpus_score(name, rows, texts))


def _perplexity(candidate: SupportsLikelihood, examples: Sequence[Example]) -> Grades:
    """A row's score is 1/perplexity of its expected answer, so that higher is better, as for all graders.

    1/perplexity is the geometric mean of the probabilities of its tokens, the stop token included. The corpus
    score is the usual perplexity: exp of the negative log-likelihood per token over all rows.
    """
    score_R = []
    total, tokens = 0.0, 0
    for example, logprobs in zip(examples, candidate.answer_logprobs(examples), strict=True):
        if not isinstance(logprobs, str) and np.isnan(logprobs).any():
            logprobs = "the model's log-probabilities are NaN; its weights are damaged"
        if isinstance(logprobs, str):
            score_R.append(Score(None, error=logprobs, want=example.target))
            continue
        nats = float(logprobs.sum())
        total, tokens = total + nats, tokens + len(logprobs)
        mean = nats / len(logprobs)
        reason = f"perplexity {math.exp(min(-mean, 700)):.4g} over {len(logprobs)} tokens"
        score_R.append(Score(min(1.0, math.exp(mean)), reason, "", example.target))
    value = math.exp(min(-total / tokens, 700)) if tokens else None
    return Grades(score_R, None if value is None else {"value": value, "signature": f"{tokens} tokens"})
