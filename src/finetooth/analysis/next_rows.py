"""Which rows come next: rows of a pool to label, and rows that are missing and have to be written.

Failures are those on validation rows; no function here sees a sealed row. What was tried against a random
draw of the same size, and lost, is in docs/log.md.

Axes: R rows of a space, P pool rows, W wrong validation rows, D dimensions, V words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from finetooth.analysis.answered import AnsweredRow
from finetooth.config.values import format_count
from finetooth.data.formats.parse import RESERVED
from finetooth.data.split import ADDED, CLUSTER, uniform
from finetooth.evaluation.graders.label_sets import expected_labels
from finetooth.privacy.masking import redact
from finetooth.quality.findings import question
from finetooth.types import Example

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
TEMPERATURE = 0.05  # of a cosine, in the density of the failures around a row
SHARE = 0.1  # of the training rows that are drawn without --rows,
FEWEST, MOST = 20, 200  # within these bounds
MISSING_WRONG, MISSING_ROWS = 0.3, 2  # share and number of wrong validation rows of a label that lacks rows
FEW = 0.5  # of the training rows that a label has on average, below which it lacks rows
TO_WRITE = 5  # rows to write for one label
MOST_VALUES, LONGEST = 200, 60  # values of a column that groups rows, and characters of one
SHOWN = 120  # characters of a text that is quoted
OURS = {*RESERVED, CLUSTER, ADDED}  # tags that are no columns of the user's


# Rows of a pool ---------------------------------------------------------------------------------------------


def default_rows(train: int) -> int:
    """How many rows are drawn from a pool unless it is said: a tenth of the training rows, 20 to 200."""
    return min(MOST, max(FEWEST, round(SHARE * train)))


@dataclass(frozen=True, slots=True)
class Space:
    """Texts by what they mean and what they say: hidden states, centred, and TF-IDF of words and word pairs.

    hidden_RD, words_RV: rows of length 1; words_RV is sparse.
    """

    hidden_RD: Floats
    words_RV: Any

    @classmethod
    def of(cls, texts: Sequence[str], hidden_RD: Floats) -> Space:
        """The space of these texts. hidden_RD: the model's hidden states of them."""
        from scipy.sparse import csr_matrix
        from sklearn.feature_extraction.text import TfidfVectorizer

        try:
            words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), dtype=np.float32)
            words_RV = words.fit_transform(texts)
        except ValueError:  # raised for an empty vocabulary
            words_RV = csr_matrix((len(texts), 1), dtype=np.float32)
        centred = hidden_RD - hidden_RD.mean(axis=0)
        length = np.linalg.norm(centred, axis=1, keepdims=True)
        return cls(np.asarray(centred / np.maximum(length, 1e-12), np.float32), words_RV)

    def cosine(self, rows: Ints, others: Ints) -> Floats:
        """The mean of both cosines, (rows, others)."""
        words = (self.words_RV[rows] @ self.words_RV[others].T).toarray()
        return np.asarray((self.hidden_RD[rows] @ self.hidden_RD[others].T + words) / 2, np.float32)


def failure_share(space: Space, pool: Ints, wrong: Ints, right: Ints) -> tuple[Floats, Ints]:
    """How likely each pool row is to fail, in [0, 1], and the position in wrong of the nearest row: two (P,).

    Read off the densities of wrong and of right validation rows around it. pool, wrong, right: rows of space.
    """
    near_PW = space.cosine(pool, wrong)
    wrong_P = np.exp(near_PW / TEMPERATURE).sum(axis=1)
    right_P = np.exp(space.cosine(pool, right) / TEMPERATURE).sum(axis=1)
    return np.asarray(wrong_P / (wrong_P + right_P), np.float32), near_PW.argmax(axis=1)


def spread(space: Space, pool: Ints, worth_P: Floats, count: int) -> list[int]:
    """Positions in pool of `count` rows of great worth that are unlike each other.

    They are taken one by one: the most worth, times the distance to the nearest row taken before.
    """
    apart_P = np.ones(len(pool), np.float32)
    free_P = np.ones(len(pool), bool)
    found: list[int] = []
    for _ in range(min(count, len(pool))):
        at = int(np.where(free_P, worth_P * apart_P, -np.inf).argmax())
        free_P[at] = False
        apart_P = np.minimum(apart_P, np.maximum(1 - space.cosine(pool, pool[[at]])[:, 0], 0))
        found.append(at)
    return found


def random_rows(ids: Sequence[str], count: int, seed: int) -> list[int]:
    """Positions of a uniformly random draw, in a random order: the same rows whatever stands beside them.

    The first few of them are a random draw too.
    """
    return sorted(range(len(ids)), key=lambda at: (uniform(seed, f"next {ids[at]}"), at))[:count]


# Rows that are missing --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Missing:
    """A label, or a value of another column, with many errors and few training rows. like: one of these."""

    column: str
    value: str
    train: int
    wrong: int
    validation: int
    like: Example | None

    @property
    def why(self) -> str:
        """What to write. Only a training row is quoted: a validation row must not get into training."""
        value = repr(short(self.value))
        what = f"whose answer is {value}" if self.column == "label" else f"with {self.column} = {value}"
        rows = format_count(self.train, "training row")
        example = f"; like: {short(question(self.like))!r}" if self.like is not None else ""
        errors = f"{self.wrong} of {self.validation} validation rows wrong"
        return f"write a row {what}: {rows}, and {errors}{example}"


def missing(
    rows: Sequence[AnsweredRow], train: Sequence[Example], labelled: bool, several: bool = False
) -> list[Missing]:
    """Labels and values of the user's columns that lack training rows, the most errors first.

    At least MISSING_ROWS validation rows and MISSING_WRONG of them are wrong, and there are less than FEW of
    the training rows that a value of this column has on average. labelled: answers are labels; several: sets
    of them, in any order.
    """
    trained: dict[tuple[str, str], list[Example]] = {}
    for example in train:
        for group in _groups(example, labelled, several):
            trained.setdefault(group, []).append(example)
    seen, wrong = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for row in rows:
        if row.score is None:
            continue
        for group in _groups(row.example, labelled, several):
            seen[group] += 1
            wrong[group] += row.wrong
    columns = Counter(column for column, _ in {*trained, *seen})
    found = []
    for (column, value), errors in wrong.items():
        here = trained.get((column, value), [])
        if columns[column] > MOST_VALUES or columns[column] < 2 or errors < MISSING_ROWS:
            continue
        if errors >= MISSING_WRONG * seen[column, value] and len(here) < FEW * len(train) / columns[column]:
            like = min(here, key=lambda one: (len(question(one)), one.id)) if here else None
            found.append(Missing(column, value, len(here), errors, seen[column, value], like))
    return sorted(found, key=lambda one: (-one.wrong, one.train, one.column, one.value))


def _groups(example: Example, labelled: bool, several: bool) -> list[tuple[str, str]]:
    label = ", ".join(sorted(expected_labels(example.target).values())) if several else example.target
    found = [("label", label)] if labelled else []
    tags = [(name, value) for name, value in example.tags.items() if name not in OURS]
    return found + [
        (name, str(value))
        for name, value in tags
        if isinstance(value, str | int) and len(str(value)) <= LONGEST
    ]


def short(text: str) -> str:
    """The text on one line, without personal data, cut."""
    line = redact(" ".join(text.split()))
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…"
