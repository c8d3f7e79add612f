"""Rules about probable label errors, and the accuracy of a bag-of-words baseline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from finetooth.config.values import format_count, format_count_of
from finetooth.quality.findings import Finding, Hit, View
from finetooth.quality.intervals import wilson
from finetooth.quality.label_audit import LabelAudit, audit_labels
from finetooth.quality.label_noise import Floats, Ints

NAMED = 5


def label_errors(view: View) -> Iterator[Finding]:
    """`label-errors` (review), `labels-not-judged` (info; also for single labels), `bag-of-words` (info)."""
    if not view.labelled or len({example.target for example in view.sides.get("train", ())}) < 2:
        return
    audit = audit_labels(view)
    if isinstance(audit, str):
        yield Finding("labels-not-judged", "info", f"Labels were not checked for errors: {audit}.")
        return
    if not audit.is_reliable:
        yield Finding(
            "labels-not-judged",
            "info",
            "The labels could not be checked: a bag-of-words model, trained on the other rows, predicts "
            f"the label of only {audit.accuracy:.0%} of {_of(audit)} (always answering with the most "
            f"frequent label: {audit.majority:.0%}). That is too few to tell wrong labels from difficult "
            "ones, so none are listed.",
            facts={"accuracy": audit.accuracy, "majority": audit.majority, "rows": len(audit.rows)},
        )
        return
    yield _bag_of_words(audit)
    yield from _errors(view, audit)


def _errors(view: View, audit: LabelAudit) -> Iterator[Finding]:
    suspects, probability = audit.suspects()
    train = view.sides["train"]
    by_label = _by_label(audit, suspects, probability)
    silent = [label for label in audit.unrecognised() if label not in by_label]
    if silent:
        yield _not_recognised(silent, audit)
    if not len(suspects):
        return
    doubt = (
        f" The model agrees with only {audit.accuracy:.0%} of all labels, so expect correct labels in the "
        "list."
        if audit.weak
        else ""
    )
    expected_wrong = round(float(probability.sum()), 1)
    expected = max(1, round(expected_wrong))
    yield Finding(
        "label-errors",
        "review",
        f"{len(suspects):,} of {_of(audit)} may have the wrong label; about {expected:,} of them are "
        "expected to be really wrong, and the others to be correct but difficult. Each label is judged by "
        f"its own rate: {_rates(by_label)}.{doubt}",
        hits=tuple(
            Hit.of(
                train[audit.rows[position]],
                "train",
                f"{audit.explain(int(position))}; wrong with a probability of {wrong:.0%}",
            )
            for position, wrong in zip(suspects, probability, strict=True)
        ),
        fix="Review the rows, starting from the top, and correct the labels in your file; finetooth does "
        "not change them.",
        facts={
            "suspects": len(suspects),
            "expected_wrong": expected_wrong,
            "by_label": by_label,
            "rows": len(audit.rows),
            "of": audit.total,
            "accuracy": audit.accuracy,
        },
    )


def _by_label(audit: LabelAudit, suspects: Ints, probability: Floats) -> dict[str, dict[str, float]]:
    """Rows, suspects, and the expected number of wrong ones among them, by label; most suspects first."""
    labels = len(audit.labels)
    rows_L = np.bincount(audit.given_R, minlength=labels)
    listed_L = np.bincount(audit.given_R[suspects], minlength=labels)
    expected_L = np.bincount(audit.given_R[suspects], weights=probability, minlength=labels)
    return {
        audit.labels[label]: {
            "rows": int(rows_L[label]),
            "suspects": int(listed_L[label]),
            "expected_wrong": round(float(expected_L[label]), 1),
        }
        for label in np.argsort(-listed_L, kind="stable")
        if listed_L[label]
    }


def _rates(by_label: Mapping[str, Mapping[str, float]]) -> str:
    named = [
        f"{label!r} {counts['suspects']:,} of {counts['rows']:,}"
        for label, counts in list(by_label.items())[:NAMED]
    ]
    more = len(by_label) - NAMED
    return ", ".join(named) + (f" and {more:,} more" if more > 0 else "")


def _not_recognised(labels: Sequence[str], audit: LabelAudit) -> Finding:
    named = ", ".join(map(repr, labels[:NAMED]))
    named += f" and {len(labels) - NAMED:,} more" if len(labels) > NAMED else ""
    return Finding(
        "labels-not-judged",
        "info",
        f"{format_count_of(len(labels), len(audit.labels), 'label')} could not be checked for "
        f"errors: {named}. A bag-of-words model recognises less than half of their rows, so it cannot tell "
        "wrong labels from difficult rows there.",
        facts={"labels": list(labels)},
    )


def _bag_of_words(audit: LabelAudit) -> Finding:
    low, high = wilson(audit.right, len(audit.rows))
    digits = 0 if high - low > 0.02 else 1
    return Finding(
        "bag-of-words",
        "info",
        f"A bag of words already gets {audit.accuracy:.{digits}%} ({low:.{digits}%} to {high:.{digits}%}) of "
        f"the labels right (cross-validated on {_of(audit)}); always answering with the most frequent label "
        f"gets {audit.majority:.0%}. A fine-tuned model has to beat this to be worth its cost.",
        facts={
            "accuracy": audit.accuracy,
            "low": low,
            "high": high,
            "majority": audit.majority,
            "rows": len(audit.rows),
            "of": audit.total,
        },
    )


def _of(audit: LabelAudit) -> str:
    rows = format_count(len(audit.rows), "training row")
    return rows if len(audit.rows) == audit.total else f"{rows} (a sample of {audit.total:,})"
