"""Rules about duplicates within one side: copies, near-duplicates and conflicting answers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from finetooth.config.values import format_count, format_count_of
from finetooth.data.examples import normalise, normalised_context
from finetooth.data.render.turns import answer_key
from finetooth.data.split import ADDED, connected_components
from finetooth.privacy.masking import redact
from finetooth.quality.findings import Edit, Finding, Hit, Severity, View, question
from finetooth.quality.similarity.anchors import split_words
from finetooth.quality.similarity.near_duplicates import NearDuplicates, Row, find_near_duplicates
from finetooth.types import Example

MANY = 0.01  # share of copies in a side from which they need a review
AGREE, AGREE_SHORT = 0.5, 0.8  # minimum word overlap (Jaccard) of two equivalent answers
LONG = 20  # words; in a shorter answer of fixed form, such as a query, most words belong to the form
REFERENCES = 0.1  # share of rows with several answers from which several references are intended
CLOSED = 5  # maximum words of an answer chosen from a fixed set,
CHOSEN = 0.5  # if at least this share of rows has such an answer in common with other rows
SHOWN = 3

NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def sizes(groups: Iterable[int]) -> dict[str, int]:
    """Number of groups by group size."""
    counts = Counter(groups)
    return {str(size): counts[size] for size in sorted(counts)}


def same_answer(one: Example, other: Example, labelled: bool) -> bool:
    """Whether two rows have the same answer: the same label or, in free text, most words and all numbers.

    Long answers may differ in their numbers if the questions have the same numbers.
    """
    if not one.context and not other.context:
        return True
    first, second = normalise(answer_key(one)), normalise(answer_key(other))
    if first == second or labelled:
        return first == second
    details = _long(first, second) and same_numbers(question(one), question(other))
    return (details or same_numbers(first, second)) and _worded_alike(first, second)


def same_numbers(one: str, other: str) -> bool:
    """Whether two texts have the same numbers, in any order."""
    return Counter(NUMBER.findall(one)) == Counter(NUMBER.findall(other))


def informative_agreement(one: Example, other: Example) -> bool:
    """Whether agreeing answers are evidence of a duplicate: plain texts, identical answers or long ones."""
    return (
        not one.context
        or normalise(answer_key(one)) == normalise(answer_key(other))
        or _long(one.target, other.target)
    )


def _long(one: str, other: str) -> bool:
    return min(len(split_words(one)), len(split_words(other))) >= LONG


def _worded_alike(one: str, other: str) -> bool:
    """Whether two answers have most of their words in common, not counting numbers."""
    left, right = ({word for word in split_words(text) if not word.isdecimal()} for text in (one, other))
    return len(left & right) >= (AGREE if _long(one, other) else AGREE_SHORT) * len(left | right)


def difference(mine: str, theirs: str) -> str:
    """What differs between two texts: the words between their common prefix and their common suffix.

    Personal data is redacted first, since the differing words may be part of a number.
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
    return "; ".join(parts) or "differs only in spaces and punctuation"


def _short(text: str) -> str:
    return text if len(text) <= 70 else f"{text[:45]} … {text[-20:]}"


def _excerpt(text: str) -> str:
    return _short(" ".join(redact(text).split()))


def duplicates(view: View) -> Iterator[Finding]:
    """`duplicate`: rows of one side with the same question and answers (review from MANY, else info)."""
    hits: list[Hit] = []
    shares: dict[str, int] = {}
    for side, examples in view.sides.items():
        first: dict[tuple[str, ...], Example] = {}
        for example in examples:
            answers = (f"{answer.role}\0{normalise(answer.text)}" for answer in example.answers)
            original = first.setdefault((normalised_context(example), *answers), example)
            if original is not example:
                hits.append(Hit.of(example, side, f"repeats: {_excerpt(question(example))}", original.id))
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
        f"Copies of an earlier row{'' if plain else ' (same question and answer)'}: {where}. In training, a "
        "copied row counts twice; in a test, copies make the result look more certain than it is.",
        tuple(hits),
        "data.clean: [dedupe] or --fix keeps only the first of each.",
        tuple(Edit(hit.id, "drop") for hit in hits),
        {"rows": len(hits), "by_side": shares, "sizes": sizes(1 + count for count in copies.values())},
    )


