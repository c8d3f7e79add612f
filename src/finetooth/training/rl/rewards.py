"""The reward of an answer: what one or several graders say of it. And whether a reward can be fooled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetooth.config.method_keys import REWARD_MODEL
from finetooth.errors import GradeError
from finetooth.evaluation.answer_text import AnswerNormaliser, identity
from finetooth.evaluation.graders import PERPLEXITY, Grader, resolve
from finetooth.training.rl.reward_model import TRIED, RewardModelScorer
from finetooth.types import Example, Score

FULL = 1 - 1e-6  # from here on a reward is full marks
FOOLED = 0.1  # share of the rows that one trick may get full marks on by chance
LISTED = 50  # different expected answers that may be the labels of a task
RewardFunction = Callable[[Example, str], Score]


def _no_scorer(spec: Mapping[str, Any]) -> tuple[str, RewardModelScorer]:
    raise GradeError("train.reward: a reward model is loaded by a run, and there is none here.")


@dataclass(frozen=True, slots=True)
class Reward:
    """The mean of several graders by weight, in [0, 1]; an error of one is an error of the whole.

    normalise: what the graders get of a row and its answer, as in evaluation.
    """

    graders: tuple[tuple[str, Grader, float], ...]
    normalise: AnswerNormaliser = identity

    def __call__(self, example: Example, text: str) -> Score:
        """The reward of this answer; its reason names what each grader gave where there are several."""
        return self.score_batch([(example, text)])[0]

    def score_batch(self, answers: Sequence[tuple[Example, str]]) -> list[Score]:
        """The rewards of several answers, which a reward model scores together."""
        pairs = [self.normalise(*answer) for answer in answers]
        scores = [
            grader.score_batch(pairs)
            if isinstance(grader, RewardModelScorer)
            else [grader(*pair) for pair in pairs]
            for _, grader, _ in self.graders
        ]
        given = zip(*scores, strict=True)  # by answer
        return [self._mean(*answer, each) for answer, each in zip(answers, given, strict=True)]

    def _mean(self, example: Example, text: str, scores: Sequence[Score]) -> Score:
        total = 0.0
        for (name, _, weight), score in zip(self.graders, scores, strict=True):
            if score.value is None:
                return Score(None, error=f"{name}: {score.error}")
            total += weight * score.value
        told = scores[0].reason
        if len(scores) > 1:
            named = zip(self.graders, scores, strict=True)
            told = ", ".join(f"{name} {score.value:.3g}" for (name, *_), score in named)
        return Score(total / sum(weight for *_, weight in self.graders), told, text, example.target)

    def part(self, relative: bool) -> Reward | None:
        """Its reward models, or its other graders; None without any. Of the former 1 is beyond reach."""
        kept = tuple(one for one in self.graders if isinstance(one[1], RewardModelScorer) == relative)
        return Reward(kept, self.normalise) if kept else None


def grade(reward: RewardFunction, answers: Sequence[tuple[Example, str]]) -> list[Score]:
    """What each answer is worth: all at once where the reward can."""
    return (
        reward.score_batch(answers) if isinstance(reward, Reward) else [reward(*answer) for answer in answers]
    )


def build_reward(
    given: Any,
    kind: str,
    folder: Path | None,
    normalise: AnswerNormaliser = identity,
    scorer: Callable[[Mapping[str, Any]], tuple[str, RewardModelScorer]] = _no_scorer,
) -> Reward:
    """The reward that train.reward describes: a grader, {grader: weight}, or a list of graders and of
    {grader: ..., weight: ...}. kind, folder: as of graders.resolve. scorer: makes {name: reward_model, ...} a
    name and what scores. Raises GradeError.
    """
    parts: list[tuple[str, Grader, float]] = []
    for spec, weight in _weighed(given):
        if spec == REWARD_MODEL or (isinstance(spec, Mapping) and spec.get("name") == REWARD_MODEL):
            parts.append((*scorer(spec if isinstance(spec, Mapping) else {}), weight))
            continue
        try:
            name, grader = resolve(spec, kind, folder)
        except GradeError as error:
            raise GradeError(str(error).replace("evaluate.grader", "train.reward")) from None
        if name == PERPLEXITY:
            raise GradeError("train.reward: perplexity reads no answer, so it cannot be a reward.")
        parts.append((name, grader, weight))
    return Reward(tuple(parts), normalise)


def _weighed(given: Any) -> list[tuple[Any, float]]:
    if isinstance(given, str) or (isinstance(given, Mapping) and ("name" in given or "type" in given)):
        return [(given, 1.0)]
    if isinstance(given, Mapping):
        pairs = list(given.items())
    elif isinstance(given, list):
        pairs = [
            (entry.get("grader"), entry.get("weight", 1.0))
            if isinstance(entry, Mapping) and "grader" in entry
            else (entry, 1.0)
            for entry in given
        ]
    else:
        pairs = []
    wrong = [weight for _, weight in pairs if isinstance(weight, bool) or not isinstance(weight, int | float)]
    wrong += [weight for _, weight in pairs if weight not in wrong and not 0 < weight < float("inf")]
    if wrong or not pairs:
        found = f"the weight {wrong[0]!r}" if wrong else repr(given)
        raise GradeError(
            "train.reward: expected a grader, {grader: weight}, or a list of graders and of "
            f"{{grader: ..., weight: ...}}; a weight is a number above 0. Found {found}."
        )
    return [(spec, float(weight)) for spec, weight in pairs]


# Whether it can be fooled ----------------------------------------------------------------------------------


def audit_reward(reward: RewardFunction, examples: Sequence[Example]) -> tuple[list[str], list[str]]:
    """What is wrong with a reward before anything is trained on it, and what is doubtful, in words.

    Tried on up to 50 rows from all parts. Wrong: an expected answer without full marks; full marks, in more
    than a tenth of the rows, for an empty answer, one word over and over, a copy of the question, or all
    answers of a task with few of them at once. Doubtful: full marks for the expected answer three times over.

    Of a reward model nothing gets full marks. With one, full marks are what the row's expected answer is
    worth; of graders beside it the expected answers must still get their own.
    """
    tried = examples[:: -(-len(examples) // TRIED)] if examples else []
    known = [row for row in tried if row.target]
    relative = isinstance(reward, Reward) and reward.part(True) is not None
    full = dict.fromkeys((row.id for row in tried), FULL)
    wrong = _short(reward, known)
    if relative:
        worth = grade(reward, [(row, row.target) for row in known])
        full = {row.id: one.value for row, one in zip(known, worth, strict=True) if one.value is not None}
    as_much = "is worth no less than the expected answer" if relative else "gets full marks"
    doubts: list[str] = []
    answers = list(dict.fromkeys(row.target for row in known))
    closed = answers if len(known) > len(answers) and len(answers) <= LISTED else []
    for called, trick in _tricks(closed):
        played = [(row, text) for row in tried if (text := trick(row)) is not None and _other(row, text)]
        played = [(row, text) for row, text in played if row.id in full]
        scores = grade(reward, played)
        fooled = [
            one for one, score in zip(played, scores, strict=True) if (score.value or 0.0) >= full[one[0].id]
        ]
        if fooled and len(fooled) > FOOLED * len(played):
            row, text = fooled[0]
            said = (
                f"{called} {as_much} in {len(fooled)} of {len(played)} rows, such as {row.id}: {text[:60]!r}"
            )
            (doubts if called.startswith("the expected") else wrong).append(said)
    return wrong, doubts


def _short(reward: RewardFunction, known: Sequence[Example]) -> list[str]:
    """The fault that expected answers have no full marks; of a reward model, that they have no score."""
    found = []
    parts = [reward.part(False), reward.part(True)] if isinstance(reward, Reward) else [reward]
    for part in [part for part in parts if part is not None]:
        least = 0.0 if isinstance(part, Reward) and part.part(True) else FULL
        scores = zip(known, grade(part, [(row, row.target) for row in known]), strict=True)
        short = [(row, score) for row, score in scores if score.value is None or score.value < least]
        if not short:
            continue
        row, score = short[0]
        got = f"the error {score.error}" if score.value is None else f"{score.value:.3g}"
        told = f" ({score.reason})" if score.reason else ""
        found.append(
            f"{len(short)} of {len(known)} expected answers do not get {'full marks' if least else 'a score'}"
            f", such as that of row {row.id}, {row.target[:60]!r}: {got}{told}"
        )
    return found


def _tricks(closed: Sequence[str]) -> list[tuple[str, Callable[[Example], str | None]]]:
    tricks: list[tuple[str, Callable[[Example], str | None]]] = [
        ("an empty answer", lambda row: ""),
        ("one word over and over", lambda row: " ".join([*_last_message(row).split(), "the"][:1] * 40)),
        ("a copy of the question", lambda row: _last_message(row) or None),
        ("the expected answer three times over", lambda row: " ".join([row.target] * 3) or None),
    ]
    listing = "\n".join(closed)
    return [*tricks, ("a list of all answers", lambda row: listing)] if len(closed) > 1 else tricks


def _last_message(row: Example) -> str:
    return row.context[-1].content if row.context else ""


def _other(row: Example, text: str) -> bool:
    """Whether this is not what the row expects anyway: where a copy is right, copying is no trick."""
    return text.split() not in [answer.text.split() for answer in row.answers]
