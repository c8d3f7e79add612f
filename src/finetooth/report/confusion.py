"""Tables of what the tuned model takes for what: the matrix, and recall and precision of each label."""

from __future__ import annotations

from collections import Counter
from typing import Any

from finetooth.analysis.confusions import OTHER_ANSWER, Confusion
from finetooth.quality.intervals import wilson

SHOWN_LABELS = 12  # rows and columns of the matrix; of more labels, those with most errors, and the rest
EXAMPLES, CORRECT_EXAMPLES = 5, 2  # shown of a cell
SHOWN_CELLS = 40  # cells with wrong answers that have examples


def label_table(matrix: Confusion) -> list[dict[str, Any]]:
    """Of each label: its rows; recall, precision and F1 with their counts and 95% intervals, None of no row.

    F1 is 2J/(1 + J), where J is the share of right rows among those that have the label or were given it: a
    rate, whose Wilson interval is carried over.
    """

    def share(right: int, of: int) -> dict[str, Any] | None:
        if not of:
            return None
        low, high = wilson(right, of)
        return {"right": right, "of": of, "share": right / of, "low": low, "high": high}

    def f1(right: int, of: int) -> dict[str, Any] | None:
        jaccard = share(right, of)
        if jaccard is None:
            return None
        return {key: 2 * jaccard[key] / (1 + jaccard[key]) for key in ("share", "low", "high")}

    answers = (*matrix.labels, OTHER_ANSWER)
    table = []
    for label in matrix.labels:
        right = matrix.count([label], [label])
        rows, called = matrix.count([label], answers), matrix.count(matrix.labels, [label])
        mistaken = [(other, len(ids)) for (want, other), ids in matrix.wrong if want == label]
        table.append(
            {
                "label": label,
                "rows": rows,
                "recall": share(right, rows),
                "precision": share(right, called),
                "f1": f1(right, rows + called - right),
                "mistaken": mistaken[0] if mistaken else None,
            }
        )
    return table


def grid(matrix: Confusion) -> dict[str, Any]:
    """The matrix as rows of cells, of at most SHOWN_LABELS labels; all others are one more row and column.

    The cells and `failed` sum to the number of records. shade: the cell's share of its row. key: names the
    cell's examples, "" where none are shown.
    """
    shown = list(matrix.labels)
    if len(shown) > SHOWN_LABELS:
        errors: Counter[str] = Counter()
        for cell, ids in matrix.wrong:
            errors.update({label: len(ids) for label in cell})
        most = sorted(matrix.labels, key=lambda label: -errors[label])[: SHOWN_LABELS - 1]
        shown = [label for label in matrix.labels if label in most]
    rest = [label for label in matrix.labels if label not in shown]
    groups = [([label], label) for label in shown]
    groups += [(rest, f"{len(rest):,} other labels")] if rest else []
    columns = [*groups]
    if matrix.count(matrix.labels, [OTHER_ANSWER]):
        columns.append(([OTHER_ANSWER], OTHER_ANSWER))
    keys = cell_keys(matrix)
    rows = []
    for expected, name in groups:
        total = matrix.count(expected, [*matrix.labels, OTHER_ANSWER])
        cells = []
        for answered, other in columns:
            count = matrix.count(expected, answered)
            same = sum(matrix.count([label], [label]) for label in expected) if name == other else 0
            single = len(expected) == len(answered) == 1
            cells.append(
                {
                    "count": count,
                    "right": same,
                    "diagonal": name == other,
                    "mixed": name == other and len(expected) > 1,
                    "shade": round(count / total, 3) if total else 0,
                    "key": keys.get((expected[0], answered[0]), "") if single else "",
                    "title": f"expected {name}, answered {other}: {count:,}",
                }
            )
        rows.append({"name": name, "cells": cells, "total": total})
    return {"rows": rows, "columns": [name for _, name in columns], "rest": len(rest)}


def cell_keys(matrix: Confusion) -> dict[tuple[str, str], str]:
    """A name for each cell whose examples are shown: the largest cells with wrong answers, and the right."""
    wrong = [cell for cell, _ in matrix.wrong[:SHOWN_CELLS]]
    right = [(label, label) for label in matrix.labels[:SHOWN_CELLS] if (label, label) in matrix.ids]
    return {cell: f"cell-{number}" for number, cell in enumerate([*wrong, *right], 1)}
