"""One code path that grades every candidate on the same rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from finetooth.data.split import split_keys
from finetooth.errors import GradeError
from finetooth.evaluation.answer_text import AnswerNormaliser, identity
from finetooth.evaluation.candidates import Candidate, Prediction, SupportsLikelihood
from finetooth.evaluation.graders import PERPLEXITY, Grader, corpus_score, guard
from finetooth.evaluation.summary import CandidateResult, Grades, summarise
from finetooth.rundir import write_json, write_jsonl
from finetooth.types import Example, Record, Score

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The records of all candidates, in the examples' order, and the summary of the contract."""

    records: list[Record]
    summary: dict[str, Any]

    def write(self, directory: Path) -> None:
        """Write records.jsonl, then summary.json: a summary is only there when its records are."""
        write_jsonl(directory / "records.jsonl", map(_line, self.records))
        write_json(directory / "summary.json", self.summary)


def evaluate(
    examples: Sequence[Example],
    candidates: Iterable[Candidate],
    grader: Grader,
    grader_name: str,
    split: str,
    baseline_name: str | None = None,
    secondary_graders: Mapping[str, Grader] | None = None,
    look: int | None = None,
    progress: Progress | None = None,
    normalise: AnswerNormaliser = identity,
) -> Evaluation:
    """Grade every candidate's answers to the same examples, and compare `tuned` with a prompting candidate.

    candidates: taken one at a time, so each may be built when its turn comes. grader decides;
    secondary_graders are shown beside it. baseline_name: the candidate to compare with (chosen on
    validation); None takes the best prompting candidate on these rows. look: how often the sealed test has
    been opened, this time included. progress: called with (candidate, rows done, rows). normalise: what
    graders get of a row and its answer. Perplexity is measured of candidates that can say how likely an
    answer is. GradeError for zero rows, or where nothing could be graded.
    """
    if not examples:
        raise GradeError(f"The {split} split has no rows: there is nothing to evaluate.")
    graded = []
    records = []
    for candidate in candidates:
        answered = _answers(candidate, examples, progress)
        pairs = [normalise(example, answer.text) for example, answer in zip(examples, answered, strict=True)]
        marks = _marks(grader_name, grader, candidate, examples, pairs)
        if marks is None:
            raise GradeError(f"{grader_name} needs a language model, and {candidate.name} has none.")
        found = {
            name: _marks(name, other, candidate, examples, pairs)
            for name, other in (secondary_graders or {}).items()
        }
        other_marks = {name: other for name, other in found.items() if other is not None}
        graded.append(CandidateResult(candidate.name, answered, marks, other_marks, list(candidate.notes)))
        if all(score.value is None for score in marks.score_R):
            raise GradeError(
                f"The grader {grader_name} failed on every one of {len(examples)} answers of "
                f"{candidate.name}: no score is left. The first error: {marks.score_R[0].error}"
            )
        for row, (example, answer) in enumerate(zip(examples, answered, strict=True)):
            also = {name: _further(other.score_R[row]) for name, other in other_marks.items()}
            records.append(_record(example.id, candidate.name, answer, marks.score_R[row], also))
        del candidate  # and its model, before the next one is loaded
    groups = row_groups(examples)
    return Evaluation(records, summarise(graded, grader_name, split, baseline_name, look, groups))


def row_groups(examples: Sequence[Example]) -> list[str] | None:
    """The group of each row; None when no two rows share one.

    Rows of a group (tags.group: a conversation, a customer) resemble each other, and those that ask the same
    get the same answer: as evidence they count together.
    """
    groups = split_keys(examples)
    return groups if len(set(groups)) < len(groups) else None


def _answers(
    candidate: Candidate, examples: Sequence[Example], progress: Progress | None
) -> list[Prediction]:
    answered: dict[int, Prediction] = {}
    for answer in candidate.predict(examples):
        if answer.index in answered or not 0 <= answer.index < len(examples):
            raise GradeError(f"{candidate.name} answered row {answer.index} twice, or there is no such row.")
        answered[answer.index] = answer
        if progress is not None:
            progress(candidate.name, len(answered), len(examples))
    if len(answered) < len(examples):
        raise GradeError(f"{candidate.name} answered {len(answered)} of {len(examples)} rows.")
    return [answered[index] for index in range(len(examples))]


def _marks(
    name: str,
    grader: Grader,
    candidate: Candidate,
    examples: Sequence[Example],
    pairs: Sequence[tuple[Example, str]],
) -> Grades | None:
    """What one grader says of one candidate; None when it cannot be asked of this kind of candidate.

    pairs: the rows and answers that it compares.
    """
    if name == PERPLEXITY:
        return _perplexity(candidate, examples) if isinstance(candidate, SupportsLikelihood) else None
    safe = guard(grader)
    rows, texts = zip(*pairs, strict=True)
    return Grades([safe(example, text) for example, text in pairs], corpus_score(name, rows, texts))


def _perplexity(candidate: SupportsLikelihood, examples: Sequence[Example]) -> Grades:
    """A row's score is 1/perplexity of its expected answer, so that higher is better as everywhere.

    1/perplexity is the geometric mean of the probabilities of its tokens, the stop token included. For all
    rows together: exp of the negative log-likelihood per token, as the field has it.
    """
    score_R = []
    total, tokens = 0.0, 0
    for example, found in zip(examples, candidate.answer_logprobs(examples), strict=True):
        if not isinstance(found, str) and np.isnan(found).any():
            found = "the model's log-probabilities are not numbers (NaN); its weights are damaged"
        if isinstance(found, str):
            score_R.append(Score(None, error=found, want=example.target))
            continue
        nats = float(found.sum())
        total, tokens = total + nats, tokens + len(found)
        mean = nats / len(found)
        said = f"perplexity {math.exp(min(-mean, 700)):.4g} over {len(found)} tokens"
        score_R.append(Score(min(1.0, math.exp(mean)), said, "", example.target))
    value = math.exp(min(-total / tokens, 700)) if tokens else None
    return Grades(score_R, None if value is None else {"value": value, "signature": f"{tokens} tokens"})


def _further(score: Score) -> dict[str, Any]:
    return {"score": score.value, "error": score.error, "reason": score.reason}


def _line(record: Record) -> dict[str, Any]:
    """A line of records.jsonl; `also` only where there are further graders."""
    line = asdict(record)
    return line if record.also else {name: value for name, value in line.items() if name != "also"}


def _record(id: str, candidate: str, answer: Prediction, score: Score, also: Mapping[str, Any]) -> Record:
    return Record(
        id=id,
        candidate=candidate,
        text=answer.text,
        score=score.value,
        error=score.error,
        reason=score.reason,
        got=score.got,
        want=score.want,
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        stop=answer.stop,
        also=also,
    )
