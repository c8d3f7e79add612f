"""Which weights are the best: those whose answers to validation rows score highest, then the lowest loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from finetooth.evaluation.answer_text import AnswerNormaliser, identity
from finetooth.evaluation.candidates import ModelCandidate, Prediction
from finetooth.evaluation.graders import Grader
from finetooth.types import Example

MOST = 64  # rows whose answers are graded
SHOWN = 3  # of them whose answers are shown


@dataclass(frozen=True, slots=True)
class ValidationScore:
    """What the model answers now. score: the grader's mean over the rows, None where none is taken or had.

    samples: lines of train/samples.jsonl without the step.
    """

    score: float | None
    samples: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class AnswerValidator:
    """Asks the model in training, as evaluation asks it. The same weights get the same answers.

    examples: the rows, of which the first three are shown. scored: grade them all; else only the three are
    asked. normalise: what the grader gets of a row and its answer.
    """

    candidate: ModelCandidate
    examples: Sequence[Example]
    grader: Grader
    scored: bool
    normalise: AnswerNormaliser = identity

    def evaluate(self) -> ValidationScore:
        """Ask and grade. A grader's crash is not a score: the row is left out of the mean."""
        examples = self.examples if self.scored else self.examples[:SHOWN]
        found: dict[int, Prediction] = {answer.index: answer for answer in self.candidate.predict(examples)}
        grades = [
            self.grader(*self.normalise(example, found[at].text)) for at, example in enumerate(examples)
        ]
        values = [grade.value for grade in grades if grade.value is not None]
        samples = [
            {
                "id": example.id,
                "text": found[at].text,
                "want": example.target,
                "score": grades[at].value,
                "stop": found[at].stop,
            }
            for at, example in enumerate(examples[:SHOWN])
        ]
        return ValidationScore(sum(values) / len(values) if self.scored and values else None, samples)


def better(score: float | None, loss: float, best_score: float | None, best_loss: float | None) -> bool:
    """Whether these weights are better than the best so far (best_loss None: there are none yet)."""
    if best_loss is None:
        return True
    if score is not None and best_score is not None and score != best_score:
        return score > best_score
    return loss < best_loss
