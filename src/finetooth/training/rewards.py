"""The reward of an answer: what one or several graders say of it. And whether a reward can be fooled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetooth.errors import GradeError
from finetooth.evaluation.graders import PERPLEXITY, Grader, resolve
from finetooth.evaluation.written import Compared, as_it_is
from finetooth.types import Example, Score

TRIED = 50  # rows that a reward is tried on
FULL = 1 - 1e-6  # from here on a reward is full marks
FOOLED = 0.1  # share of the rows that one trick may get full marks on by chance
LISTED = 50  # different expected answers that may be the labels of a task
Rewards = Callable[[Example, str], Score]


@dataclass(frozen=True, slots=True)
class Reward:
    """The mean of several graders by weight, in [0, 1]; an error of one is an error of the whole.

    compared: what the graders get of a row and its answer, as in evaluation.
    """

    graders: tuple[tuple[str, Grader, float], ...]
    compared: Compared = as_it_is

    def __call__(self, example: Example, text: str) -> Score:
        """The reward of this answer; its reason names what each grader gave where there are several."""
        pair = self.compared(example, text)
        scores = [(name, grade(*pair), weight) for name, grade, weight in self.graders]
        total = 0.0
        for name, score, weight in scores:
            if score.value is None:
                return Score(None, error=f"{name}: {score.error}")
            total += weight * score.value
        told = scores[0][1].reason
        if len(scores) > 1:
            told = ", ".join(f"{name} {score.value:.3g}" for name, score, _ in scores)
        return Score(total / sum(weight for *_, weight in scores), told, text, example.target)


def of(given: Any, kind: str, folder: Path | None, compared: Compared = as_it_is) -> Reward:
    """The reward that train.reward describes: a grader, {grader: weight}, or a list of graders and of
    {grader: ..., weight: ...}. kind, folder: as of graders.resolve. Raises GradeError.
    """
    parts = []
    for spec, weight in _weighed(given):
        try:
            name, grader = resolve(spec, kind, folder)
        except GradeError as error:
            raise GradeError(str(error).replace("evaluate.grader", "train.reward")) from None
        if name == PERPLEXITY:
            raise GradeError("train.reward: perplexity reads no answer, so it cannot be a reward.")
        parts.append((name, grader, weight))
    return Reward(tuple(parts), compared)


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


def faults(reward: Rewards, examples: Sequence[Example]) -> tuple[list[str], list[str]]:
    """What is wrong with a reward before anything is trained on it, and what is doubtful, in words.

    Tried on up to 50 rows from all parts. Wrong: an expected answer without full marks; full marks, in more
    than a tenth of the rows, for an empty answer, one word over and over, a copy of the question, or all
    answers of a task with few of them at once. Doubtful: full marks for the expected answer three times over.
    """
    tried = examples[:: -(-len(examples) // TRIED)] if examples else []
    wrong: list[str] = []
    doubts: list[str] = []
    known = [row for row in tried if row.target]
    scores = [(row, reward(row, row.target)) for row in known]
    short = [(row, score) for row, score in scores if score.value is None or score.value < FULL]
    if short:
        row, score = short[0]
        got = f"the error {score.error}" if score.value is None else f"{score.value:.3g}"
        told = f" ({score.reason})" if score.reason else ""
        wrong.append(
            f"{len(short)} of {len(known)} expected answers do not get full marks, such as that of row "
            f"{row.id}, {row.target[:60]!r}: {got}{told}"
        )
    answers = list(dict.fromkeys(row.target for row in known))
    closed = answers if len(known) > len(answers) and len(answers) <= LISTED else []
    for called, trick in _tricks(closed):
        played = [(row, text) for row in tried if (text := trick(row)) is not None and _other(row, text)]
        fooled = [(row, text) for row, text in played if (reward(row, text).value or 0.0) >= FULL]
        if fooled and len(fooled) > FOOLED * len(played):
            row, text = fooled[0]
            said = (
                f"{called} gets full marks in {len(fooled)} of {len(played)} rows, such as {row.id}: "
                f"{text[:60]!r}"
            )
            (doubts if called.startswith("the expected") else wrong).append(said)
    return wrong, doubts


def _tricks(closed: Sequence[str]) -> list[tuple[str, Callable[[Example], str | None]]]:
    tricks: list[tuple[str, Callable[[Example], str | None]]] = [
        ("an empty answer", lambda row: ""),
        ("one word over and over", lambda row: " ".join([*_question(row).split(), "the"][:1] * 40)),
        ("a copy of the question", lambda row: _question(row) or None),
        ("the expected answer three times over", lambda row: " ".join([row.target] * 3) or None),
    ]
    listing = "\n".join(closed)
    return [*tricks, ("a list of all answers", lambda row: listing)] if len(closed) > 1 else tricks


def _question(row: Example) -> str:
    return row.context[-1].content if row.context else ""


def _other(row: Example, text: str) -> bool:
    """Whether this is not what the row expects anyway: where a copy is right, copying is no trick."""
    return text.split() not in [answer.text.split() for answer in row.answers]
