"""Preference evaluation: which of two answers a model prefers, by implicit reward or by a reward model.

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
    """The implicit reward of an answer under a preference method, up to a factor.

    reference: its log-probability minus that under the reference model; else the log-probability itself.
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
MEAN_LOGPROB = ImplicitReward(reference=False, mean=True)  # for a model without preference training
Numbers = Sequence[float] | NDArray[np.float64]
RewardFunction = Callable[[Sequence[Row]], NDArray[np.float64]]


def implicit_rewards(implicit: ImplicitReward, sum_R: Numbers, start_R: Numbers, rows: Sequence[Row]) -> Any:
    """The implicit reward of each row's answer: R numbers.

    sum_R: log-probabilities of the answers, nats. start_R: those under the reference model, where it is used.
    """
    reward_R = np.array(sum_R) - np.array(start_R) if implicit.reference else np.array(sum_R)
    return reward_R / [np.count_nonzero(row.weight) for row in rows] if implicit.mean else reward_R


def full_answer_text(answer: Answer) -> str:
    """The whole completion of an answer as text, its tool calls and reasoning included."""
    return all_text(Message("assistant", answer.text, 1.0, answer.more)) if answer.more else answer.text


def grade_preference(example: Example, text: str) -> Score:
    """The grader `preference`: 1 for the chosen answer, 0 for the rejected one, 0.5 for "", a tie."""
    chosen, rejected = map(full_answer_text, preference_pair(example))
    if text not in (chosen, rejected, ""):
        return Score(None, error="preference expects the chosen or the rejected answer; this is neither")
    value = 0.5 if text == "" else float(text == chosen)
    return Score(value, "a tie" if text == "" else "", text, chosen)


def preference_pair(example: Example) -> tuple[Answer, Answer]:
    """The chosen and the rejected answer of an example. GradeError where one of them is missing."""
    found = {answer.role: answer for answer in reversed(example.answers)}
    try:
        return found["chosen"], found["rejected"]
    except KeyError:
        raise GradeError(f"Row {example.id} has no pair of a chosen and a rejected answer.") from None


@dataclass
class PreferenceCandidate:
    """Answers each example with the answer of its pair that has the higher reward; with "" for a tie."""

    name: str
    renderer: Renderer
    reward: RewardFunction
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
        reward_R = self.reward(rows)
        if np.isnan(reward_R).any():
            raise GradeError(f"{self.name}: a reward is NaN; the model's weights are damaged.")
        for index, (chosen, rejected) in enumerate(pairs):
            good, bad = reward_R[2 * index], reward_R[2 * index + 1]
            text = "" if good == bad else full_answer_text(chosen if good > bad else rejected)
            row = rows[2 * index + (good < bad)]
            scored = int(np.count_nonzero(row.weight))
            yield Prediction(index, text, len(row) - scored, scored)


@dataclass
class LengthBaseline:
    """Prefers the longer answer, or the shorter one if that is right more often on the train split.

    A baseline for the length bias of preference data. Lengths are in characters.
    """

    train: Sequence[Example]
    name: str = BY_LENGTH
    notes: list[str] = field(default_factory=list)

    def predict(self, examples: Sequence[Example]) -> Iterator[Prediction]:
        """The answer of the preferred length; "" where both have the same length."""

        def texts(example: Example) -> tuple[str, str]:
            chosen, rejected = preference_pair(example)
            return full_answer_text(chosen), full_answer_text(rejected)

        pairs = map(texts, self.train)
        longer = sum(np.sign(len(chosen) - len(rejected)) for chosen, rejected in pairs) >= 0
        self.notes.append(f"always prefers the {'longer' if longer else 'shorter'} answer")
        for index, (chosen, rejected) in enumerate(map(texts, examples)):
            margin = (len(chosen) - len(rejected)) * (1 if longer else -1)
            yield Prediction(index, "" if margin == 0 else chosen if margin > 0 else rejected)