def near_duplicates(view: View) -> Iterator[Finding]:
    """`near-duplicate` (review): clusters of similar rows of one side with the same answer.

    A separate finding (info) lists clusters whose questions and free-text answers differ only in numbers.
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
            "A group teaches the model little more than one of its rows would.",
            "Look at the largest groups. If rows were generated or filled in from a template, keep a few of "
            f"each group; if people really {'write' if view.format == 'text' else 'ask'} that way, keep all.",
        )
    if groups := _grouped(found, form):
        yield _near(
            view,
            "info",
            groups,
            "differ only in the numbers of their questions and answers",
            "This is fine if the answer follows from the numbers, but the rows are less varied than they "
            "look.",
        )


def _other_numbers(one: Example, other: Example) -> bool:
    """Whether questions and answers both differ in numbers, and the answers in little else."""
    if same_numbers(question(one), question(other)) or same_numbers(one.target, other.target):
        return False
    return _worded_alike(normalise(one.target), normalise(other.target))


def _grouped(found: NearDuplicates, links: Sequence[tuple[int, int]]) -> list[list[Row]]:
    """Connected components of the links as rows, the largest first."""
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
        f"{count} that {what} ({where}; the largest group has {len(groups[0]):,}). {so}",
        tuple(hits),
        fix,
        facts={"clusters": len(groups), "rows": len(hits), "sizes": sizes(map(len, groups))},
    )


def _cluster_hits(rows: Sequence[Row]) -> Iterator[Hit]:
    """The rows of a cluster, each with its difference from the first."""
    side, first = rows[0]
    yield Hit.of(first, side, f"{len(rows):,} rows like: {_excerpt(question(first))}")
    for side, example in rows[1:]:
        yield Hit.of(example, side, difference(question(example), question(first)), first.id)


def conflicting_answers(view: View) -> Iterator[Finding]:
    """`conflicting-answers`: the same question with different answers, on any sides.

    review if at most one answer can be right: labels, and answers of at most CLOSED words if most answers of
    the set come from a small set or each answer has its own numbers. info otherwise, and if REFERENCES of the
    rows have several answers, as sets with several references do.
    """
    by_question: dict[str, list[Row]] = {}
    for side, example in view.rows():
        if example.context:
            by_question.setdefault(normalised_context(example), []).append((side, example))
    for key, rows in by_question.items():  # an added row must not show the answer of a sealed one
        if any(ADDED in row.tags for _, row in rows):
            by_question[key] = [(side, row) for side, row in rows if side != "test"]
    several = [
        rows for rows in by_question.values() if len({normalise(answer_key(row)) for _, row in rows}) > 1
    ]
    total = sum(map(len, by_question.values()))
    usual = not view.labelled and sum(map(len, several)) >= REFERENCES * total
    few = bool(several) and _chosen([answer_key(row) for rows in by_question.values() for _, row in rows])
    one_is_right = [
        view.labelled or (not usual and _closed([answer_key(row) for _, row in rows], few))
        for rows in several
    ]
    for wanted in (True, False):
        groups = [rows for rows, one in zip(several, one_is_right, strict=True) if one == wanted]
        if groups:
            yield _conflict(groups, wanted)


def _chosen(answers: Sequence[str]) -> bool:
    """Whether most rows have a short answer that occurs in other rows too."""
    counts = Counter(normalise(answer) for answer in answers)
    short = (rows for answer, rows in counts.items() if rows > 1 and len(answer.split()) <= CLOSED)
    return sum(short) >= CHOSEN * len(answers)


def _closed(answers: Sequence[str], few: bool) -> bool:
    """Whether answers to one question exclude each other. few: whether most answers come from a small set."""
    numbers = {tuple(NUMBER.findall(answer)) for answer in answers}
    counted_in = len(numbers) > 1 and () not in numbers
    return (few or counted_in) and all(len(answer.split()) <= CLOSED for answer in answers)


def _conflict(groups: Sequence[Sequence[Row]], one_is_right: bool) -> Finding:
    groups = sorted(groups, key=len, reverse=True)
    hits = [hit for rows in groups for hit in _conflict_hits(rows)]
    count = format_count(len(groups), "question has", "questions have")
    facts = {"questions": len(groups), "rows": len(hits)}
    if one_is_right:
        summary = (
            f"{count} different answers in different rows ({len(hits):,} rows). At most one can be right, "
        )
        summary += "so the model would learn to guess."
        fix = "Look at the rows and correct or remove the wrong answers."
        return Finding("conflicting-answers", "review", summary, tuple(hits), fix, facts=facts)
    summary = (
        f"{count} several answers ({len(hits):,} rows). This is normal if a question has many good answers, "
        "as in conversations, descriptions or translations; if only one is right, the others are mistakes."
    )
    fix = "Nothing to do if this is intended; otherwise keep one answer per question."
    return Finding("conflicting-answers", "info", summary, tuple(hits), fix, facts=facts)


def _conflict_hits(rows: Sequence[Row]) -> Iterator[Hit]:
    """The rows of one question, the rarest answers first: among labels these are the likely mistakes."""
    answers = [normalise(answer_key(row)) for _, row in rows]
    counts = Counter(answers)
    first: dict[str, Example] = {}
    for (_, row), answer in zip(rows, answers, strict=True):
        first.setdefault(answer, row)
    usual = [(_excerpt(answer_key(first[answer])), count) for answer, count in counts.most_common(SHOWN)]
    listed = ", ".join(f"“{text}” ×{count:,}" for text, count in usual)
    more = f" and {len(counts) - SHOWN} others" if len(counts) > SHOWN else ""
    for (side, row), answer in sorted(
        zip(rows, answers, strict=True), key=lambda pair: (counts[pair[1]], pair[1])
    ):
        other = next(one.id for text, one in first.items() if text != answer)
        here = f"“{_excerpt(answer_key(row))}” to {_excerpt(question(row))}"
        yield Hit.of(row, side, f"{here} (in all: {listed}{more})", other)
