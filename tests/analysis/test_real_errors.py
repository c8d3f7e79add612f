"""Slices, clusters, confusions and issues of the real errors of a bag of words on published questions."""

from __future__ import annotations

import random
from functools import cache

import numpy as np
import pytest
from public_data import DATA

from finetooth.analysis.answered import AnsweredRow
from finetooth.analysis.clusters import clusters
from finetooth.analysis.confusions import confused_pairs, confusion_tags
from finetooth.analysis.issues import Iteration, issues
from finetooth.evaluation.bag_of_words import BagOfWordsModel
from finetooth.evaluation.slices import conditions, slice_masks, weak_slices
from finetooth.types import Answer, Example, Message

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not (DATA / "trec").is_dir(), reason="trec is not under FINETOOTH_DATA"),
]


@cache
def rows_of(seed: int, share: float = 1.0) -> list[AnsweredRow]:
    """Answers to 2,000 questions by a model of a share of 3,000 others."""
    lines = (DATA / "trec" / "TREC.train.all").read_text("latin-1").splitlines()
    pairs = list(
        dict.fromkeys((text, label.split(":")[0]) for label, text in (one.split(" ", 1) for one in lines))
    )
    random.Random(0).shuffle(pairs)
    train = random.Random(seed).sample(pairs[:3_000], int(3_000 * share))
    model = BagOfWordsModel.fit([text for text, _ in train], [label for _, label in train])
    test = pairs[3_000:5_000]
    answers = [model.labels[at] for at in model.probabilities([text for text, _ in test]).argmax(axis=1)]
    rows = []
    for at, ((text, label), got) in enumerate(zip(test, answers, strict=True)):
        example = Example(f"r{at}", (Message("user", text),), (Answer(label),), {"label": label})
        rows.append(AnsweredRow(example, got, float(got == label), got=got, want=label))
    return rows


def test_slices_hold_the_rows_that_they_count() -> None:
    rows = rows_of(0)
    examples = [row.example for row in rows]
    found = weak_slices(examples, [row.score or 0.0 for row in rows]).found
    assert any("question" in " ".join(one.conditions) for one in found)
    error_R = np.array([1 - (row.score or 0.0) for row in rows])
    for one, mask in zip(found, slice_masks(examples, found), strict=True):
        assert mask.sum() == one.rows and error_R[mask].mean() == pytest.approx(one.error)
        assert one.error > one.others


def test_clusters_hold_half_of_the_errors_and_are_named_by_labels() -> None:
    rows = rows_of(0)
    found = clusters(rows)
    wrong = sum(row.wrong for row in rows)
    assert 2 <= len(found) <= 12 and sum(one.rows for one in found) >= wrong / 2
    assert sum("answered as" in one.title for one in found) >= len(found) / 2


def test_more_training_rows_fix_confusions_and_as_many_others_do_not() -> None:
    """Two models of as many rows differ by chance; one of all rows beats one of a tenth."""
    names = {name: [f"r{at}" for at in np.flatnonzero(mask)]
             for name, mask in conditions([row.example for row in rows_of(0)]).items()}  # fmt: skip
    history = {key: Iteration(rows := rows_of(*key), confusion_tags(rows))
               for key in ((1, 0.1), (0, 1.0), (1, 0.5), (2, 0.5))}  # fmt: skip
    better = issues([history[1, 0.1], history[0, 1.0]], names)
    assert sum(one.state == "fixed" for one in better) >= 3
    assert all(one.state != "regressed" for one in better)
    same = issues([history[1, 0.5], history[2, 0.5]], names)
    assert sum(one.state in ("fixed", "regressed") for one in same) <= 0.05 * len(same) + 1
    largest = confused_pairs(rows_of(0))[0]
    assert largest.rows > 10 and largest.low < largest.rows / largest.of < largest.high
