"""A reward model as a reward: its score of an answer, as a number in [0, 1] that means something."""

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

TRIED = 50  # rows that a reward is tried on, and that a reward model's scale is measured on


@dataclass(frozen=True)
class RewardModelScorer:
    """A reward model, the rendering it was trained with, and the scale of its scores.

    An answer is worth 1 / (1 + exp(-(score - middle) / spread)). A reward model is trained on differences
    (Bradley-Terry), so its scores have no zero, and how far they spread depends on how long it was trained.
    middle, the mean score of expected answers, makes 0.5 as good as those. spread, the deviation of the
    scores of expected answers, of those to another question and of copied questions, keeps good and bad
    answers on the slope: with the bare score, whose margins grow with training, all bad answers to a question
    would be worth 0, all good ones 1, and there would be nothing to compare. It is at least 1, the unit in
    which scores are trained (nats): a reward model that hardly sees a difference is not made sure of it.
    Advantages compare, so nothing else about the scale matters.

    An answer is read as a whole one, with the stop token at its end, where the score was learned; so is one
    that was cut, as graders take its text for the answer. What being cut costs is said by train.truncated.
    """

    model: Model
    renderer: Renderer
    middle: float = 0.0
    spread: float = 1.0

    def __call__(self, example: Example, text: str) -> Score:
        """What this answer is worth; see `many`."""
        return self.score_batch([(example, text)])[0]

    def score_batch(self, answers: Sequence[tuple[Example, str]]) -> list[Score]:
        """What the answers are worth, computed together; those to one question share their prompt.

        An answer that no row of training can have, as it is empty or holds the text of a special token, is
        worth 0: what the score says there was never learned. A question that cannot be rendered, a row longer
        than the model takes, and a score that is no number are errors.
        """
        found: list[Score] = []
        for (example, text), read in zip(answers, self._scores(answers), strict=True):
            if isinstance(read, Score):
                found.append(read)
                continue
            value = 0.5 * (1.0 + np.tanh(0.5 * (read - self.middle) / self.spread))  # exp never overflows
            found.append(Score(float(value), f"score {read:.3g}", text, example.target))
        return found

    def calibrated_on(self, examples: Sequence[Example], normalise: AnswerNormaliser) -> RewardModelScorer:
        """The same with middle and spread measured on up to 50 expected answers, from all parts of the rows.

        normalise: what is taken of an answer. Raises GradeError when none of them has a score.
        """
        rows = [row for row in examples[:: -(-len(examples) // TRIED) or 1] if row.target]
        own = [normalise(row, row.target) for row in rows]
        moved = [(row, text) for (row, _), (_, text) in zip(own, own[1:] + own[:1], strict=True)]
        copied = [(row, row.context[-1].content) for row, _ in own if row.context]
        read = self._scores(own + moved + copied)
        right = [one for one in read[: len(own)] if not isinstance(one, Score)]
        if not right:
            errors = [one.error or one.reason for one in read if isinstance(one, Score)]
            why = errors[0] if errors else "the rows have no expected answer"
            raise GradeError(f"train.reward: the reward model scores no expected answer: {why}.")
        spread = float(np.std([one for one in read if not isinstance(one, Score)]))
        return replace(self, middle=float(np.mean(right)), spread=max(1.0, spread))

    def digest(self) -> str:
        """Hex digest of what decides the scores: the weights and the rendering."""
        parts = (self.model.digest(), self.renderer.chat_template, self.renderer.instruction)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    # Rows --------------------------------------------------------------------------------------------------

    def _scores(self, answers: Sequence[tuple[Example, str]]) -> list[float | Score]:
        """The bare score of each answer, or what is said in its place."""
        made = [self._row(example, text) for example, text in answers]
        rows = [row for row in made if isinstance(row, Row)]
        score_R = iter(row_scores(self.model, rows).tolist())
        read = [one if isinstance(one, Score) else next(score_R) for one in made]
        return [
            Score(None, error=f"the reward model's score is {one}; its weights are damaged")
            if isinstance(one, float) and not np.isfinite(one)
            else one
            for one in read
        ]

    def _row(self, example: Example, text: str) -> Row | Score:
        try:
            context = self.renderer.context_row(example.context, example.tools).tokens.tolist()
        except DataError as error:
            return Score(None, error=f"the reward model cannot be asked: {error}")
        try:
            ids = self.renderer.answer_ids(example.context, text, example.tools)
        except DataError as error:
            return Score(0.0, f"no answer to the reward model: {error}", text, example.target)
        size = len(context) + len(ids)
        if size > self.model.max_tokens:
            most = self.model.max_tokens
            return Score(None, error=f"{size} tokens are more than the {most} that the reward model takes")
        return Row([*context, *ids], [0.0] * len(context) + [1.0] * len(ids), id=example.id)
