"""Rules about rows of one side that repeat each other: copies, near-copies, and answers that contradict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from finetooth.data.examples import normalise, normalised_context
from finetooth.data.quality.anchors import words_of
from finetooth.data.quality.clusters import joined
from finetooth.data.quality.findings import Edit, Finding, Hit, View, question
from finetooth.data.quality.near import Pair, pairs_of
from finetooth.types import Example

MANY = 0.01  # share of a side's rows from which on copies deserve a look
AGREE = 0.5  # share of the words of two answers in common from which on they say the same
REFERENCES = 0.1  # share of the rows that have several answers from which on that is how the data is made
CLOSED = 5  # words of the longest answer that is right or wrong rather than put in one way or another
SHOWN = 3

Row = tuple[str, Example]


@dataclass(frozen=True, slots=True)
class Looked:
    """All rows of a view and their near-duplicate pairs, by position in `rows`."""

    rows: list[Row]
    pairs: list[Pair]


def looked(view: View) -> Looked:
    """The rows and pairs of a view, found once."""
    return view.once("pairs", lambda: _looked(view))


def _looked(view: View) -> Looked:
    rows = list(view.rows())
    number = {side: position for position, side in enumerate(view.sides)}
    texts = [question(example) for _, example in rows]
    return Looked(rows, pairs_of(texts, [number[side] for side, _ in rows], view.step))


def sizes(groups: Iterable[int]) -> dict[str, int]:
    """How many groups of rows there are of each size."""
    counts = Counter(groups)
    return {str(size): counts[size] for size in sorted(counts)}


def agree(one: Example, other: Example, labelled: bool) -> bool:
    """Whether two rows give the same answer: the same label, or for free text most of the same words."""
    if not one.context and not other.context:
        return True
    first, second = normalise(one.target), normalise(other.target)
    if first == second or labelled:
        return first == second
    left, right = set(words_of(first)), set(words_of(second))
    return len(left & right) >= AGREE * max(len(left | right), 1)


def difference(mine: str, theirs: str) -> str:
    """Where two texts part, in words: what is between their common beginning and their common end."""
    one, other = mine.split(), theirs.split()
    folded, against = [normalise(word) for word in one], [normalise(word) for word in other]
    least, start, end = min(len(one), len(other)), 0, 0
    while start < least and folded[start] == against[start]:
        start += 1
    while end < least - start and folded[-1 - end] == against[-1 - end]:
        end += 1
    here, there = " ".join(one[start : len(one) - end]), " ".join(other[start : len(other) - end])
    parts = [f"only {where}: “{_short(text)}”" for where, text in (("here", here), ("there", there)) if text]
    return "; ".join(parts) or "differs in spaces and punctuation alone"


def _short(text: str) -> str:
    return text if len(text) <= 70 else f"{text[:45]} … {text[-20:]}"


def duplicates(view: View) -> Iterator[Finding]:
    """`duplicate`: rows of one side with the same question and answers; review from MANY of a side."""
    hits: list[Hit] = []
    shares: dict[str, int] = {}
    for side, examples in view.sides.items():
        first: dict[tuple[str, ...], Example] = {}
        for example in examples:
            answers = (f"{answer.role}\0{normalise(answer.text)}" for answer in example.answers)
            original = first.setdefault((normalised_context(example), *answers), example)
            if original is not example:
                hits.append(Hit.of(example, side, f"again: {_short(question(example))}", original.id))
                shares[side] = shares.get(side, 0) + 1
    if not hits:
        return
    copies = Counter(hit.other for hit in hits)
    most = max(count / len(view.sides[side]) for side, count in shares.items())
    where = ", ".join(
        f"{count} of {len(view.sides[side])} {side} rows ({count / len(view.sides[side]):.1%})"
        for side, count in shares.items()
    )
    yield Finding(
        "duplicate",
        "review" if most >= MANY else "info",
        f"Copies of an earlier row, question and answer alike: {where}. In training a copy counts twice, in "
        "a test it makes the result look surer than it is.",
        tuple(hits),
        "data.clean: [dedupe] or --fix keeps the first of each.",
        tuple(Edit(hit.id, "drop") for hit in hits),
        {"rows": len(hits), "by_side": shares, "sizes": sizes(1 + count for count in copies.values())},
    )


def near_duplicates(view: View) -> Iterator[Finding]:
    """`near-duplicate`: clusters of rows of one side, close to each other and with the same answer."""
    found = looked(view)
    links = [
        (pair.one, pair.other)
        for pair in found.pairs
        if pair.close
        and pair.tier != "copy"
        and found.rows[pair.one][0] == found.rows[pair.other][0]
        and agree(found.rows[pair.one][1], found.rows[pair.other][1], view.labelled)
    ]
    clusters = joined(len(found.rows), links)
    if not clusters:
        return
    hits = [hit for cluster in clusters for hit in _cluster_hits([found.rows[at] for at in cluster])]
    sides = Counter(hit.side for hit in hits)
    where = ", ".join(f"{count} of {len(view.sides[side])} {side} rows" for side, count in sides.items())
    yield Finding(
        "near-duplicate",
        "review",
        f"{len(clusters)} groups of rows ask almost the same and give the same answer ({where}; the largest "
        f"group has {len(clusters[0])}). They teach little more than one row of each.",
        tuple(hits),
        "Look at the largest groups. Where rows came from one form or were generated, keep a few of each; "
        "where people really ask that way, leave them.",
        facts={"clusters": len(clusters), "rows": len(hits), "sizes": sizes(map(len, clusters))},
    )


def _cluster_hits(rows: Sequence[Row]) -> Iterator[Hit]:
    """The rows of a cluster, each with what sets it apart from the first."""
    side, first = rows[0]
    yield Hit.of(first, side, f"{len(rows)} rows like: {_short(question(first))}")
    for side, example in rows[1:]:
        yield Hit.of(example, side, difference(question(example), question(first)), first.id)


def conflicting_answers(view: View) -> Iterator[Finding]:
    """`conflicting-answers`: the same question with different answers, on any sides.

    review for labels and for answers of at most CLOSED words, which cannot all be right; info for free text,
    and where several answers are how the data is made.
    """
    asked: dict[str, list[Row]] = {}
    for side, example in view.rows():
        if example.context:
            asked.setdefault(normalised_context(example), []).append((side, example))
    several = [rows for rows in asked.values() if len({normalise(row.target) for _, row in rows}) > 1]
    affected = sum(map(len, several))
    usual = not view.labelled and affected >= REFERENCES * sum(map(len, asked.values()))
    closed = [rows for rows in several if not usual and (view.labelled or _closed(rows))]
    chosen = {id(rows) for rows in closed}
    free = [rows for rows in several if id(rows) not in chosen]
    if closed:
        yield _conflict(closed, "review")
    if free:
        yield _conflict(free, "info")


def _closed(rows: Sequence[Row]) -> bool:
    return all(len(row.target.split()) <= CLOSED for _, row in rows)


def _conflict(groups: Sequence[Sequence[Row]], severity: str) -> Finding:
    groups = sorted(groups, key=len, reverse=True)
    hits = [hit for rows in groups for hit in _conflict_hits(rows)]
    count = "1 question has" if len(groups) == 1 else f"{len(groups)} questions have"
    if severity == "review":
        says = f"{count} different answers in different rows ({len(hits)} rows). At most one can be right, "
        says += "and the model learns to guess between them."
        fix = "Look at the rows and correct or remove the wrong answers."
        return Finding("conflicting-answers", "review", says, tuple(hits), fix, facts=_facts(groups, hits))
    says = f"{count} several answers in free text ({len(hits)} rows). That is normal where one thing can be "
    says += "said in several ways, as in descriptions or translations."
    fix = "Nothing, if it is meant so; otherwise keep one answer of each."
    return Finding("conflicting-answers", "info", says, tuple(hits), fix, facts=_facts(groups, hits))


def _facts(groups: Sequence[Sequence[Row]], hits: Sequence[Hit]) -> dict[str, int]:
    return {"questions": len(groups), "rows": len(hits)}


def _conflict_hits(rows: Sequence[Row]) -> Iterator[Hit]:
    """The rows of one question, the rarest answers first: with labels those are the likely mistakes."""
    counts = Counter(normalise(row.target) for _, row in rows)
    listed = ", ".join(f"“{_short(text)}” ×{count}" for text, count in counts.most_common(SHOWN))
    more = f" and {len(counts) - SHOWN} others" if len(counts) > SHOWN else ""
    for side, row in sorted(rows, key=lambda pair: counts[normalise(pair[1].target)]):
        other = next(one.id for _, one in rows if normalise(one.target) != normalise(row.target))
        yield Hit.of(row, side, f"{_short(question(row))}: {listed}{more}", other)
