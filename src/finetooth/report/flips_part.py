"""The part of the first page that counts the rows on which the tuned model and the best prompt differ.

Scores alone are read, also of the sealed test: which rows these are would be a look at it.
"""

from __future__ import annotations

from markupsafe import Markup

from finetooth.analysis.flips import KINDS
from finetooth.evaluation.summary import START
from finetooth.report.evidence import Evidence, Line

GRADED = ("higher", "lower", "equal")  # of scores between right and wrong


def flips(evidence: Evidence, baseline: str, candidate: str) -> dict[str, int]:
    """How many rows the candidate fixed, broke or left as they were; for graded scores higher, lower, equal.

    Over the rows that both have a score for. {} where the run has no records of both.
    """
    split = evidence.summary["split"] if evidence.summary else ""
    score: dict[str, dict[str, float | None]] = {baseline: {}, candidate: {}}
    for record in evidence.lines(f"evaluate/{split}/records.jsonl"):
        if record["candidate"] in score:
            score[record["candidate"]][record["id"]] = record["score"]
    pairs = [
        (before, after)
        for id, before in score[baseline].items()
        if before is not None and (after := score[candidate].get(id)) is not None
    ]
    if not pairs:
        return {}
    if all(value in (0, 1) for pair in pairs for value in pair):
        right = [(before == 1, after == 1) for before, after in pairs]
        order = ((False, True), (True, False), (False, False), (True, True))
        return {kind: right.count(pair) for kind, pair in zip(KINDS, order, strict=True)}
    signs = [(after > before) - (after < before) for before, after in pairs]
    return {kind: signs.count(sign) for kind, sign in zip(GRADED, (1, -1, 0), strict=True)}


def flips_line(evidence: Evidence) -> Line | None:
    """Tuned model against the best prompt, row by row; and against the model that it continues from."""
    result = (evidence.summary or {}).get("comparison")
    if not result or not (counts := flips(evidence, result["baseline"], result["candidate"])):
        return None
    words = f"{_words(counts)}, against the best prompt ({result['baseline']})."
    if START in (evidence.summary or {}) and (before := flips(evidence, START, result["candidate"])):
        words += f" {_words(before)}, against the model that it continues from."
    return Line("Rows that flip", words, chart=flips_bar(counts))


def _words(counts: dict[str, int]) -> str:
    words = ", ".join(f"{count:,} {kind}" for kind, count in counts.items())
    return words if "fixed" in counts else f"Scores: {words}"


def flips_bar(counts: dict[str, int]) -> Markup:
    """The counts as parts of one bar: gains on the left, losses on the right, what is unchanged between."""
    order = ("fixed", "higher", "still right", "still wrong", "equal", "lower", "broken")
    total, at, parts = sum(counts.values()), 0.0, []
    for kind in (kind for kind in order if counts.get(kind)):
        width = 100 * counts[kind] / total
        parts.append(
            f'<rect class="{kind.replace(" ", "-")}" x="{at:.2f}%" y="0" width="{width:.2f}%" height="100%"/>'
        )
        at += width
    return Markup(f'<svg class="flips" width="100%" height="10" aria-hidden="true">{"".join(parts)}</svg>')
