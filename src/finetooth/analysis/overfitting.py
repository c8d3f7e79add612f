"""Overfitting: how much better a model is on rows that it was trained on, and which of them it has memorised.

A gap between the two scores is normal. What it costs shows in the score on new rows, and in a validation loss
that rises after its best step. Memorised is stricter: a row whose answer is continued word for word from its
first half, although the base does not do so and no other row says the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from finetooth.analysis.annotations import FOLDER
from finetooth.evaluation.statistics import mean_interval

FILE = f"{FOLDER}/overfitting.json"  # of a run: what was measured
MOST_ROWS = 200  # training rows that are asked
MIN_TOKENS = 8  # of a continuation that can be memorised, and of what is given of the answer
MOST_TOKENS = 32  # of a continuation that is compared
ALARM = 0.1  # a gap whose lower bound is above this is called overfitting


@dataclass(frozen=True, slots=True)
class Gap:
    """Mean scores on n_train training and n_validation new rows, and their difference with its 95% CI."""

    train: float
    validation: float
    n_train: int
    n_validation: int
    difference: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """`overfitting` where the lower bound is 10 points or more, `gap` where above 0, else `no gap`."""
        return "overfitting" if self.low >= ALARM else "gap" if self.low > 0 else "no gap"

    def words(self) -> str:
        """The verdict with its numbers, a sentence without the full stop."""
        scores = f"{self.train:.0%} on rows it was trained on, {self.validation:.0%} on new ones"
        low, high, gap = (round(100 * value) for value in (self.low, self.high, self.difference))
        names = {"gap": "a gap that is normal", "no gap": "no gap shown"}
        return (
            f"{names.get(self.verdict, self.verdict)}: {scores} (gap {gap} points, {low} to {high})"
        ).replace("-", "−")


def score_gap(
    train: Sequence[float],
    validation: Sequence[float],
    train_clusters: Sequence[str] | None = None,
    validation_clusters: Sequence[str] | None = None,
) -> Gap:
    """The difference of two independent samples' mean scores, each in [0, 1].

    The interval is made of those of the two means (Newcombe 1998, Stat. Med. 17:873, method 10, for rates by
    Wilson's; for graded scores MOVER, Zou and Donner 2008, Stat. Med. 27:1693). clusters: as in
    `mean_interval`. GradeError for no rows.
    """
    (low_t, high_t), (low_v, high_v) = (
        mean_interval(scores, clusters=clusters)
        for scores, clusters in ((train, train_clusters), (validation, validation_clusters))
    )
    mean_t, mean_v = (sum(scores) / len(scores) for scores in (train, validation))
    difference = mean_t - mean_v
    low = difference - math.hypot(mean_t - low_t, high_v - mean_v)
    high = difference + math.hypot(high_t - mean_t, mean_v - low_v)
    return Gap(mean_t, mean_v, len(train), len(validation), difference, max(-1.0, low), min(1.0, high))


@dataclass(frozen=True, slots=True)
class Losses:
    """The losses of a training. train: mean since the last validation but one. rose: the last validation loss
    is above the best one by 2% and 0.01 at least, as the monitor of the training has it.
    """

    train: float
    validation: float
    last_step: int
    best: float
    best_step: int
    rose: bool

    def words(self) -> str:
        """Whether the validation loss rose, a sentence without the full stop."""
        if not self.rose:
            return "the validation loss did not rise after its best step"
        return (
            f"the validation loss rose from {self.best:.3f} at step {self.best_step:,} to "
            f"{self.validation:.3f} at step {self.last_step:,}, where the training loss is {self.train:.3f}"
        )


def losses_of(metrics: Iterable[Mapping[str, Any]]) -> Losses | None:
    """The losses of train/metrics.jsonl; None without both, and for rewards: a policy loss says nothing."""
    train: list[tuple[int, float]] = []
    valid: list[tuple[int, float]] = []
    for line in metrics:
        if "reward" in line:
            return None
        train += [(line["step"], line["loss"])] if line.get("loss") is not None else []
        valid += [(line["step"], line["valid_loss"])] if line.get("valid_loss") is not None else []
    valid = [(step, loss) for step, loss in valid if step > 0]
    if not train or not valid:
        return None
    best_step, best = min(valid, key=lambda point: point[1])
    last_step, last = valid[-1]
    since = valid[-2][0] if len(valid) > 1 else 0
    recent = [loss for step, loss in train if step > since] or [train[-1][1]]
    rose = last >= best + max(0.02 * best, 0.01)
    return Losses(sum(recent) / len(recent), last, last_step, best, best_step, rose)


@dataclass(frozen=True, slots=True)
class Continuation:
    """Whether a row's answer was continued exactly, over `tokens` tokens, from its first half.

    tuned, base: by which model; the base is asked only where the tuned model did. elsewhere: another row,
    with another prompt, says the same.
    """

    id: str
    tokens: int
    tuned: bool
    base: bool = False
    elsewhere: bool = False
    file: str = ""
    line: int | None = None

    @property
    def memorised(self) -> bool:
        """Whether nothing but the row itself explains it."""
        return self.tuned and not self.base and not self.elsewhere


@dataclass(frozen=True, slots=True)
class Memory:
    """Training rows that were continued exactly, and validation rows by the same measure, as the control.

    gap: of the two rates; None without validation rows. rows: the memorised ones.
    """

    checked: int
    repeated: int
    memorised: int
    control: int
    control_memorised: int
    gap: Gap | None
    rows: list[Continuation]

    @property
    def verdict(self) -> str:
        """`memorised` where the rate is above that of validation rows, `possibly memorised` where it is not
        proven to be, `not memorised` where validation rows have half of it or more, or none has it, or
        `not defined` where no answer is long enough.
        """
        if not self.checked:
            return "not defined"
        if not self.memorised:
            return "not memorised"
        if self.gap is not None and self.gap.low <= 0 and 2 * self.gap.validation >= self.gap.train:
            return "not memorised"
        return "memorised" if self.gap is not None and self.gap.low > 0 else "possibly memorised"

    def words(self) -> str:
        """The verdict with its numbers, a sentence without the full stop."""
        if not self.checked:
            return (
                f"memorised rows are not defined here: no answer that was looked at has {2 * MIN_TOKENS} "
                "tokens, of which the first half could be given and the rest repeated"
            )
        rows = f"{self.memorised} of {self.checked} training rows are continued exactly from their first half"
        others = f"{self.control_memorised} of {self.control} validation rows" if self.control else ""
        known = self.repeated - self.memorised
        words = f"{self.verdict}: {rows}" + (f", and {others}" if others else "")
        if known:
            words += f"; {known} more can be predicted (the base does so, or other rows say the same)"
        return words

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**asdict(self), "verdict": self.verdict, "words": self.words()}


def memory_of(train: Sequence[Continuation], validation: Sequence[Continuation]) -> Memory:
    """What was memorised of the training rows, with validation rows as the control: what is predictable."""
    ours, theirs = ([float(one.memorised) for one in side] for side in (train, validation))
    return Memory(
        len(train),
        sum(one.tuned for one in train),
        sum(one.memorised for one in train),
        len(validation),
        sum(one.memorised for one in validation),
        score_gap(ours, theirs) if train and validation else None,
        [one for one in train if one.memorised],
    )


def is_exact(expected: Sequence[int], got: Sequence[int]) -> bool:
    """Whether a continuation begins with all expected tokens."""
    return len(expected) >= MIN_TOKENS and list(got[: len(expected)]) == list(expected)


def halves(answer: Sequence[int]) -> tuple[list[int], list[int]] | None:
    """What is given of an answer's tokens, and what has to be continued; None for one that is too short.

    Of a long answer its first 64 tokens. answer: without the stop token.
    """
    used = list(answer[: 2 * MOST_TOKENS])
    half = len(used) // 2
    return (used[:half], used[half:]) if half >= MIN_TOKENS else None
