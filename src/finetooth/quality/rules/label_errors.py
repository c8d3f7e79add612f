"""Rules about probable label errors, and the accuracy of a bag-of-words baseline."""

from __future__ import annotations

from collections.abc import Iterator

from finetooth.config.values import format_count
from finetooth.quality.findings import Finding, Hit, View
from finetooth.quality.intervals import wilson
from finetooth.quality.label_audit import LabelAudit, audit_labels


def label_errors(view: View) -> Iterator[Finding]:
    """`label-errors` (review), or `labels-not-judged` (info); and `bag-of-words` (info)."""
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
    suspects, wrong, looked = audit.suspects()
    if not len(suspects):
        return
    train = view.sides["train"]
    doubt = (
        f" The model agrees with only {audit.accuracy:.0%} of all labels, so expect correct labels in the "
        "list."
        if audit.weak
        else ""
    )
    yield Finding(
        "label-errors",
        "review",
        f"About {len(suspects):,} of {_of(audit)} may have the wrong label. Of the {looked:,} rows on "
        f"which a bag-of-words model is most confident, {format_count(wrong, 'has', 'have')} a label other "
        f"than its prediction.{doubt}",
        hits=tuple(
            Hit.of(train[audit.rows[position]], "train", audit.explain(int(position)))
            for position in suspects
        ),
        fix="Review the rows, starting from the top, and correct the labels in your file; finetooth does "
        "not change them.",
        facts={
            "suspects": len(suspects),
            "rows": len(audit.rows),
            "of": audit.total,
            "surest": looked,
            "surest_with_another_label": wrong,
            "accuracy": audit.accuracy,
        },
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
