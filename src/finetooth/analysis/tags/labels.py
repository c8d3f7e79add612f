"""Tags of written labels: one that is not on the list, and one that is nearly on it."""

from __future__ import annotations

import functools
import re

from rapidfuzz.distance import DamerauLevenshtein

from finetooth.analysis.answered import HALF, AnsweredRow
from finetooth.analysis.tags.base import Evidence, Tag, TagContext, shorten
from finetooth.evaluation.graders.forms import folded, readings
from finetooth.evaluation.graders.label_sets import answered_labels

LONG = 8  # letters of a label from which two edits are near
_JOINTS = re.compile(r"[\W_]+")


@functools.lru_cache(64)
def _forms(labels: tuple[str, ...]) -> tuple[frozenset[str], dict[str, str]]:
    """The folded labels, and their letters and digits alone -> the label."""
    return frozenset(folded(one) for one in labels), {_plain(one): one for one in labels}


def _plain(text: str) -> str:
    """Letters and digits, casefolded, without a plural s."""
    found = _JOINTS.sub("", folded(text).casefold())
    return found[:-1] if len(found) > 3 and found.endswith("s") else found


def _nearest(text: str, labels: tuple[str, ...]) -> tuple[str, str] | None:
    """The label that a text nearly is, and what is different."""
    exact, plain = _forms(labels)
    for form in readings(text, True):
        if form in exact:
            return None
        same = next((label for label in labels if folded(label).casefold() == form.casefold()), None)
        if same:
            return same, "the case of letters differs"
    if (label := plain.get(_plain(text))) is not None:
        return label, "spaces, marks or a plural differ"
    key = _plain(text)
    for form, label in plain.items():
        most = 2 if len(form) >= LONG else 1
        if len(form) > 3 and DamerauLevenshtein.distance(key, form, score_cutoff=most) <= most:
            return label, "a letter or two differ"
    named = [
        label
        for label in labels
        if len(label) > 1 and re.search(rf"(?<!\w){re.escape(label)}(?!\w)", text, re.IGNORECASE)
    ]
    inner = [label for label in named if not any(label != other and label in other for other in named)]
    return (inner[0], "it stands among other words") if len(inner) == 1 else None


def _given(row: AnsweredRow, context: TagContext) -> list[str]:
    """The written labels of an answer that are not on the list."""
    if row.chosen or not context.labels or not row.text.strip():
        return []
    if row.score is not None and row.score >= (1 if context.several else HALF):
        return []
    exact, _ = _forms(context.labels)
    if not context.several:
        on_list = any(form in exact for form in readings(row.text, True))
        return [] if on_list else [row.text.strip()]
    known = {label.casefold(): label for label in context.labels}
    return [one for one in answered_labels(row.text, known).values() if folded(one) not in exact]


def _span(row: AnsweredRow, given: str) -> tuple[int | None, int | None]:
    start = row.text.find(given)
    return (start, start + len(given)) if start >= 0 else (None, None)


def _off_list(row: AnsweredRow, context: TagContext) -> Evidence | None:
    for given in _given(row, context):
        if _nearest(given, context.labels) is None:
            words = f"{shorten(given)!r} is none of the {len(context.labels):,} labels"
            return Evidence(words, *_span(row, given))
    return None


def _near_miss(row: AnsweredRow, context: TagContext) -> Evidence | None:
    for given in _given(row, context):
        if near := _nearest(given, context.labels):
            words = f"{shorten(given)!r} is nearly the label {near[0]!r}: {near[1]}"
            return Evidence(words, *_span(row, given))
    return None


TAGS = (
    Tag("off-list-label", "label not on the list", "A written label that is none of the task's.", _off_list),
    Tag(
        "near-miss-label",
        "label nearly right in form",
        "A written label that differs from one of the task's by case, a plural, marks, or a letter or two.",
        _near_miss,
    ),
)
