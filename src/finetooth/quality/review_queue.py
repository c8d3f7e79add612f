"""Which rows are most worth a second look: for `check --label-queue`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from finetooth.quality.findings import Hit, View, question
from finetooth.quality.label_audit import Floats, LabelAudit, audit_labels, text_skeleton

AGAIN = 0.5  # what another row of the same label pair is worth beside the one before it


def label_queue(view: View, count: int) -> list[Hit]:
    """Up to `count` training rows to look at again, the most worthwhile first, each with why.

    First the probably wrong labels, then those a bag of words is least certain of. One row of texts that
    differ in digits, case and punctuation alone stands for all of them, and the labels take turns: every
    further row of a pair (label, likeliest label) counts half as much as the one before. [] where there are
    no labels, or too few rows.
    """
    seen = audit_labels(view) if view.labelled else ""
    if isinstance(seen, str):
        return []
    train = view.sides["train"]
    texts = [text_skeleton(question(train[row])) for row in seen.rows]
    suspects = seen.suspects()[0].tolist() if seen.is_reliable else []
    top = np.sort(seen.proba_RL, axis=1)
    close = top[:, -1] - top[:, -2]
    listed = set(suspects)
    rest = [at for at in np.argsort(close, kind="stable").tolist() if at not in listed]
    told: set[str] = set()
    wrong = _spread(seen, suspects, seen.doubt_R, texts, told)[:count]
    unsure = _spread(seen, rest, 1 - close, texts, told)[: count - len(wrong)]
    return [
        Hit.of(train[seen.rows[at]], "train", f"{kind}: {seen.explain(at)}")
        for kind, found in (("probably wrong", wrong), ("uncertain", unsure))
        for at in found
    ]


def _spread(
    seen: LabelAudit, order: Sequence[int], worth_R: Floats, texts: Sequence[str], told: set[str]
) -> list[int]:
    """Positions of an order, worst first, without texts that were told, the label pairs in turn."""
    likeliest = seen.predicted_R
    before: Counter[tuple[int, int]] = Counter()
    worth = {}
    for at in order:
        if texts[at] in told:
            continue
        told.add(texts[at])
        pair = int(seen.given_R[at]), int(likeliest[at])
        worth[at] = float(worth_R[at]) * AGAIN ** before[pair]
        before[pair] += 1
    return sorted(worth, key=lambda at: -worth[at])
