"""Checkpoint selection: the highest score of answers to validation rows, then the lowest validation loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from finetooth.data.render.turns import answer_key
from finetooth.evaluation.answer_text import AnswerNormaliser, identity
from finetooth.evaluation.candidates import ModelCandidate, Prediction
from finetooth.evaluation.graders import Grader, grade_all
from finetooth.types import Example

MOST = 64  # validation rows whose answers are graded
SHOWN = 3  # of these, rows whose answers are printed


@dataclass(frozen=True, slots=True)
class ValidationScore:
    """Answers at one validation. score: mean grade over all rows; None if they are not graded. samples: lines
    of train/samples.jsonl without the step. rows, errors: how many were answered, and on how many of these
    the grader failed, which count as not right.
    """

    score: float | None
    samples: list[dict[str, Any]]
    rows: int = 0
    errors: int = 0


@dataclass(frozen=True, slots=True)
class AnswerValidator:
    """Generates answers with the model in training, as evaluation does; equal weights give equal answers.

    examples: validation rows, of which the first three are printed. scored: answer and grade all rows; if
    False, only the first three are answered. normalise: (row, answer) -> what the grader gets.
    """

    candidate: ModelCandidate
    examples: Sequence[Example]
    grader: Grader
    scored: bool
    normalise: AnswerNormaliser = identity

    def evaluate(self) -> ValidationScore:
        """Generate and grade. An answer on which the grader fails is not right: it counts as 0."""
        examples = self.examples if self.scored else self.examples[:SHOWN]
        answers: dict[int, Prediction] = {answer.index: answer for answer in self.candidate.predict(examples)}
        pairs = [self.normalise(example, answers[at].text) for at, example in enumerate(examples)]
        grades = grade_all(self.grader, pairs)
        errors = sum(grade.value is None for grade in grades)
        total = sum(grade.value or 0.0 for grade in grades)
        samples = [
            {
                "id": example.id,
                "text": answers[at].text,
                "want": pairs[at][0].target or answer_key(example).strip("\0"),
                "score": grades[at].value,
                "stop": answers[at].stop,
            }
            for at, example in enumerate(examples[:SHOWN])
        ]
        score = total / len(grades) if self.scored and grades else None
        return ValidationScore(score, samples, len(grades), errors)


def better(score: float | None, loss: float, best_score: float | None, best_loss: float | None) -> bool:
    """Whether these weights are better than the best so far; best_loss None means there are none yet."""
    if best_loss is None:
        return True
    if score is not None and best_score is not None and score != best_score:
        return score > best_score
    return loss < best_loss
