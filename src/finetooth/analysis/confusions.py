"""What the tuned model takes for what: the confusion matrix, and its wrong cells as a table and as tags.

Beside a cell stands how many training rows of its two labels are probably labelled wrong (the label audit):
a model that learned from labels that mix up two classes mixes them up too, and then the labels need mending.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetooth.analysis.answered import AnsweredRow
from finetooth.quality.intervals import wilson
from finetooth.quality.label_audit import LabelAudit

OTHER_ANSWER = "(not a label)"


@dataclass(frozen=True, slots=True)
class Confusion:
    """The rows of each expected label by the label that was answered.

    labels: all that were expected or answered, the most frequent first. ids: (expected, answered) -> ids of
    rows; answered is OTHER_ANSWER for a text that is no label. failed: rows without a score, in no cell.
    """

    labels: tuple[str, ...]
    ids: Mapping[tuple[str, str], Sequence[str]]
    failed: int

    def count(self, expected: Iterable[str], answered: Iterable[str]) -> int:
        """The number of rows with one of these expected labels that were answered with one of those."""
        found = set(answered)
        return sum(len(self.ids.get((one, other), ())) for one in expected for other in found)

    @property
    def wrong(self) -> list[tuple[tuple[str, str], Sequence[str]]]:
        """The cells with wrong answers, the largest first."""
        cells = [(cell, ids) for cell, ids in self.ids.items() if cell[0] != cell[1]]
        return sorted(cells, key=lambda cell: (-len(cell[1]), cell[0]))


def confusion(records: Iterable[Mapping[str, Any]], labels: Iterable[str] = ()) -> Confusion:
    """The matrix of one candidate's records of a task whose answers are labels.

    labels: of the training rows, some of which may be answered and never expected.
    """
    records = list(records)
    expected: Counter[str] = Counter(line["want"] for line in records)
    names = {label.casefold(): label for label in (*labels, *expected)}
    ids: dict[tuple[str, str], list[str]] = defaultdict(list)
    failed = 0
    for line in records:
        if line["score"] is None:
            failed += 1
            continue
        got = line["want"] if line["score"] == 1 else names.get(line["got"].casefold(), OTHER_ANSWER)
        if line["score"] != 1 and got == line["want"]:  # graded otherwise: then it is none of the labels
            got = OTHER_ANSWER
        ids[line["want"], got].append(line["id"])
    order = sorted(expected, key=lambda name: (-expected[name], name))
    only_answered = sorted({got for _, got in ids} - {*order, OTHER_ANSWER})
    return Confusion((*order, *only_answered), dict(ids), failed)


@dataclass(frozen=True, slots=True)
class ConfusedPair:
    """One cell with wrong answers: `rows` of the `of` rows that expect `want` were answered with `got`.

    low, high: of rows/of, the 95% Wilson interval. train_noise: training rows of these two labels, either way
    round, that are probably labelled wrong, None where the labels could not be judged. ids: of the rows.
    """

    want: str
    got: str
    rows: int
    of: int
    low: float
    high: float
    train_noise: int | None
    ids: tuple[str, ...]


def confused_pairs(
    rows: Iterable[AnsweredRow], labels: Iterable[str] = (), audit: LabelAudit | str | None = None
) -> list[ConfusedPair]:
    """The cells with wrong answers of a task whose answers are labels, the largest first.

    labels: of the training rows. audit: quality.label_audit.audit_labels of them, or why there is none.
    """
    matrix = confusion(map(_record, rows), labels)
    noise = suspected_pairs(audit)
    answers = (*matrix.labels, OTHER_ANSWER)
    found = []
    for (want, got), ids in matrix.wrong:
        of = matrix.count([want], answers)
        low, high = wilson(len(ids), of)
        suspects = None if noise is None or got == OTHER_ANSWER else noise[_pair(want, got)]
        found.append(ConfusedPair(want, got, len(ids), of, low, high, suspects, tuple(ids)))
    return found


def confusion_tags(rows: Sequence[AnsweredRow], labels: Iterable[str] = ()) -> list[dict[str, str]]:
    """Of each row its confusion as a tag: `refund taken for billing` -> the same in words; {} for others."""
    tag = {
        id: {f"{want} taken for {got}": f"expected {want}, answered {got}"}
        for (want, got), ids in confusion(map(_record, rows), labels).wrong
        if got != OTHER_ANSWER
        for id in ids
    }
    return [tag.get(row.id, {}) for row in rows]


def suspected_pairs(audit: LabelAudit | str | None) -> Counter[frozenset[str]] | None:
    """How many training rows of each two labels are probably labelled as the other one.

    None where there is no audit, or its model is too weak to judge labels.
    """
    if not isinstance(audit, LabelAudit) or not audit.is_reliable:
        return None
    positions, _ = audit.suspects()
    names = audit.labels
    return Counter(
        _pair(names[given], names[likely])
        for given, likely in zip(audit.given_R[positions], audit.predicted_R[positions], strict=True)
        if given != likely
    )


def _pair(one: str, other: str) -> frozenset[str]:
    return frozenset((one.casefold(), other.casefold()))


def _record(row: AnsweredRow) -> dict[str, Any]:
    return {"id": row.id, "score": row.score, "got": row.got, "want": row.want}
