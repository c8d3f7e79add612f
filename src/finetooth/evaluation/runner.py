"""One code path that grades every candidate on the same rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from finetooth.errors import GradeError
from finetooth.evaluation.candidates import Answered, Candidate
from finetooth.evaluation.graders import Grader, guarded
from finetooth.evaluation.summary import Graded, summarise
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
        write_jsonl(directory / "records.jsonl", map(asdict, self.records))
        write_json(directory / "summary.json", self.summary)


def evaluate(
    examples: Sequence[Example],
    candidates: Iterable[Candidate],
    grader: Grader,
    grader_name: str,
    split: str,
    baseline_name: str | None = None,
    others: Mapping[str, Grader] | None = None,
    look: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Grade every candidate's answers to the same examples, and compare `tuned` with a prompting candidate.

    candidates: taken one at a time, so each may be built when its turn comes. grader decides; others are
    shown beside it. baseline_name: the candidate to compare with (chosen on validation); None takes the best
    prompting candidate on these rows. look: how often the sealed test has been opened, this time included.
    progress: called with (candidate, rows done, rows). GradeError for zero rows, or where nothing could be
    graded.
    """
    if not examples:
        raise GradeError(f"The {split} split has no rows: there is nothing to evaluate.")
    graded = []
    records = []
    for candidate in candidates:
        answered = _answers(candidate, examples, progress)
        score_R = _scores(examples, answered, grader)
        other_R = {name: _scores(examples, answered, other) for name, other in (others or {}).items()}
        graded.append(Graded(candidate.name, answered, score_R, other_R, list(candidate.notes)))
        if all(score.value is None for score in score_R):
            raise GradeError(
                f"The grader {grader_name} failed on every one of {len(examples)} answers of "
                f"{candidate.name}: no score is left. The first error: {score_R[0].error}"
            )
        for example, answer, score in zip(examples, answered, score_R, strict=True):
            records.append(_record(example.id, candidate.name, answer, score))
    return Evaluation(records, summarise(graded, grader_name, split, baseline_name, look))


def _answers(candidate: Candidate, examples: Sequence[Example], progress: Progress | None) -> list[Answered]:
    answered: dict[int, Answered] = {}
    for answer in candidate.answers(examples):
        if answer.index in answered or not 0 <= answer.index < len(examples):
            raise GradeError(f"{candidate.name} answered row {answer.index} twice, or there is no such row.")
        answered[answer.index] = answer
        if progress is not None:
            progress(candidate.name, len(answered), len(examples))
    if len(answered) < len(examples):
        raise GradeError(f"{candidate.name} answered {len(answered)} of {len(examples)} rows.")
    return [answered[index] for index in range(len(examples))]


def _scores(examples: Sequence[Example], answered: Sequence[Answered], grader: Grader) -> list[Score]:
    safe = guarded(grader)
    return [safe(example, answer.text) for example, answer in zip(examples, answered, strict=True)]


def _record(id: str, candidate: str, answer: Answered, score: Score) -> Record:
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
    )
