"""Rules about rows of one side that repeat each other: copies, near-copies, and answers that contradict."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from finetooth.config.values import format_count, format_count_of
from finetooth.data.examples import normalise, normalised_context
from finetooth.privacy.masking import redact
from finetooth.quality.findings import Edit, Finding, Hit, Severity, View, question
from finetooth.quality.similarity.anchors import split_words
from finetooth.quality.similarity.clusters import connected_components
from finetooth.quality.similarity.near_duplicates import NearDuplicates, Row, find_near_duplicates
from finetooth.types import Example

MANY = 0.01  # share of a side's rows from which on copies deserve a look
AGREE, AGREE_SHORT = 0.5, 0.8  # share of the words of two answers in common from which on they say the same
LONG = 20  # words; a shorter answer in a fixed form, as a query is, has most of its words from the form
REFERENCES = 0.1  # share of the rows that have several answers from which on that is how the data is made
CLOSED = 5  # words of the longest answer that is chosen rather than written,
CHOSEN = 0.5  # where so many of the rows have one that other rows have too
SHOWN = 3

NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def sizes(groups: Iterable[int]) -> dict[str, int]:
    """How many groups of rows there are of each size."""
    counts = Counter(groups)
    return {str(size): counts[size] for size in sorted(counts)}


def same_answer(one: Example, other: Example, labelled: bool) -> bool:
    """Whether two rows have the same answer: the same label; in free text most words, and the same numbers.

    In long answers to questions of the same numbers, other numbers are details.
    """
    if not one.context and not other.context:
        return True
    first, second = normalise(one.target), normalise(other.target)
    if first == second or labelled:
        return first == second
    details = _long(first, second) and same_numbers(question(one), question(other))
    return (details or same_numbers(first, second)) and _worded_alike(first, second)


def same_numbers(one: str, other: str) -> bool:
    """Whether two texts have the same numbers, in whatever order."""
    return Counter(NUMBER.findall(one)) == Counter(NUMBER.findall(other))


def telling(one: Example, other: Example) -> bool:
    """Whether it says much that the answers of two rows agree: equal ones and long ones, or plain texts."""
    return (
        not one.context or normalise(one.target) == normalise(other.target) or _long(one.target, other.target)
    )


def _long(one: str, other: str) -> bool:
    return min(len(split_words(one)), len(split_words(other))) >= LONG


def _worded_alike(one: str, other: str) -> bool:
    """Whether two answers have most of their words in common; numbers do not count."""
    left, right = ({word for word in split_words(text) if not word.isdecimal()} for text in (one, other))
    return len(left & right) >= (AGREE if _long(one, other) else AGREE_SHORT) * len(left | right)


def difference(mine: str, theirs: str) -> str:
    """Where two texts part, in words: what is between their common beginning and their common end.

    Personal data is veiled first, as the words that differ may be half of a number.
    """
    one, other = redact(mine).split(), redact(theirs).split()
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


def _told(text: str) -> str:
    return _short(" ".join(redact(text).split()))


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
                hits.append(Hit.of(example, side, f"again: {_told(question(example))}", original.id))
                shares[side] = shares.get(side, 0) + 1
    if not hits:
        return
    copies = Counter(hit.other for hit in hits)
    plain = view.format == "text"
    most = max(count / len(view.sides[side]) for side, count in shares.items())
    where = ", ".join(
        f"{format_count_of(count, len(view.sides[side]), f'{side} row')} "
        f"({count / len(view.sides[side]):.1%})"
        for side, count in shares.items()
    )
    yield Finding(
        "duplicate",
        "review" if most >= MANY else "info",
        f"Copies of an earlier row{'' if plain else ', question and answer alike'}: {where}. In training a "
        "copy "
        "counts twice, in a test it makes the result look surer than it is.",
        tuple(hits),
        "data.clean: [dedupe] or --fix keeps the first of each.",
        tuple(Edit(hit.id, "drop") for hit in hits),
        {"rows": len(hits), "by_side": shares, "sizes": sizes(1 + count for count in copies.values())},
    )


def near_duplicates(view: View) -> Iterator[Finding]:
    """`near-duplicate`: clusters of rows of one side, close to each other and with the same answer.

    info, in a finding of its own, for questions and free answers that are alike but for other numbers.
    """
    found = find_near_duplicates(view)
    same: list[tuple[int, int]] = []
    form: list[tuple[int, int]] = []
    for pair in found.pairs:
        (side, one), (beside, other) = found.rows[pair.one], found.rows[pair.other]
        if side != beside or not pair.close or pair.tier == "copy":
            continue
        if same_answer(one, other, view.labelled):
            same.append((pair.one, pair.other))
        elif not view.labelled and _other_numbers(one, other):
            form.append((pair.one, pair.other))
    if groups := _grouped(found, same):
        yield _near(
            view,
            "review",
            groups,
            "say almost the same"
            if view.format == "text"
            else "ask almost the same and give the same answer",
            "They teach little more than one row of each.",
            "Look at the largest groups. Where rows came from one form or were generated, keep a few of "
            f"each; where people really {'write' if view.format == 'text' else 'ask'} that way, leave them.",
        )
    if groups := _grouped(found, form):
        yield _near(
            view,
            "info",
            groups,
            "ask almost the same with other numbers and have other numbers in their answers",
            "No mistake, where the answer follows from the numbers; but fewer different questions than rows.",
        )


def _other_numbers(one: Example, other: Example) -> bool:
    """Whether both the questions and the answers differ in numbers, and the answers in little else."""
    if same_numbers(question(one), question(other)) or same_numbers(one.target, other.target):
        return False
    return _worded_alike(normalise(one.target), normalise(other.target))


def _grouped(found: NearDuplicates, links: Sequence[tuple[int, int]]) -> list[list[Row]]:
    """The rows that links join, the largest group first."""
    return [[found.rows[at] for at in cluster] for cluster in connected_components(len(found.rows), links)]


def _near(
    view: View, severity: Severity, groups: Sequence[Sequence[Row]], what: str, so: str, fix: str = ""
) -> Finding:
    hits = [hit for rows in groups for hit in _cluster_hits(rows)]
    sides = Counter(hit.side for hit in hits)
    where = ", ".join(
        format_count_of(count, len(view.sides[side]), f"{side} row") for side, count in sides.items()
    )
    count = format_count(len(groups), "group of rows", "groups of rows")
    return Finding(
        "near-duplicate",
        severity,
        f"{count} {what} ({where}; the largest group has {len(groups[0]):,}). {so}",
        tuple(hits),
        fix,
        facts={"clusters": len(groups), "rows": len(hits), "sizes": sizes(map(len, groups))},
    )


def _cluster_hits(rows: Sequence[Row]) -> Iterator[Hit]:
    """The rows of a cluster, each with what sets it apart from the first."""
    side, first = rows[0]
    yield Hit.of(first, side, f"{len(rows):,} rows like: {_told(question(first))}")
    for side, example in rows[1:]:
        yield Hit.of(example, side, difference(question(example), question(first)), first.id)


def conflicting_answers(view: View) -> Iterator[Finding]:
    """`conflicting-answers`: the same question with different answers, on any sides.

    review where one answer at most can be right: labels, and answers of at most CLOSED words where the set's
    answers are chosen from few, or with different numbers. info for open answers, as in a conversation, and
    where several answers are how the data is made.
    """
    asked: dict[str, list[Row]] = {}
    for side, example in view.rows():
        if example.context:
            asked.setdefault(normalised_context(example), []).append((side, example))
    several = [rows for rows in asked.values() if len({normalise(row.target) for _, row in rows}) > 1]
    total = sum(map(len, asked.values()))
    usual = not view.labelled and sum(map(len, several)) >= REFERENCES * total
    few = bool(several) and _chosen([row.target for rows in asked.values() for _, row in rows])
    one_is_right = [
        view.labelled or (not usual and _closed([row.target for _, row in rows], few)) for rows in several
    ]
    for wanted in (True, False):
        groups = [rows for rows, one in zip(several, one_is_right, strict=True) if one == wanted]
        if groups:
            yield _conflict(groups, wanted)


def _chosen(answers: Sequence[str]) -> bool:
    """Whether most rows have a short answer that other rows have too."""
    counts = Counter(normalise(answer) for answer in answers)
    short = (rows for answer, rows in counts.items() if rows > 1 and len(answer.split()) <= CLOSED)
    return sum(short) >= CHOSEN * len(answers)


def _closed(answers: Sequence[str], few: bool) -> bool:
    """Whether answers to one question exclude each other. few: the set's answers are chosen from few."""
    numbers = {tuple(NUMBER.findall(answer)) for answer in answers}
    counted_in = len(numbers) > 1 and () not in numbers
    return (few or counted_in) and all(len(answer.split()) <= CLOSED for answer in answers)


