"""Rules about personal data and secrets in the rows; values are shown only in redacted form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from finetooth.config.values import format_count_of, plural
from finetooth.privacy.masking import redacted_form
from finetooth.privacy.patterns import KINDS, find
from finetooth.quality.findings import Edit, Finding, Hit, View

_SHOWN = 4  # values listed in the evidence of a row


def personal_data(view: View) -> Iterator[Finding]:
    """Rule `personal-data` (review): rows with values that may identify a person."""
    yield from _rule(view, secret=False)


def secrets(view: View) -> Iterator[Finding]:
    """Rule `secrets` (review): rows with keys, tokens and passwords."""
    yield from _rule(view, secret=True)


def _rule(view: View, secret: bool) -> Iterator[Finding]:
    hits: list[tuple[int, Hit]] = []
    kinds: Counter[str] = Counter()
    rows: Counter[str] = Counter()
    edits: list[Edit] = []
    learned = 0
    for side, example in view.rows():
        asked = [text for message in example.context for text in _values(message.content, secret)]
        answered = [text for answer in example.answers for text in _values(answer.text, secret)]
        values = list(dict.fromkeys([*answered, *asked]))
        if not values:
            continue
        learned += bool(answered)
        kinds.update(kind for kind, _ in values)
        rows.update({kind for kind, _ in values})
        hits.append((len(values), Hit.of(example, side, _evidence(values, bool(answered)))))
        if secret and not answered:
            edits.append(Edit(example.id, "text", "mask_pii"))
    if hits:
        yield _finding(view, secret, hits, kinds, rows, edits, learned)


def _values(text: str, secret: bool) -> list[tuple[str, str]]:
    """(kind, value) pairs found in a text."""
    return [
        (one.kind, text[one.start : one.end])
        for one in find(text, secret)
        if KINDS[one.kind].secret == secret
    ]


def _evidence(values: list[tuple[str, str]], answered: bool) -> str:
    named = [f"{KINDS[kind].one} {redacted_form(kind, value)}" for kind, value in values[:_SHOWN]]
    more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
    return ", ".join(named) + more + (" (in the answer)" if answered else "")


def _finding(
    view: View,
    secret: bool,
    hits: list[tuple[int, Hit]],
    kinds: Counter[str],
    rows: Counter[str],
    edits: list[Edit],
    learned: int,
) -> Finding:
    total = sum(map(len, view.sides.values()))
    counts = [f"{count:,} {KINDS[kind].one if count == 1 else KINDS[kind].many}" for kind, count in
              kinds.most_common()]  # fmt: skip
    what = "keys, tokens or passwords" if secret else "what looks like personal data"
    summary = (
        f"{format_count_of(len(hits), total, 'row')} {plural(len(hits), 'holds', 'hold')} {what}: "
        f"{', '.join(counts)}. A model can repeat {plural(kinds.total(), 'it', 'them')} in its answers."
    )
    if learned:
        summary += (
            f" {learned:,} of these rows have some in the answer; if masked, the model learns to answer "
            "with a tag."
        )
    fix = "Look at the rows. `data.clean: [mask_pii]` replaces every such value with a tag such as [EMAIL]."
    if secret:
        fix = (
            "Revoke any that are real, as they have leaked. `data.clean: [mask_pii]` replaces each with a "
            "tag; --fix does so in rows whose answer holds none."
        )
    hits.sort(key=lambda item: -item[0])
    return Finding(
        "secrets" if secret else "personal-data",
        "review",
        summary,
        tuple(hit for _, hit in hits),
        fix,
        tuple(edits),
        {"values": dict(sorted(kinds.items())), "rows": dict(sorted(rows.items())), "in_answers": learned},
    )
