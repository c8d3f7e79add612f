"""Copies and near-copies as examples on the page of the data check, with their difference in sight.

Texts are shown with personal data redacted; rows of the test are not shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

from finetooth.privacy.masking import redact
from finetooth.quality.findings import Finding, Hit, View, question
from finetooth.types import Example

CLUSTERS, MEMBERS = 8, 3  # clusters that are shown, and rows of a cluster beside its first
LONGEST = 1_200  # characters of a text
CONTEXT = 12  # words beside a difference that are shown
Part = tuple[str, str]  # "same", "only here" or "only there", and the words


def copies(findings: Iterable[Finding], view: View) -> dict[str, Any] | None:
    """Rows that occur several times: the question and the answer, how often, and where. None without any."""
    hits = [hit for finding in findings if finding.rule == "duplicate" for hit in finding.hits]
    clusters = _clusters(hits)
    rows = _examples(view)
    shown: list[dict[str, Any]] = []
    for first, members in sorted(clusters.items(), key=lambda one: -len(one[1])):
        if first in rows and len(shown) < CLUSTERS:
            example = rows[first]
            places = [hit.place for hit in members]
            shown.append(
                {
                    "count": 1 + len(members),
                    "question": _shown(question(example)),
                    "answer": _shown(example.target) if example.context else "",
                    "places": places[:MEMBERS],
                    "more": max(0, len(places) - MEMBERS),
                }
            )
    return {"shown": shown, "clusters": len(clusters), "rows": len(hits)} if shown else None


def near_copies(findings: Iterable[Finding], view: View) -> dict[str, Any] | None:
    """Rows that are nearly the same, each compared with the first of its cluster. None without any."""
    hits = [hit for finding in findings if finding.rule == "near-duplicate" for hit in finding.hits]
    clusters = _clusters([hit for hit in hits if hit.other])
    rows = _examples(view)
    shown: list[dict[str, Any]] = []
    for first, members in sorted(clusters.items(), key=lambda one: -len(one[1])):
        beside = [hit for hit in members if hit.id in rows]
        if first in rows and beside and len(shown) < CLUSTERS:
            original = redact(question(rows[first]))
            others = [
                {"place": hit.place, "parts": word_difference(original, redact(question(rows[hit.id])))}
                for hit in beside[:MEMBERS]
            ]
            shown.append({"count": 1 + len(members), "question": original[:LONGEST], "others": others})
    return {"shown": shown, "clusters": len(clusters)} if shown else None


def word_difference(one: str, other: str) -> list[Part]:
    """The other text in parts: what both have, what only the other has, and what only the first has.

    Long common passages are cut in the middle.
    """
    left, right = (re.findall(r"\s*\S+", text[:LONGEST]) for text in (one, other))
    bare_left, bare_right = ([word.strip() for word in words] for words in (left, right))
    parts: list[Part] = []
    for kind, a, b, c, d in SequenceMatcher(None, bare_left, bare_right, autojunk=False).get_opcodes():
        if kind == "equal":
            words = right[c:d]
            if len(words) > 2 * CONTEXT:
                words = [*words[:CONTEXT], " […]", *words[-CONTEXT:]]
            parts.append(("same", "".join(words)))
            continue
        for name, words in (("only there", left[a:b]), ("only here", right[c:d])):
            text = "".join(words)
            if bare := text.lstrip():
                parts += [("same", text[: -len(bare)])] if bare != text else []
                parts.append((name, bare))
    return parts


def _clusters(hits: Sequence[Hit]) -> Mapping[str, list[Hit]]:
    found: dict[str, list[Hit]] = {}
    for hit in hits:
        found.setdefault(hit.other, []).append(hit)
    return found


def _examples(view: View) -> dict[str, Example]:
    """The rows by id, but those of the test."""
    return {example.id: example for side, example in view.rows() if side != "test"}


def _shown(text: str) -> str:
    clean = redact(text)
    return clean if len(clean) <= LONGEST else clean[: LONGEST - 1] + "…"
