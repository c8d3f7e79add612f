"""Labels that are probably wrong, and how much of the task a bag of words solves already."""

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
    seen = audit_labels(view)
    if isinstance(seen, str):
        yield Finding("labels-not-judged", "info", f"Wrong labels were not looked for: {seen}.")
        return
    if not seen.is_reliable:
        yield Finding(
            "labels-not-judged",
            "info",
            "Cannot judge the labels: a bag of words, trained on the other rows, gives "
            f"{seen.accuracy:.0%} of "
            f"{_of(seen)} their label (always the most frequent one: {seen.majority:.0%}). That is too "
            "little "
            "to tell wrong labels from hard ones, so none are listed.",
            facts={"accuracy": seen.accuracy, "majority": seen.majority, "rows": len(seen.rows)},
        )
        return
    yield _bag_of_words(seen)
    yield from _errors(view, seen)


def _errors(view: View, seen: LabelAudit) -> Iterator[Finding]:
    suspects, wrong, looked = seen.suspects()
    if not len(suspects):
        return
    train = view.sides["train"]
    doubt = f" It is right on only {seen.accuracy:.0%}: expect good labels among them." if seen.weak else ""
    yield Finding(
        "label-errors",
        "review",
        f"About {len(suspects):,} of {_of(seen)} may have the wrong label. Of the {looked:,} rows that a bag "
        f"of words is surest of, {format_count(wrong, 'carries', 'carry')} another label than it "
        f"expects.{doubt}",
        hits=tuple(
            Hit.of(train[seen.rows[position]], "train", seen.explain(int(position))) for position in suspects
        ),
        fix="Look at the rows, from the top, and correct the labels in the file; nothing is changed for you.",
        facts={
            "suspects": len(suspects),
            "rows": len(seen.rows),
            "of": seen.total,
            "surest": looked,
            "surest_with_another_label": wrong,
            "accuracy": seen.accuracy,
        },
    )


def _bag_of_words(seen: LabelAudit) -> Finding:
    low, high = wilson(seen.right, len(seen.rows))
    digits = 0 if high - low > 0.02 else 1
    return Finding(
        "bag-of-words",
        "info",
        f"A bag of words already gets {seen.accuracy:.{digits}%} ({low:.{digits}%} to {high:.{digits}%}) of "
        f"these labels right, in {_of(seen)}, each judged by a model of the others. The most "
        f"frequent label alone gets {seen.majority:.0%}. A fine-tuned model has to beat that to be worth its "
        "cost.",
        facts={
            "accuracy": seen.accuracy,
            "low": low,
            "high": high,
            "majority": seen.majority,
            "rows": len(seen.rows),
            "of": seen.total,
        },
    )


def _of(seen: LabelAudit) -> str:
    rows = format_count(len(seen.rows), "training row")
    return rows if len(seen.rows) == seen.total else f"{rows} (a sample of {seen.total:,})"
