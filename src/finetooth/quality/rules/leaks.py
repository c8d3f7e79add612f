"""Rules about rows that occur on two sides of a split (`leak`, `possible-leak`), in one run or in two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Set
from dataclasses import dataclass, replace

from finetooth.config.values import format_count, format_count_of, plural
from finetooth.data.examples import normalised_context, source_location
from finetooth.data.split import ParentRun, exact_leaks
from finetooth.quality.findings import Finding, Hit, View, question
from finetooth.quality.rules.duplicates import NUMBER, difference, informative_agreement, same_answer
from finetooth.quality.similarity.embeddings import RARELY, nearest
from finetooth.quality.similarity.near import CONTAINED, SimilarPair
from finetooth.quality.similarity.near_duplicates import Row, find_near_duplicates
from finetooth.types import Example

# A near-duplicate blocks a run only if it is beyond doubt: most of the smaller text is in the other one, far
# more than by chance; it is not short, no number differs, and the answers are the same.
SURE_INSIDE, SURE_BEYOND, SURE_WORDS = 0.9, 5.0, 12
TIERS = {
    "same": "the same question as",
    "group": "in the same group as",
    "copy": "the same question as",
    "words": "the same question, except for punctuation, as",
    "inside": "{:.0%} of its wording shared with",
    "letters": "{:.0%} similar in spelling to",
}
SEEN = ("train", "validation")  # sides that training has used: for weights and for model selection
NOT_CHECKED = "Paraphrases, which say the same in other words, were not looked for."


@dataclass(frozen=True, slots=True)
class Leak:
    """A row (other) that repeats a row of an earlier side (one). tier: the comparison that found it."""

    one: Row
    other: Row
    tier: str
    share: float = 1.0

    def hit(self) -> Hit:
        """The later row, with the row it repeats and the difference between the two."""
        side, example = self.other
        words = TIERS[self.tier].format(self.share)
        words = words if example.context else words.replace("question", "text")
        apart = difference(question(example), question(self.one[1]))
        same = self.tier in ("same", "copy", "group")
        evidence = f"{words} {self.one[0]} {source_location(self.one[1])}" + ("" if same else f"; {apart}")
        return Hit.of(example, side, evidence, self.one[1].id)


def leaks(view: View) -> Iterator[Finding]:
    """`leak` (block): a question on two sides, identical or beyond doubt the same; groups on two sides."""
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
        f"{where} {plural(len(sure), 'repeats', 'repeat')} a row (or a group) of another side, so a score "
        f"on {plural(len(sure), 'it', 'them')} would measure memory, not skill. {NOT_CHECKED}",
        tuple(leak.hit() for leak in sure),
        "Remove each row from one of the two files, or give one file and let finetooth split it. If rows "
        "belong together, name the column that says so with data.group.",
        facts={"rows": len(sure), "by_side": dict(rows), "by_tier": dict(tiers)},
    )


def possible_leaks(view: View) -> Iterator[Finding]:
    """`possible-leak` (review): similar rows on two sides; with embeddings, also rows of similar meaning."""
    sure, perhaps = classify_leaks(view)
    if perhaps:
        rows = Counter(leak.other[0] for leak in perhaps)
        where = " and ".join(
            format_count_of(count, len(view.sides[side]), f"{side} row") for side, count in rows.items()
        )
        yield Finding(
            "possible-leak",
            "review",
            f"{where} {plural(len(perhaps), 'is', 'are')} very similar to a row of another side. If they "
            f"really are the same, the score will be better than the model deserves. {NOT_CHECKED}",
            tuple(leak.hit() for leak in perhaps),
            "Look at the pairs and remove rows that are the same; short questions that people really ask "
            "in nearly the same words can stay.",
            facts={"rows": len(perhaps), "by_side": dict(rows)},
        )

    if view.embed is not None:
        yield from _by_meaning(view, {leak.other[1].id for leak in (*sure, *perhaps)})


def _by_meaning(view: View, known: Set[str]) -> Iterator[Finding]:
    """Rows closer to a training row, by the model's embeddings, than training rows are to each other."""
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
        "closer in meaning to a training row, by the model's own embeddings, than all but 1 in "
        f"{round(1 / RARELY):,} training rows are to each other.",
        tuple(hits),
        "Look at the pairs: some say the same in other words, others are only about the same topic.",
        facts={"rows": len(hits), "tier": "embedding", "cosine": limit},
    )


def parent_run_leaks(view: View, parent_run: ParentRun) -> Iterator[Finding]:
    """`leak` (block) between this run and its parent run: test rows that the parent was trained on, and
    training rows that are in the parent's sealed test.

    Rows are compared like those of two files of the user's. Rows of the parent's test are not shown.
    """
    side_of = {id(row): side for side, row in view.rows()}
    here = {(side in SEEN, normalised_context(row)) for side, row in view.rows()}
    theirs: dict[bool, list[Example]] = {True: [], False: []}
    for side in view.sides:  # rows also on this side of this run are already covered by `leaks`
        new = [row for row in parent_run.rows(side) if (side in SEEN, normalised_context(row)) not in here]
        theirs[side in SEEN] += [replace(row, id=f"{parent_run.name}: {row.id}") for row in new]
    if not any(theirs.values()):
        return
    own = {seen: [row for side, row in view.rows() if (side in SEEN) == seen] for seen in (True, False)}
    both = {"train": [*theirs[True], *own[True]], "test": [*theirs[False], *own[False]]}
    found, _ = classify_leaks(View(both, view.format, view.config, view.seed, frozenset(both)))
    hits = []
    for leak in found:
        (_, one), (_, other) = leak.one, leak.other
        words = TIERS[leak.tier].format(leak.share)
        if id(one) not in side_of and id(other) in side_of:
            hits.append(
                Hit.of(
                    other, "test", f"{words} {source_location(one)}, a row the model was trained on", one.id
                )
            )
        elif id(one) in side_of and id(other) not in side_of:
            hits.append(Hit.of(one, side_of[id(one)], f"{words} a sealed row of {parent_run.name}"))
    if hits:
        rows = Counter(hit.side for hit in hits)
        where = " and ".join(
            f"{count} of {len(view.sides[side])} {side} rows" for side, count in rows.items()
        )
        yield Finding(
            "leak",
            "block",
            f"{where} repeat a row (or a group) on the other side of the split of {parent_run.name}, so a "
            f"score would measure memory, not skill. {NOT_CHECKED}",
            tuple(hits),
            "Remove these rows, or continue with the file of the first run, whose rows stay on their sides.",
            facts={"rows": len(hits), "by_side": dict(rows)},
        )


def classify_leaks(view: View) -> tuple[list[Leak], list[Leak]]:
    """(sure, possible) leaks: each row of a later side once, the most certain first."""
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
    """Whether every number in the shorter text is also in the longer one."""
    short, long = sorted((one, other), key=len)
    return not Counter(NUMBER.findall(short)) - Counter(NUMBER.findall(long))


def _perhaps(pair: SimilarPair, one: Example, other: Example, labelled: bool, user_provided: bool) -> bool:
    """Similar rows with the same answer; with different answers the texts must be nearly identical."""
    if not same_answer(one, other, labelled):
        return pair.containment >= CONTAINED and pair.close
    return pair.close or (user_provided and informative_agreement(one, other))
