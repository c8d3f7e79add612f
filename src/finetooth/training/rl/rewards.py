"""Rewards of answers from one or several graders, and an audit of whether a reward can be gamed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetooth.config.evaluate_keys import GRADER_SECONDS
from finetooth.config.method_keys import REWARD_MODEL
from finetooth.errors import GradeError
from finetooth.evaluation.answer_text import AnswerNormaliser, identity
from finetooth.evaluation.graders import PERPLEXITY, Grader, grade_all, resolve, settled
from finetooth.training.rl.reward_model import TRIED, RewardModelScorer
from finetooth.types import Example, Score

FULL = 1 - 1e-6  # from here on a reward counts as full
FOOLED = 0.1  # share of the rows on which a trick may get the full reward by chance
LISTED = 50  # most distinct expected answers that can be the labels of a task
RewardFunction = Callable[[Example, str], Score]


def _no_scorer(spec: Mapping[str, Any]) -> tuple[str, RewardModelScorer]:
    raise GradeError("train.reward: a reward model can only be used in a run.")


@dataclass(frozen=True, slots=True)
class Reward:
    """The weighted mean of several graders, in [0, 1]; an error of one grader is an error of the whole.

    normalise: (row, answer) -> what the graders get, as in evaluation.
    """

    graders: tuple[tuple[str, Grader, float], ...]
    normalise: AnswerNormaliser = identity

    def __call__(self, example: Example, text: str) -> Score:
        """The reward of this answer; with several graders the reason lists what each of them gave."""
        return self.score_batch([(example, text)])[0]

    def score_batch(self, answers: Sequence[tuple[Example, str]]) -> list[Score]:
        """The rewards of several answers; a reward model scores them together."""
        pairs = [self.normalise(*answer) for answer in answers]
        scores = [
            grader.score_batch(pairs) if isinstance(grader, RewardModelScorer) else grade_all(grader, pairs)
            for _, grader, _ in self.graders
        ]
        by_answer = zip(*scores, strict=True)
        return [self._mean(*answer, each) for answer, each in zip(answers, by_answer, strict=True)]

    def _mean(self, example: Example, text: str, scores: Sequence[Score]) -> Score:
        total = 0.0
        for (name, _, weight), score in zip(self.graders, scores, strict=True):
            if score.value is None:
                return Score(None, error=f"{name}: {score.error}")
            total += weight * score.value
        reason = scores[0].reason
        if len(scores) > 1:
            named = zip(self.graders, scores, strict=True)
            reason = ", ".join(f"{name} {score.value:.3g}" for (name, *_), score in named)
        return Score(total / sum(weight for *_, weight in self.graders), reason, text, example.target)

    def part(self, reward_models: bool) -> Reward | None:
        """Only its reward models, which never reach 1, or only its other graders; None if it has none."""
        kept = tuple(one for one in self.graders if isinstance(one[1], RewardModelScorer) == reward_models)
        return Reward(kept, self.normalise) if kept else None


def grade(reward: RewardFunction, answers: Sequence[tuple[Example, str]]) -> list[Score]:
    """The reward of each answer; scored as one batch if the reward supports it."""
    return (
        reward.score_batch(answers) if isinstance(reward, Reward) else [reward(*answer) for answer in answers]
    )


def build_reward(
    spec: Any,
    kind: str,
    folder: Path | None,
    normalise: AnswerNormaliser = identity,
    scorer: Callable[[Mapping[str, Any]], tuple[str, RewardModelScorer]] = _no_scorer,
    examples: Sequence[Example] = (),
    seconds: float = GRADER_SECONDS,
) -> Reward:
    """Build the reward of train.reward: a grader, {grader: weight}, or a list of graders and of {grader: ...,
    weight: ...}. kind, folder, seconds: see graders.resolve. scorer: turns {name: reward_model, ...} into a
    name and a scorer. examples: whose expected answers show the decimal mark of numbers. Raises GradeError.
    """
    pairs: list[tuple[Any, Any]] = []
    if isinstance(spec, str) or (isinstance(spec, Mapping) and ("name" in spec or "type" in spec)):
        pairs = [(spec, 1.0)]
    elif isinstance(spec, Mapping):
        pairs = list(spec.items())
    elif isinstance(spec, list):
        pairs = [
            (entry.get("grader"), entry.get("weight", 1.0))
            if isinstance(entry, Mapping) and "grader" in entry
            else (entry, 1.0)
            for entry in spec
        ]
    wrong = [weight for _, weight in pairs if isinstance(weight, bool) or not isinstance(weight, int | float)]
    wrong += [weight for _, weight in pairs if weight not in wrong and not 0 < weight < float("inf")]
    if wrong or not pairs:
        found = f"the weight {wrong[0]!r}" if wrong else repr(spec)
        raise GradeError(
            "train.reward: expected a grader, {grader: weight}, or a list of graders and of "
            f"{{grader: ..., weight: ...}}; a weight is a number above 0. Found {found}."
        )
    graders: list[tuple[str, Grader, float]] = []
    for part, weight in pairs:
        if part == REWARD_MODEL or (isinstance(part, Mapping) and part.get("name") == REWARD_MODEL):
            graders.append((*scorer(part if isinstance(part, Mapping) else {}), float(weight)))
            continue
        try:
            name, grader = resolve(settled(part, examples), kind, folder, seconds)
        except GradeError as error:
            raise GradeError(str(error).replace("evaluate.grader", "train.reward")) from None
        if name == PERPLEXITY:
            raise GradeError("train.reward: perplexity does not grade answers, so it cannot be a reward.")
        graders.append((name, grader, float(weight)))
    return Reward(tuple(graders), normalise)


def audit_reward(  # long: the expected answers, then the tricks
    reward: RewardFunction, examples: Sequence[Example]
) -> tuple[list[str], list[str]]:
    """Find faults and doubts of a reward before anything is trained on it, as text: (faults, doubts).

    Tried on up to 50 examples, spread over all of them. Faults: an expected answer without the full reward;
    the full reward, in more than a tenth of the rows, for an empty answer, one repeated word, a copy of the
    question, or all answers of a classification task at once. Doubts: the full reward for the expected answer
    repeated three times. An error of the reward on more than a tenth of such answers is a fault too.

    Nothing gets the full reward from a reward model, so with one the full reward of a row is that of its
    expected answer; the other graders must still give expected answers their own full reward.
    """
    tried = examples[:: -(-len(examples) // TRIED)] if examples else []
    known = [row for row in tried if row.target]
    faults: list[str] = []
    doubts: list[str] = []
    parts = [reward.part(False), reward.part(True)] if isinstance(reward, Reward) else [reward]
    for part in [part for part in parts if part is not None]:
        least = 0.0 if isinstance(part, Reward) and part.part(True) else FULL
        graded = zip(known, grade(part, [(row, row.target) for row in known]), strict=True)
        short = [(row, score) for row, score in graded if score.value is None or score.value < least]
        if short:
            row, score = short[0]
            got = f"the error {score.error}" if score.value is None else f"{score.value:.3g}"
            reason = f" ({score.reason})" if score.reason else ""
            faults.append(
                f"{len(short)} of {len(known)} expected answers do not get "
                f"{'the full reward' if least else 'a score'}, such as that of row {row.id}, "
                f"{row.target[:60]!r}: {got}{reason}"
            )
    relative = isinstance(reward, Reward) and reward.part(True) is not None
    full = dict.fromkeys((row.id for row in tried), FULL)
    if relative:
        scores = grade(reward, [(row, row.target) for row in known])
        full = {row.id: one.value for row, one in zip(known, scores, strict=True) if one.value is not None}
    gets = "gets at least the reward of the expected answer" if relative else "gets the full reward"

    tricks: list[tuple[str, Callable[[Example], str | None]]] = [
        ("an empty answer", lambda row: ""),
        ("one repeated word", lambda row: " ".join([*_question(row).split(), "the"][:1] * 40)),
        ("a copy of the question", lambda row: _question(row) or None),
        ("the expected answer repeated three times", lambda row: " ".join([row.target] * 3) or None),
    ]
    answers = list(dict.fromkeys(row.target for row in known))
    if len(known) > len(answers) > 1 and len(answers) <= LISTED:
        tricks.append(("a list of all answers", lambda row: "\n".join(answers)))
    for name, trick in tricks:
        tries = [(row, text) for row in tried if row.id in full and (text := trick(row)) is not None]
        # An answer that the row expects anyway is no trick.
        tries = [
            (row, text) for row, text in tries if text.split() not in [a.text.split() for a in row.answers]
        ]
        scores = grade(reward, tries)
        failed = [
            (row, score.error) for (row, _), score in zip(tries, scores, strict=True) if score.value is None
        ]
        if len(failed) > FOOLED * len(tries):
            row, error = failed[0]
            faults.append(
                f"{name} gets no reward in {len(failed)} of {len(tries)} rows, such as {row.id}: {error}. "
                "The reward of a wrong answer is a number too, such as 0"
            )
        fooled = [
            one for one, score in zip(tries, scores, strict=True) if (score.value or 0.0) >= full[one[0].id]
        ]
        if fooled and len(fooled) > FOOLED * len(tries):
            row, text = fooled[0]
            message = f"{name} {gets} in {len(fooled)} of {len(tries)} rows, such as {row.id}: {text[:60]!r}"
            (doubts if name.startswith("the expected") else faults).append(message)
    return faults, doubts


def _question(row: Example) -> str:
    return row.context[-1].content if row.context else ""
