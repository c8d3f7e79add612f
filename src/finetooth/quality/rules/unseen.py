"""Rules about differences that cannot be seen: in labels, and between the answers of a preference pair."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator

from finetooth.config.values import format_count, plural
from finetooth.data.read.names import unseen, visible
from finetooth.quality.findings import Finding, Hit, View
from finetooth.types import Example

NAMED = 5
_JOINERS = "\u200c\u200d"  # within words of some scripts, and within emoji, they have a meaning


def unseen_in_label(view: View) -> Iterator[Finding]:
    """`unseen-character` (review): labels with zero-width characters, no-break spaces, marks of direction."""
    if not view.labelled:
        return
    counts = Counter(row.target for _, row in view.rows())
    found = {label: names for label in counts if (names := _unseen(label))}
    if not found:
        return
    twins = [label for label in found if visible(label) != label and visible(label) in counts]
    listed = ", ".join(f"{label!a} ({', '.join(found[label])})" for label in list(found)[:NAMED])
    summary = (
        f"{format_count(len(found), 'label has', 'labels have')} characters that cannot be seen: {listed}."
    )
    if twins:
        one = twins[0]
        summary += (
            f" {len(twins)} of them {plural(len(twins), 'differs', 'differ')} only by these from another "
            f"label ({one!a}, {counts[one]:,}, from {visible(one)!a}, {counts[visible(one)]:,}): the model "
            "would learn them as different answers."
        )
    yield Finding(
        "unseen-character",
        "review",
        summary,
        tuple(
            Hit.of(row, side, f"{row.target!a} has {', '.join(found[row.target])}")
            for side, row in view.rows()
            if row.target in found
        ),
        "Remove these characters from the labels in the file.",
        facts={"labels": {ascii(label): names for label, names in found.items()}, "twins": len(twins)},
    )


def _unseen(label: str) -> list[str]:
    """Names of the unseen characters of a label. Plain spaces, and joiners in other scripts, are meant."""
    names = []
    for at, character in enumerate(label):
        inside = character in _JOINERS and 0 < at < len(label) - 1
        joins = inside and not (label[at - 1].isascii() or label[at + 1].isascii())
        if character not in " \n\t" and unseen(character) and not joins:
            names.append(unicodedata.name(character, f"U+{ord(character):04X}"))
    return list(dict.fromkeys(names))


def pairs_alike(view: View) -> Iterator[Finding]:
    """`pairs-alike` (review): preference pairs whose answers differ only in what cannot be seen."""
    hits = [
        Hit.of(row, side, f"chosen {_text(row, 'chosen')[-40:]!a}, rejected {_text(row, 'rejected')[-40:]!a}")
        for side, row in view.rows()
        if view.format == "preference" and _alike(row)
    ]
    if hits:
        yield Finding(
            "pairs-alike",
            "review",
            f"{format_count(len(hits), 'preference pair has', 'preference pairs have')} answers that differ "
            "only in white space or in characters that cannot be seen. The model would learn to prefer that.",
            tuple(hits),
            "Look at the rows. Unless this is meant, remove them from the file.",
        )


def _alike(row: Example) -> bool:
    chosen, rejected = (_text(row, role) for role in ("chosen", "rejected"))
    more = [answer.more for answer in row.answers]
    return bool(chosen) and visible(chosen) == visible(rejected) and all(one == more[0] for one in more)


def _text(row: Example, role: str) -> str:
    return next((answer.text for answer in row.answers if answer.role == role), "")
