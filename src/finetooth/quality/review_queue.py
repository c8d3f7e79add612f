"""Training rows to review first, for `check --label-queue`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from finetooth.quality.findings import Hit, View, question
from finetooth.quality.label_audit import Floats, LabelAudit, audit_labels, text_skeleton

AGAIN = 0.5  # priority of another row with the same label pair, relative to the one before


def label_queue(view: View, count: int) -> list[Hit]:
    """Up to `count` training rows to review, by priority, each with a reason.

    Probably wrong labels come first, then the labels that a bag of words is least certain of. Only one of
    several texts that differ just in digits, case and punctuation is listed. For variety, each further row
    of the same (label, predicted label) pair has half the priority of the one before. [] without labels or
    with too few rows.
    """
    audit = audit_labels(view) if view.labelled else ""
    if isinstance(audit, str):
        return []
    train = view.sides["train"]
    texts = [text_skeleton(question(train[row])) for row in audit.rows]
    suspects = audit.suspects()[0].tolist() if audit.is_reliable else []
    top = np.sort(audit.proba_RL, axis=1)
    close = top[:, -1] - top[:, -2]
    listed = set(suspects)
    rest = [at for at in np.argsort(close, kind="stable").tolist() if at not in listed]
    listed_texts: set[str] = set()
    wrong = _spread(audit, suspects, audit.doubt_R, texts, listed_texts)[:count]
    unsure = _spread(audit, rest, 1 - close, texts, listed_texts)[: count - len(wrong)]
    return [
        Hit.of(train[audit.rows[at]], "train", f"{kind}: {audit.explain(at)}")
        for kind, found in (("probably wrong", wrong), ("uncertain", unsure))
        for at in found
    ]


def _spread(
    audit: LabelAudit, order: Sequence[int], priority_R: Floats, texts: Sequence[str], listed_texts: set[str]
) -> list[int]:
    """Positions by priority, without texts listed before, alternating between label pairs."""
    likeliest = audit.predicted_R
    before: Counter[tuple[int, int]] = Counter()
    priority = {}
    for at in order:
        if texts[at] in listed_texts:
            continue
        listed_texts.add(texts[at])
        pair = int(audit.given_R[at]), int(likeliest[at])
        priority[at] = float(priority_R[at]) * AGAIN ** before[pair]
        before[pair] += 1
    return sorted(priority, key=lambda at: -priority[at])
