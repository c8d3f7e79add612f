"""Rules about labels where a row can have several: each label is checked by itself, not the combinations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

from finetooth.quality.findings import Finding, View
from finetooth.quality.rules.labels import (
    label_imbalance,
    label_spelling,
    labels_are_unique,
    rare_label,
    unseen_label,
)
from finetooth.types import Answer, Example

PER_LABEL = (labels_are_unique, label_spelling, unseen_label, rare_label, label_imbalance)


def several_labels(view: View) -> Iterator[Finding]:
    """The rules of PER_LABEL on each label by itself, if several columns are mapped to label."""
    if not (view.labelled and view.several_labels):
        return
    columns = {name: role for name, role in view.config.columns.items() if role != "label"}
    single = replace(
        view,
        sides={side: [one for row in rows for one in _one_each(row)] for side, rows in view.sides.items()},
        config=view.config.model_copy(update={"columns": columns}),
    )
    for rule in PER_LABEL:
        yield from rule(single)


def _one_each(row: Example) -> Iterator[Example]:
    """The row once for each of its labels, with the same id."""
    for label in separate_labels(row.target):
        yield replace(row, answers=(Answer(label),), tags={**row.tags, "label": label})


def separate_labels(text: str) -> list[str]:
    """The labels of an answer: a JSON list, else separated by a comma and a space."""
    try:
        listed = json.loads(text)
    except (ValueError, RecursionError):
        listed = None
    parts = map(str, listed) if isinstance(listed, list) else text.split(", ")
    return list(dict.fromkeys(part.strip() for part in parts if part.strip()))