def _conflict(groups: Sequence[Sequence[Row]], one_is_right: bool) -> Finding:
    groups = sorted(groups, key=len, reverse=True)
    hits = [hit for rows in groups for hit in _conflict_hits(rows)]
    count = format_count(len(groups), "question has", "questions have")
    if one_is_right:
        says = f"{count} different answers in different rows ({len(hits):,} rows). At most one can be right, "
        says += "and the model learns to guess between them."
        fix = "Look at the rows and correct or remove the wrong answers."
        return Finding("conflicting-answers", "review", says, tuple(hits), fix, facts=_facts(groups, hits))
    says = f"{count} several answers ({len(hits):,} rows). That is normal where one thing can be said in "
    says += "several ways, as in conversations, descriptions or translations; where one answer is right, the "
    says += "others are mistakes."
    fix = "Nothing, if it is meant so; otherwise keep one answer of each."
    return Finding("conflicting-answers", "info", says, tuple(hits), fix, facts=_facts(groups, hits))


def _facts(groups: Sequence[Sequence[Row]], hits: Sequence[Hit]) -> dict[str, int]:
    return {"questions": len(groups), "rows": len(hits)}


def _conflict_hits(rows: Sequence[Row]) -> Iterator[Hit]:
    """The rows of one question, the rarest answers first: with labels those are the likely mistakes."""
    answers = [normalise(row.target) for _, row in rows]
    counts = Counter(answers)
    first: dict[str, Example] = {}
    for (_, row), answer in zip(rows, answers, strict=True):
        first.setdefault(answer, row)
    usual = [(_told(first[answer].target), count) for answer, count in counts.most_common(SHOWN)]
    listed = ", ".join(f"“{text}” ×{count:,}" for text, count in usual)
    more = f" and {len(counts) - SHOWN} others" if len(counts) > SHOWN else ""
    for (side, row), answer in sorted(
        zip(rows, answers, strict=True), key=lambda pair: (counts[pair[1]], pair[1])
    ):
        other = next(one.id for said, one in first.items() if said != answer)
        here = f"“{_told(row.target)}” to {_told(question(row))}"
        yield Hit.of(row, side, f"{here} (in all: {listed}{more})", other)
