"""Which of two answers a model prefers: by an implicit reward, which its log-probabilities hold, or a score.

Axes: M scored tokens of all rows, R rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from finetooth.data.render.overlong import Overlong, fit_rows
from finetooth.data.render.turns import all_text
from finetooth.errors import DataError, GradeError
from finetooth.evaluation.candidates import Prediction
from finetooth.tree import Row
from finetooth.types import Answer, Example, Message, Score

if TYPE_CHECKING:
    from finetooth.data.render.renderer import Renderer

BY_LENGTH = "by-length"


class ImplicitReward(NamedTuple):
    """What a method takes an answer to be worth, up to a factor.

    reference: its log-probability less that by the starting point; else the log-probability itself.
    mean: per token of the answer, the stop token included; else the sum.
    """

    reference: bool
    mean: bool


IMPLICIT_REWARDS: Mapping[str, ImplicitReward] = {
    "dpo": ImplicitReward(reference=True, mean=False),
    "dpo_norm": ImplicitReward(reference=True, mean=True),
    "ipo": ImplicitReward(reference=True, mean=True),
    "kto": ImplicitReward(reference=True, mean=False),
    "simpo": ImplicitReward(reference=False, mean=True),
    "orpo": ImplicitReward(reference=False, mean=True),
}
MEAN_LOGPROB = ImplicitReward(reference=False, mean=True)  # of a model that no preference was taught
Numbers = Sequence[float] | NDArray[np.float64]
Worth = Callable[[Sequence[Row]], NDArray[np.float64]]


def implicit_rewards(implicit: ImplicitReward, sum_R: Numbers, start_R: Numbers, rows: Sequence[Row]) -> Any:
    """What answers are worth by the rule of a method: R numbers.

    sum_R: log-probabilities of the rows' answers, nats. start_R: by the starting point, where it counts.
    """
    worth_R = np.array(sum_R) - np.array(start_R) if implicit.reference else np.array(sum_R)
    return worth_R / [np.count_nonzero(row.weight) for row in rows] if implicit.mean else worth_R


def full_answer_text(answer: Answer) -> str:
    """All that a model writes for this answer, as text."""
    return all_text(Message("assistant", answer.text, 1.0, answer.more)) if answer.more else answer.text


def grade_preference(example: Example, text: str) -> Score:
    """The grader `preference`: 1 for the chosen answer, 0 for the rejected, half for "", which is a tie."""
    chosen, rejected = map(full_answer_text, preference_pair(example))
    if text not in (chosen, rejected, ""):
        return Score(None, error="preference grades a decision between two answers; this is neither of them")
    value = 0.5 if text == "" else float(text == chosen)
    return Score(value, "a tie" if text == "" else "", text, chosen)


def preference_pair(example: Example) -> tuple[Answer, Answer]:
    """The chosen and the rejected answer of an example. GradeError where one of them is missing."""
    found = {answer.role: answer for answer in reversed(example.answers)}
    try:
        return found["chosen"], found["rejected"]
    except KeyError:
        raise GradeError(f"Row {example.id} has no chosen and rejected answer to decide between.") from None


@dataclass
class PreferenceCandidate:
    """Answers each example with that of its two answers which is worth more; with "" when they tie."""

    name: str
    renderer: Renderer
    worth: Worth
    limit: int
    overlong: Overlong = "raise"
    notes: list[str] = field(default_factory=list)

    def predict(self, examples: Sequence[Example]) -> Iterator[Prediction]:
        """One answer to each example. Raises GradeError for an example without a pair."""
        pairs = [preference_pair(example) for example in examples]
        try:
            rows = [row for example in examples for row in self.renderer.pair(example)]
            rows = fit_rows(rows, self.limit, "cut" if self.overlong == "cut" else "raise", examples).rows
        except DataError as error:
            raise GradeError(f"{self.name}: {error}") from error
        worth_R = self.worth(rows)
        if np.isnan(worth_R).any():
            raise GradeError(f"{self.name}: the model's numbers are not finite; its weights are damaged.")
        for index, (chosen, rejected) in enumerate(pairs):
            good, bad = worth_R[2 * index], worth_R[2 * index + 1]
            text = "" if good == bad else full_answer_text(chosen if good > bad else rejected)
            row = rows[2 * index + (good < bad)]
            scored = int(np.count_nonzero(row.weight))
            yield Prediction(index, text, len(row) - scored, scored)


@dataclass
class LengthBaseline:
    """Prefers the longer answer, or the shorter if that is right more often on the train split.

    What it gets right needs no understanding: length alone tells. Characters are counted.
    """

    train: Sequence[Example]
    name: str = BY_LENGTH
    notes: list[str] = field(default_factory=list)

    def predict(self, examples: Sequence[Example]) -> Iterator[Prediction]:
        """The answer of the better length; "" where both have one length."""
        longer = sum(np.sign(_longer(example)) for example in self.train) >= 0
        self.notes.append(f"always prefers the {'longer' if longer else 'shorter'} answer")
        for index, example in enumerate(examples):
            chosen, rejected = preference_pair(example)
            by = _longer(example) if longer else -_longer(example)
            yield Prediction(index, "" if by == 0 else full_answer_text(chosen if by > 0 else rejected))


def _longer(example: Example) -> int:
    """By how many characters the chosen answer is the longer one."""
    chosen, rejected = preference_pair(example)
    return len(full_answer_text(chosen)) - len(full_answer_text(rejected))
