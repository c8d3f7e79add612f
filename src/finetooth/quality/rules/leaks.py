"""Rules about rows that occur on two sides of a split (`leak`, `possible-leak`), in one run or in two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Literal

from finetooth.config.values import format_count, format_count_of, plural
from finetooth.data.examples import normalised_context, source_location
from finetooth.data.split import ADDED, ParentRun, exact_leaks
from finetooth.quality.findings import Finding, Hit, View, question
from finetooth.quality.rules.duplicates import NUMBER, difference, informative_agreement, same_answer
from finetooth.quality.similarity.embeddings import RARELY, nearest
from finetooth.quality.similarity.near import CLOSE, CONTAINED, SimilarPair
from finetooth.quality.similarity.near_duplicates import Row, find_near_duplicates
from finetooth.quality.similarity.strength import STRENGTHS, Strength, exact_strength, pair_strength
from finetooth.types import Example

# A near-duplicate blocks a run only if it is beyond doubt: an edited copy or a passage of the other text,
# with far more in common than by chance, no number that differs, and the same answer.
SURE_WORDS, SURE_SHARE = 8, 0.8
SURE_BEYOND = {"edited": 4.5, "partial": 3.5}  # minimum chance ratios; a passage in one piece says more
ORDINARY = 12  # words; shorter questions share most of their words by chance,
ORDINARY_BEYOND = 3.0  # so that they are listed only as edited copies or passages, with this much in common
BASE = 2_000  # training rows from which the usual rate of similar rows is estimated
WORDS: dict[Strength | Literal["group"], str] = {
    "group": "in the same group as",
    "identical": "the same question as",
    "normalised": "the same question as",
    "edited": "edited, with {:.0%} of the words in the same order as in",
    "partial": "partial, with {:.0%} of the words of the shorter text in both, like",
    "similar": "{:.0%} similar to",
}
SEEN = ("train", "validation")  # sides that training has used: for weights and for model selection
NOT_CHECKED = "Paraphrases, which say the same in other words, were not looked for."


@dataclass(frozen=True, slots=True)
class Leak:
    """A row (other) that repeats a row of an earlier side (one). share: of the words, see pair_strength."""

    one: Row
    other: Row
    strength: Strength | Literal["group"]
    share: float = 1.0

    @property
    def words(self) -> str:
        """How strongly the row repeats the other one, in words."""
        words = WORDS[self.strength].format(self.share)
        return words if self.other[1].context else words.replace("question", "text")

    def hit(self) -> Hit:
        """The later row, with the row it repeats and the difference between the two."""
        (beside, one), (side, example) = self.one, self.other
        evidence = f"{self.words} {beside} {source_location(one)}"
        if self.strength == "identical":
            evidence += ", identical"
        elif self.strength != "group" and normalised_context(example) != normalised_context(one):
            evidence += f"; {difference(question(example), question(one))}"
        return Hit.of(example, side, evidence, one.id)


def leaks(view: View) -> Iterator[Finding]:
    """`leak` (block): a question on two sides, identical or beyond doubt the same; groups on two sides."""
    sure, _ = classify_leaks(view)
    if not sure:
        return
    rows = Counter(leak.other[0] for leak in sure)
    strengths = _by_strength(sure)
    where = " and ".join(
        format_count_of(count, len(view.sides[side]), f"{side} row") for side, count in rows.items()
    )
    yield Finding(
        "leak",
        "block",
        f"{where} {plural(len(sure), 'repeats', 'repeat')} a row (or a group) of another side "
        f"({_listed(strengths)}), so a score on {plural(len(sure), 'it', 'them')} would measure memory, not "
        f"skill. {NOT_CHECKED}",
        tuple(leak.hit() for leak in sure),
        "Remove each row from one of the two files, or give one file and let finetooth split it. If rows "
        "belong together, name the column that says so with data.group.",
        facts={"rows": len(sure), "by_side": dict(rows), "by_tier": strengths},
    )


def possible_leaks(view: View) -> Iterator[Finding]:
    """`possible-leak` (review): similar rows on two sides; with embeddings, also rows of similar meaning."""
    sure, perhaps = classify_leaks(view)
    if perhaps:
        rows = Counter(leak.other[0] for leak in perhaps)
        where = " and ".join(
            format_count_of(count, len(view.sides[side]), f"{side} row") for side, count in rows.items()
        )
        strengths, usual = _by_strength(perhaps), _usual_rate(view)
        yield Finding(
            "possible-leak",
            "review",
            f"{where} {plural(len(perhaps), 'is', 'are')} very similar to a row of another side "
            f"({_listed(strengths)}). If they really are the same, the score will be better than the model "
            f"deserves. For comparison: {usual:.1%} of the training rows are as similar to another training "
            f"row. {NOT_CHECKED}",
            tuple(leak.hit() for leak in perhaps),
            "Look at the pairs and remove rows that are the same; short questions that people really ask "
            "in nearly the same words can stay.",
            facts={
                "rows": len(perhaps),
                "by_side": dict(rows),
                "by_tier": strengths,
                "usual_rate": usual,
            },
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
        (_, one), (_, other), words = leak.one, leak.other, leak.words
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
    """(sure, possible) leaks: each row of a later side once, the strongest first."""
    return view.once("leaks", lambda: _classify(view))


def _classify(view: View) -> tuple[list[Leak], list[Leak]]:
    found = find_near_duplicates(view)
    sure: dict[str, Leak] = {}
    perhaps: dict[str, Leak] = {}
    for side, example, beside, copy in exact_leaks(view.sides, groups=view.config.group is not None):
        if ADDED in example.tags:  # `added-leak` tells it, and shows no sealed row
            continue
        same = normalised_context(example) == normalised_context(copy)
        strength = exact_strength(example, copy) if same else "group"
        sure.setdefault(copy.id, Leak((side, example), (beside, copy), strength))
    for pair in found.pairs:
        one, other = found.rows[pair.one], found.rows[pair.other]
        if one[0] == other[0] or other[1].id in sure or ADDED in one[1].tags:
            continue
        user_provided = bool(view.user_provided & {one[0], other[0]})
        judged = _judge(pair, one[1], other[1], view.labelled, user_provided)
        if judged is not None:
            certain, strength, share = judged
            (sure if certain else perhaps).setdefault(other[1].id, Leak(one, other, strength, share))
    return strongest(sure.values()), strongest(leak for id, leak in perhaps.items() if id not in sure)


def _judge(
    pair: SimilarPair, one: Example, other: Example, labelled: bool, user_provided: bool
) -> tuple[bool, Strength, float] | None:
    """(whether a leak is beyond doubt, its strength, its share), or None if it is not even possible."""
    same = same_answer(one, other, labelled)
    if not same and not (pair.close or user_provided):
        return None
    measured = pair_strength(pair, one, other)
    if measured is None:
        return None
    strength, share = measured
    if pair.tier in ("copy", "words"):
        return same or normalised_context(one) == normalised_context(other), strength, share
    strong = strength in SURE_BEYOND and numbers_agree(question(one), question(other))
    certain = (
        strong
        and user_provided
        and pair.containment >= CLOSE
        and pair.chance_ratio >= SURE_BEYOND[strength]
        and pair.words >= SURE_WORDS
        and share >= SURE_SHARE
    )
    if not same:
        possible = certain or (pair.containment >= CONTAINED and pair.close)
        return (False, strength, share) if possible else None
    if pair.words < ORDINARY:
        possible = strong and (strength == "partial" or pair.chance_ratio >= ORDINARY_BEYOND)
    else:
        possible = pair.close or (user_provided and informative_agreement(one, other))
    return (certain, strength, share) if certain or possible else None


def numbers_agree(one: str, other: str) -> bool:
    """Whether the numbers of one of the texts are all in the other one too."""
    here, there = Counter(NUMBER.findall(one)), Counter(NUMBER.findall(other))
    return not (here - there and there - here)


def strongest(leaks: Iterable[Leak]) -> list[Leak]:
    """The leaks by strength; otherwise in the given order."""
    order = ("group", *STRENGTHS)
    return sorted(leaks, key=lambda leak: order.index(leak.strength))


def _by_strength(leaks: Sequence[Leak]) -> dict[str, int]:
    """Number of leaks of each strength, the strongest first."""
    return dict(Counter(leak.strength for leak in leaks))


def _listed(strengths: Mapping[str, int]) -> str:
    named = {"group": "in the same group"}
    return ", ".join(f"{count:,} {named.get(strength, strength)}" for strength, count in strengths.items())


def _usual_rate(view: View) -> float:
    """Share of (at most BASE) training rows that would be possible leaks if another one were a test row."""
    found = find_near_duplicates(view)
    train = len(view.sides.get("train", ()))
    sampled = range(0, train, max(1, train // BASE))  # `rows` has those of train first
    similar: set[int] = set()
    for pair in found.pairs:
        (side, one), (beside, other) = found.rows[pair.one], found.rows[pair.other]
        ends = {at for at in (pair.one, pair.other) if at in sampled} - similar
        if side != "train" or beside != "train" or not ends or pair.tier in ("copy", "words"):
            continue
        if _judge(pair, one, other, view.labelled, bool(view.user_provided)) is not None:
            similar |= ends
    return len(similar) / max(len(sampled), 1)
