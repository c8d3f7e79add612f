"""Inconsistent answers: those that change when the question is asked in other words, or sampled again."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from finetooth.analysis.answered import AnsweredRow
from finetooth.analysis.tags.base import Evidence, Tag, TagContext
from finetooth.evaluation.graders.forms import readings

INCONSISTENT = "inconsistent"  # the tag's name
UNSTABLE = 1 / 3  # of the other answers differ
FEWEST = 2  # other answers


@dataclass(frozen=True, slots=True)
class Stability:
    """How far other answers to a question agree with its answer.

    others: how many. flipped: those that differ. rate: their share, 0 for none. entropy: of all answers, in
    bits: 0 when all agree. majority: the most frequent answer, in normal form.
    """

    others: int
    flipped: int
    rate: float
    entropy: float
    majority: str

    @property
    def unstable(self) -> bool:
        """Whether a third of two or more other answers differ."""
        return self.others >= FEWEST and self.rate >= UNSTABLE

    def words(self, wrong: bool) -> str:
        """`unstable`, `wrong but stable` or `stable`. wrong: the answer is."""
        return "unstable" if self.unstable else "wrong but stable" if wrong else "stable"


def normal_answer(text: str) -> str:
    """An answer without case, white space, and what is written around it: quotes, a final full stop."""
    return readings(text, True)[-1].casefold()


def flips(text: str, others: Sequence[str]) -> Stability:
    """How far answers to paraphrases, or further samples, agree with an answer."""
    own, rest = normal_answer(text), [normal_answer(other) for other in others]
    counts = Counter([own, *rest])
    total = counts.total()
    entropy = sum(count / total * math.log2(total / count) for count in counts.values())
    flipped = sum(other != own for other in rest)
    rate = flipped / len(rest) if rest else 0.0
    return Stability(len(rest), flipped, rate, entropy, counts.most_common(1)[0][0])


def inconsistent(others: Mapping[str, Sequence[str]]) -> Tag:
    """The tag `inconsistent`. others: id of a row -> the answers to its paraphrases, or further samples."""

    def detect(row: AnsweredRow, context: TagContext) -> Evidence | None:
        found = flips(row.text, others.get(row.id, ()))
        if not found.unstable:
            return None
        share = f"{found.flipped} of {found.others}"
        return Evidence(f"{share} answers to the same question differ ({found.entropy:.1f} bits)")

    return Tag(
        INCONSISTENT,
        "inconsistent",
        "A third or more of the answers to the same question in other words, or sampled again, differ.",
        detect,
    )
