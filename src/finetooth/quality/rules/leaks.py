"""Rules about rows that are on two sides of the split: surely (`leak`), and perhaps (`possible-leak`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Set
from dataclasses import dataclass

from finetooth.config.values import format_count, format_count_of, plural
from finetooth.data.examples import normalised_context, source_location
from finetooth.data.split import exact_leaks
from finetooth.quality.findings import Finding, Hit, View, question
from finetooth.quality.rules.duplicates import NUMBER, difference, same_answer, telling
from finetooth.quality.similarity.embeddings import RARELY, nearest
from finetooth.quality.similarity.near import CONTAINED, SimilarPair
from finetooth.quality.similarity.near_duplicates import Row, find_near_duplicates
from finetooth.types import Example

# A near-duplicate blocks a run only when it is past doubt: most of the smaller text is in the other, far more
# of it than chance explains, it is not short, no number in it differs, and the answers are the same.
SURE_INSIDE, SURE_BEYOND, SURE_WORDS = 0.9, 5.0, 12
TIERS = {
    "same": "the same question as",
    "group": "of the same group as",
    "copy": "the same question as",
    "words": "the same question but for punctuation as",
    "inside": "{:.0%} of its wording shared with",
    "letters": "{:.0%} alike in spelling to",
}
NOT_CHECKED = "Texts that say the same in other words were not looked for."


@dataclass(frozen=True, slots=True)
class Leak:
    """A row and the row of an earlier side that it repeats. tier: which comparison found it."""

    one: Row
    other: Row
    tier: str
    share: float = 1.0

    def hit(self) -> Hit:
        """The later row, with what it repeats and where the two part."""
        side, example = self.other
        words = TIERS[self.tier].format(self.share)
        words = words if example.context else words.replace("question", "text")
        apart = difference(question(example), question(self.one[1]))
        same = self.tier in ("same", "copy", "group")
        evidence = f"{words} {self.one[0]} {source_location(self.one[1])}" + ("" if same else f"; {apart}")
        return Hit.of(example, side, evidence, self.one[1].id)


def leaks(view: View) -> Iterator[Finding]:
    """`leak`, block: the same question, or beyond doubt the same, on two sides; groups that straddle."""
    sure, _ = classify_leaks(view)
    if not sure:
        return
    rows = Counter(leak.other[0] for leak in sure)
    tiers = Counter(leak.tier for leak in sure)
    where = " and ".join(
        format_count_of(count, len(view.sides[side]), f"{side} row") for side, count in rows.items()
    )
    yield Finding(
        "leak",
        "block",
        f"{where} {plural(len(sure), 'repeats', 'repeat')} a row (or a group) of another side, so a result "
        "on them would measure memory, not "
        f"skill. {NOT_CHECKED}",
        tuple(leak.hit() for leak in sure),
        "Take each row out of one of the two files, or give one file and let finetooth split it. Rows that "
        "belong together: name their column with data.group.",
        facts={"rows": len(sure), "by_side": dict(rows), "by_tier": dict(tiers)},
    )


def possible_leaks(view: View) -> Iterator[Finding]:
    """`possible-leak`, review: rows of two sides that are much alike; with embeddings, alike in meaning."""
    sure, perhaps = classify_leaks(view)
    if perhaps:
        rows = Counter(leak.other[0] for leak in perhaps)
        where = " and ".join(
            format_count_of(count, len(view.sides[side]), f"{side} row") for side, count in rows.items()
        )
        yield Finding(
            "possible-leak",
            "review",
            f"{where} {plural(len(perhaps), 'is', 'are')} much like a row of another side. If that is "
            "the same thing in other clothes, the "
            f"result will be better than the model is. {NOT_CHECKED}",
            tuple(leak.hit() for leak in perhaps),
            "Look at the pairs. Take out what is the same; short questions that people really ask in nearly "
            "the same words may stay.",
            facts={"rows": len(perhaps), "by_side": dict(rows)},
        )

    if view.embed is not None:
        yield from _by_meaning(view, {leak.other[1].id for leak in (*sure, *perhaps)})


def _by_meaning(view: View, known: Set[str]) -> Iterator[Finding]:
    """Rows nearer to a training row in the model's vectors than training rows are to each other."""
    rows = [(side, row) for side, row in view.rows() if side != "train" and row.id not in known]
    limit, found = nearest(view, [row for _, row in rows])
    if not found:
        return
    hits = []
    for at, train, cosine in found:
        side, row = rows[at]
        first = view.sides["train"][train]
        words = f"cosine {cosine:.3f} to train {source_location(first)}: {question(first)}"
        hits.append(Hit.of(row, side, words, first.id))
    yield Finding(
        "possible-leak",
        "review",
        f"{format_count(len(hits), 'row of validation or test is', 'rows of validation or test are')} "
        "closer in "
        "meaning to a training row, by the model's own "
        f"vectors, than all but 1 in {round(1 / RARELY):,} training rows are to each other.",
        tuple(hits),
        "Look at the pairs: some say the same in other words, others are only about the same thing.",
        facts={"rows": len(hits), "tier": "embedding", "cosine": limit},
    )


def classify_leaks(view: View) -> tuple[list[Leak], list[Leak]]:
    """The leaks that block, and those to look at: each row of a later side once, the surest first."""
    found = find_near_duplicates(view)
    sure: dict[str, Leak] = {}
    perhaps: dict[str, Leak] = {}
    for side, example, beside, copy in exact_leaks(view.sides, groups=view.config.group is not None):
        same = normalised_context(example) == normalised_context(copy)
        sure.setdefault(copy.id, Leak((side, example), (beside, copy), "same" if same else "group"))
    for pair in found.pairs:
        one, other = found.rows[pair.one], found.rows[pair.other]
        if one[0] == other[0]:
            continue
        user_provided = bool(view.user_provided & {one[0], other[0]})
        leak = Leak(one, other, pair.tier, pair.share)
        if _sure(pair, one[1], other[1], view.labelled, user_provided):
            sure.setdefault(other[1].id, leak)
        elif _perhaps(pair, one[1], other[1], view.labelled, user_provided):
            perhaps.setdefault(other[1].id, leak)
    return list(sure.values()), [leak for id, leak in perhaps.items() if id not in sure]


def _sure(pair: SimilarPair, one: Example, other: Example, labelled: bool, user_provided: bool) -> bool:
    same = same_answer(one, other, labelled)
    if pair.tier == "copy":
        return same or normalised_context(one) == normalised_context(other)
    if pair.tier == "words":
        return same
    return (
        user_provided
        and same
        and pair.containment >= SURE_INSIDE
        and pair.chance_ratio >= SURE_BEYOND
        and pair.words >= SURE_WORDS
        and _same_numbers(question(one), question(other))
    )


def _same_numbers(one: str, other: str) -> bool:
    """Whether the shorter text has no number that the longer one has not."""
    short, long = sorted((one, other), key=len)
    return not Counter(NUMBER.findall(short)) - Counter(NUMBER.findall(long))


def _perhaps(pair: SimilarPair, one: Example, other: Example, labelled: bool, user_provided: bool) -> bool:
    """Alike and of one answer; with another answer it takes nearly the same words."""
    if not same_answer(one, other, labelled):
        return pair.containment >= CONTAINED and pair.close
    return pair.close or (user_provided and telling(one, other))
