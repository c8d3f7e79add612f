"""Confused labels with their rate, and the training rows that may have taught the confusion."""

from __future__ import annotations

import numpy as np

from finetooth.analysis.answered import AnsweredRow
from finetooth.analysis.confusions import OTHER_ANSWER, confused_pairs, confusion_tags, suspected_pairs
from finetooth.config.task import DataConfig
from finetooth.quality.findings import View
from finetooth.quality.intervals import wilson
from finetooth.quality.label_audit import LabelAudit, audit_labels
from finetooth.types import Answer, Example, Message


def row(id: str, want: str, got: str, score: float | None = None) -> AnsweredRow:
    example = Example(id, (Message("user", f"q {id}"),), (Answer(want),), {"label": want})
    return AnsweredRow(example, got, float(want == got) if score is None else score, got=got, want=want)


ROWS = [
    *(row(f"a{at}", "refund", "billing" if at < 4 else "refund") for at in range(20)),
    *(row(f"b{at}", "billing", "refund" if at < 1 else "billing") for at in range(10)),
    row("c", "billing", "what?"),
]


def test_cells_with_their_rate_and_rows() -> None:
    first, *others = confused_pairs(ROWS)
    assert (first.want, first.got, first.rows, first.of) == ("refund", "billing", 4, 20)
    assert (first.low, first.high) == wilson(4, 20)
    assert first.ids == ("a0", "a1", "a2", "a3") and first.train_noise is None
    assert {(one.want, one.got, one.rows, one.of) for one in others} == {
        ("billing", "refund", 1, 11), ("billing", OTHER_ANSWER, 1, 11)
    }  # fmt: skip


def test_tags_name_the_labels_as_a_reader_would() -> None:
    tags = confusion_tags(ROWS)
    assert tags[0] == {"refund taken for billing": "expected refund, answered billing"}
    assert tags[5] == {} and tags[-1] == {}
    assert sum(map(len, tags)) == 5


def test_mixed_up_training_labels_stand_beside_the_confusion_that_they_teach() -> None:
    """A tenth of one class is labelled as another; the pair of that cell has most suspects."""
    random = np.random.default_rng(0)
    own = {label: [f"{label}{word}" for word in range(8)] for label in ("refund", "billing", "login")}
    train, swapped = [], 0
    for at in range(600):
        label = [*own][at % 3]
        words = [*random.choice(own[label], 4), *random.choice(["the", "a", "my", "please"], 3)]
        given = label
        if label == "refund" and random.random() < 0.15:
            given, swapped = "billing", swapped + 1
        train.append(
            Example(str(at), (Message("user", " ".join(words)),), (Answer(given),), {"label": given})
        )
    audit = audit_labels(View({"train": train}, "labels", DataConfig.model_construct(columns={})))
    assert isinstance(audit, LabelAudit)
    (first, *_) = confused_pairs(ROWS, ("refund", "billing", "login"), audit)
    assert first.train_noise is not None and 0.8 * swapped <= first.train_noise <= 1.2 * swapped
    noise = suspected_pairs(audit)
    assert noise is not None and noise[frozenset(("refund", "login"))] <= 2
    assert suspected_pairs("too few rows") is None


def test_rows_that_were_not_graded_are_in_no_cell() -> None:
    failed = AnsweredRow(row("a", "x", "x").example, "y", None, got="y", want="x")
    assert confused_pairs([failed]) == [] and confusion_tags([failed]) == [{}]
