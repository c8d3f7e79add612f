"""Which rows come next: rows of a pool to label, and rows that are missing and have to be written.

Failures are those on validation rows; no function here sees a sealed row. What was tried against a random
draw of the same size, and lost, is in docs/log.md.

Axes: P pool rows, W wrong validation rows, O other validation rows, L labels, D dimensions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from finetooth.analysis.answered import AnsweredRow
from finetooth.config.values import format_count
from finetooth.data.formats.parse import RESERVED
from finetooth.data.split import CLUSTER, uniform
from finetooth.privacy.masking import redact
from finetooth.quality.findings import question
from finetooth.types import Example

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
TEMPERATURE = 0.1  # of a cosine, in the density of the failures around a row
SHARE = 0.1  # of the training rows that are drawn without --rows,
FEWEST, MOST = 20, 200  # within these bounds
MISSING_WRONG, MISSING_ROWS = 0.3, 2  # share and number of wrong validation rows of a label that lacks rows
FEW = 0.5  # of the training rows that a label has on average, below which it lacks rows
TO_WRITE = 5  # rows to write for one label
MOST_VALUES, LONGEST = 200, 60  # values of a column that groups rows, and characters of one
SHOWN = 120  # characters of a text that is quoted
OURS = {*RESERVED, CLUSTER, "added-by"}  # tags that are no columns of the user's


# Rows of a pool ---------------------------------------------------------------------------------------------


def default_rows(train: int) -> int:
    """How many rows are drawn from a pool unless it is said: a tenth of the training rows, 20 to 200."""
    return min(MOST, max(FEWEST, round(SHARE * train)))


def failure_share(pool_PD: Floats, wrong_WD: Floats, other_OD: Floats) -> tuple[Floats, Ints]:
    """How likely each pool row is to fail, in [0, 1], and the nearest wrong validation row: two (P,).

    Read off the densities of wrong and of right validation rows around it, in the model's hidden states.
    """
    centre = np.concatenate([pool_PD, wrong_WD, other_OD]).mean(axis=0)
    pool_PD, wrong_WD, other_OD = (unit(one - centre) for one in (pool_PD, wrong_WD, other_OD))
    near_PW = pool_PD @ wrong_WD.T
    wrong_P = np.exp(near_PW / TEMPERATURE).sum(axis=1)
    other_P = np.exp(pool_PD @ other_OD.T / TEMPERATURE).sum(axis=1)
    share_P = np.asarray(wrong_P / np.maximum(wrong_P + other_P, 1e-12), np.float32)
    return share_P, near_PW.argmax(axis=1)


def spread(pool_PD: Floats, worth_P: Floats, count: int) -> list[int]:
    """Positions of `count` rows of great worth that are unlike each other.

    They are taken one by one: the most worth, times the distance to the nearest row taken before.
    """
    pool_PD = unit(pool_PD - pool_PD.mean(axis=0))
    apart_P = np.ones(len(pool_PD), np.float32)
    free_P = np.ones(len(pool_PD), bool)
    found: list[int] = []
    for _ in range(min(count, len(pool_PD))):
        at = int(np.where(free_P, worth_P * apart_P, -np.inf).argmax())
        free_P[at] = False
        apart_P = np.minimum(apart_P, np.maximum(1 - pool_PD @ pool_PD[at], 0))
        found.append(at)
    return found


def random_rows(ids: Sequence[str], count: int, seed: int) -> list[int]:
    """Positions of a uniformly random draw, in pool order: the same rows whatever stands beside them."""
    order = sorted(range(len(ids)), key=lambda at: (uniform(seed, f"next {ids[at]}"), at))
    return sorted(order[:count])


def unit(vectors: Floats) -> Floats:
    """The vectors with length 1; a zero vector stays."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), np.float32)


def entropy_share(logprobs: Mapping[str, float]) -> float:
    """The entropy of a distribution over labels, as a share of the largest possible. logprobs: in nats."""
    logp_L = np.fromiter(logprobs.values(), float)
    if len(logp_L) < 2:
        return 0.0
    p_L = np.exp(logp_L - np.logaddexp.reduce(logp_L))
    return float(-(p_L * np.log(np.maximum(p_L, 1e-12))).sum() / np.log(len(p_L)))


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
        what = (
            f"whose answer is {self.value!r}"
            if self.column == "label"
            else f"with {self.column} = {self.value!r}"
        )
        rows = format_count(self.train, "training row")
        example = f"; like: {short(question(self.like))!r}" if self.like is not None else ""
        errors = f"{self.wrong} of {self.validation} validation rows wrong"
        return f"write a row {what}: {rows}, and {errors}{example}"


def missing(rows: Sequence[AnsweredRow], train: Sequence[Example], labelled: bool) -> list[Missing]:
    """Labels and values of the user's columns that lack training rows, the most errors first.

    At least MISSING_ROWS validation rows and MISSING_WRONG of them are wrong, and there are less than FEW of
    the training rows that a value of this column has on average.
    """
    trained: dict[tuple[str, str], list[Example]] = {}
    for example in train:
        for group in _groups(example, labelled):
            trained.setdefault(group, []).append(example)
    seen, wrong = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for row in rows:
        for group in _groups(row.example, labelled):
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


def _groups(example: Example, labelled: bool) -> list[tuple[str, str]]:
    found = [("label", example.target)] if labelled else []
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
