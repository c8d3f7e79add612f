"""Reward models as rewards: their scores, scaled to [0, 1]."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from finetooth.errors import DataError, GradeError
from finetooth.evaluation.answer_text import AnswerNormaliser
from finetooth.model.inference import row_scores
from finetooth.tree import Row
from finetooth.types import Example, Score

if TYPE_CHECKING:
    from finetooth.data.render.renderer import Renderer
    from finetooth.model.api import Model

TRIED = 50  # rows on which a reward is audited, and a reward model calibrated


@dataclass(frozen=True)
class RewardModelScorer:
    """A reward model, the renderer it was trained with, and the calibration of its scores.

    The reward is 1 / (1 + exp(-(score - middle) / spread)). A reward model is trained on differences
    (Bradley-Terry), so its scores have no natural zero, and their spread grows with the length of training.
    middle, the mean score of expected answers, gives those a reward of 0.5. spread, the standard deviation of
    the scores of expected answers, answers to another question and copied questions, keeps good and bad
    answers out of saturation: with raw scores all bad answers to a question would get 0 and all good ones 1,
    with no differences left. It is at least 1, the unit in which scores are trained (nats), so that a reward
    model that hardly sees a difference does not have it amplified. Advantages are relative, so nothing else
    about the scale matters.

    Answers are read with the stop token at their end, where the score was trained. This includes truncated
    answers, since graders also take their text as the answer; train.truncated sets the cost of truncation.
    """

    model: Model
    renderer: Renderer
    middle: float = 0.0
    spread: float = 1.0

    def __call__(self, example: Example, text: str) -> Score:
        """The reward of this answer; see `score_batch`."""
        return self.score_batch([(example, text)])[0]

    def score_batch(self, answers: Sequence[tuple[Example, str]]) -> list[Score]:
        """The rewards of the answers, computed together; answers to one question share its prompt.

        An answer that cannot occur in training data, because it is empty or contains the text of a special
        token, gets 0: the model was never trained on such answers. A question that cannot be rendered, a row
        longer than the model accepts, and a score that is not finite are errors.
        """
        found: list[Score] = []
        for (example, text), score in zip(answers, self._scores(answers), strict=True):
            if isinstance(score, Score):
                found.append(score)
                continue
            value = 0.5 * (1.0 + np.tanh(0.5 * (score - self.middle) / self.spread))  # exp could overflow
            found.append(Score(float(value), f"score {score:.3g}", text, example.target))
        return found

    def calibrated_on(self, examples: Sequence[Example], normalise: AnswerNormaliser) -> RewardModelScorer:
        """A copy with middle and spread measured on up to 50 expected answers, spread over the examples.

        normalise: (row, answer) -> the text to score. Raises GradeError when no expected answer has a score.
        """
        rows = [row for row in examples[:: -(-len(examples) // TRIED) or 1] if row.target]
        expected = [normalise(row, row.target) for row in rows]
        shifted = [
            (row, text) for (row, _), (_, text) in zip(expected, expected[1:] + expected[:1], strict=True)
        ]
        copied = [(row, row.context[-1].content) for row, _ in expected if row.context]
        scores = self._scores(expected + shifted + copied)
        right = [score for score in scores[: len(expected)] if not isinstance(score, Score)]
        if not right:
            errors = [score.error or score.reason for score in scores if isinstance(score, Score)]
            reason = errors[0] if errors else "the rows have no expected answer"
            raise GradeError(f"train.reward: the reward model cannot score any expected answer: {reason}.")
        spread = float(np.std([score for score in scores if not isinstance(score, Score)]))
        return replace(self, middle=float(np.mean(right)), spread=max(1.0, spread))

    def digest(self) -> str:
        """Hex digest of what determines the scores: weights, chat template and instruction."""
        parts = (self.model.digest(), self.renderer.chat_template, self.renderer.instruction)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def _scores(self, answers: Sequence[tuple[Example, str]]) -> list[float | Score]:
        """The raw score of each answer, or the result that replaces it."""
        rows = [self._row(example, text) for example, text in answers]
        score_R = iter(row_scores(self.model, [row for row in rows if isinstance(row, Row)]).tolist())
        scores = [next(score_R) if isinstance(row, Row) else row for row in rows]
        return [
            Score(None, error=f"the reward model's score is {score}; its weights are damaged")
            if isinstance(score, float) and not np.isfinite(score)
            else score
            for score in scores
        ]

    def _row(self, example: Example, text: str) -> Row | Score:
        try:
            context = self.renderer.context_row(example.context, example.tools).tokens.tolist()
        except DataError as error:
            return Score(None, error=f"the reward model cannot score it: {error}")
        try:
            ids = self.renderer.answer_ids(example.context, text, example.tools)
        except DataError as error:
            return Score(0.0, f"not a valid answer for the reward model: {error}", text, example.target)
        size = len(context) + len(ids)
        if size > self.model.max_tokens:
            most = self.model.max_tokens
            return Score(None, error=f"{size} tokens; the reward model accepts at most {most}")
        return Row([*context, *ids], [0.0] * len(context) + [1.0] * len(ids), id=example.id)
