"""Rules about shortcuts: features that give the answer away, so that a good score is misleading."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from finetooth.config.values import format_count, format_count_of
from finetooth.data.examples import normalise
from finetooth.data.split import uniform
from finetooth.quality.findings import Finding, Hit, View, question
from finetooth.quality.rules.labels import train_labels
from finetooth.types import Example

MIN_ROWS = 50
FOLDS = 5
STEPS = 10  # length quantiles
NOTABLE, STRONG = 0.5, 0.8  # of the way from chance to always right, macro-averaged
FIRST_WORD = 0.8  # minimum share of a label's rows that start with one word,
FIRST_WORD_ALONE = 0.95  # and of the rows starting with it that have this label
FEWEST_OF_LABEL = 10
NAMED_IN_TEXT = 0.6
# Limits of the search: labels, characters of each, and characters of a text, whose beginning is read.
MOST_NAMES, LONGEST_NAME, LONGEST_TEXT = 500, 100, 10_000
SAMPLE = 1_000  # rows searched first, to decide whether to search all
COPIED_WORDS = 4  # minimum words of an answer for a copy not to be a coincidence
MOST_COPIED = 0.5
ECHO = 0.8  # minimum length of an answer, relative to the question, that repeats the question
FEW_ECHOES = 0.1


def length_shortcut(view: View) -> Iterator[Finding]:
    """`length-shortcut` (info; review from STRONG): the length of the text predicts the label.

    Each row's label is predicted from its length decile, as the label with the highest rate among the rows
    of that decile in the other folds. The macro-averaged accuracy is scaled so that 0 is chance, 1 perfect.
    """
    counts = train_labels(view)
    rows = [row for row in view.sides.get("train", ()) if counts[row.target] >= FEWEST_OF_LABEL]
    labels = sorted({row.target for row in rows})
    if len(rows) < MIN_ROWS or not 2 <= len(labels) <= 50:
        return
    lengths = [len(question(row)) for row in rows]
    right = _guessed_by_length(rows, lengths, view.seed)
    guess = 1 / len(labels)
    score = sum(right[label] / counts[label] for label in labels) / len(labels)
    skill = (score - guess) / (1 - guess)
    if skill < NOTABLE:
        return
    middle = {
        label: sorted(length for length, row in zip(lengths, rows, strict=True) if row.target == label)[
            counts[label] // 2
        ]
        for label in labels
    }
    order = sorted(labels, key=lambda label: (middle[label], label))
    yield Finding(
        "length-shortcut",
        "review" if skill >= STRONG else "info",
        f"The length of the text alone predicts the label in {score:.0%} of the cases, averaged over the "
        f"labels (chance: {guess:.0%}): the median length is {middle[order[0]]:,} characters for "
        f"{order[0]!r}, {middle[order[-1]]:,} for {order[-1]!r}. A model can score well without reading "
        "the text.",
        fix="Check that new texts differ in length in the same way; if not, add short and long rows of "
        "every label.",
        facts={"score": score, "guessing": guess, "median_characters": middle},
    )


def _guessed_by_length(rows: Sequence[Example], lengths: Sequence[int], seed: int) -> Counter[str]:
    """Correct predictions from the length, by label."""
    order = sorted(lengths)
    edges = [order[len(order) * step // STEPS] for step in range(1, STEPS)]
    bins = [sum(length >= edge for edge in edges) for length in lengths]
    folds = [int(FOLDS * uniform(seed, row.id)) for row in rows]
    total = Counter(row.target for row in rows)
    seen: dict[int, Counter[str]] = defaultdict(Counter)
    held: dict[tuple[int, int], Counter[str]] = defaultdict(Counter)
    for row, at, fold in zip(rows, bins, folds, strict=True):
        seen[at][row.target] += 1
        held[fold, at][row.target] += 1
    right: Counter[str] = Counter()
    for (_, at), inside in held.items():
        others = seen[at] - inside
        if others:
            guess = min(others, key=lambda label: (-others[label] / total[label], label))
            right[guess] += inside[guess]
    return right


def first_token_shortcut(view: View) -> Iterator[Finding]:
    """`first-token-shortcut` (review): nearly all rows of a label, and few others, start with one word."""
    counts = train_labels(view)
    train = view.sides.get("train", ())
    if len(counts) < 2 or len(train) < MIN_ROWS:
        return
    firsts = [(question(row).split(None, 1) or [""])[0].casefold() for row in train]
    starts = Counter(firsts)
    pairs = Counter(zip(firsts, (row.target for row in train), strict=True))
    found = {
        (word, label): rows
        for (word, label), rows in pairs.items()
        if counts[label] >= FEWEST_OF_LABEL
        and rows >= FIRST_WORD * counts[label]
        and rows >= FIRST_WORD_ALONE * starts[word]
        and counts[label] <= FIRST_WORD * len(train)
    }
    if not found:
        return
    order = sorted(found, key=lambda pair: (-found[pair], pair))
    listed = ", ".join(
        f"{label!r} by {word!r} ({format_count_of(found[word, label], counts[label], 'row')})"
        for word, label in order[:5]
    )
    more = f" and {len(order) - 5} more" if len(order) > 5 else ""
    yield Finding(
        "first-token-shortcut",
        "review",
        f"The first word of the text gives the label away: {listed}{more}. A model may learn this "
        "word and nothing else.",
        hits=tuple(
            Hit.of(row, "train", f"starts with {first!r}, as nearly all rows of {row.target!r} do")
            for row, first in zip(train, firsts, strict=True)
            if (first, row.target) in found
        ),
        fix="If new texts will not start like this, remove the word from all rows.",
        facts={
            "words": [{"word": word, "label": label, "rows": found[word, label]} for word, label in order]
        },
    )


def label_in_text(view: View) -> Iterator[Finding]:
    """`label-in-text` (review): most texts contain their own label and no other (`category: billing`)."""
    counts = train_labels(view)
    train = view.sides.get("train", ())
    names = {normalise(label): label for label in counts if len(normalise(label)) >= 3}
    if len(counts) < 2 or len(names) < len(counts) or len(train) < MIN_ROWS:
        return
    if len(names) > MOST_NAMES or max(map(len, names)) > LONGEST_NAME:
        return  # free text rather than labels, and slow to search for
    longest = sorted(map(re.escape, names), key=lambda name: (-len(name), name))
    anywhere = re.compile(rf"(?<!\w)(?:{'|'.join(longest)})(?!\w)")

    def naming(rows: Sequence[Example]) -> list[Example]:
        found = (
            {names[name] for name in anywhere.findall(normalise(question(row)[:LONGEST_TEXT]))}
            for row in rows
        )
        return [row for row, labels in zip(rows, found, strict=True) if labels == {row.target}]

    some = train[:: 1 + len(train) // SAMPLE]
    if len(naming(some)) < NAMED_IN_TEXT / 2 * len(some):
        return
    hits = naming(train)
    if len(hits) < NAMED_IN_TEXT * len(train):
        return
    yield Finding(
        "label-in-text",
        "review",
        f"{format_count_of(len(hits), len(train), 'text')} ({len(hits) / len(train):.0%}) contain their own "
        "label and no other. If new texts do not contain it, the model will do worse than its score.",
        hits=tuple(Hit.of(row, "train", f"the text contains {row.target!r}") for row in hits),
        fix="Remove the label from the text, unless new texts will contain it too.",
        facts={"rows": len(train), "naming": len(hits)},
    )


def copied_answer(view: View) -> Iterator[Finding]:
    """`copied-answer`: answers copied from the question.

    review: the answer repeats the question, in a few rows (perhaps never answered) or in most (nothing to
    learn). info: most answers are a passage of the question, as in extraction.
    """
    train = view.sides.get("train", ())
    if view.labelled or view.format == "text" or len(train) < MIN_ROWS // 2:
        return
    long = copied = 0
    echoes = []
    for row in train:
        question_text, answer = normalise(question(row)), normalise(row.target)
        if len(answer.split()) < COPIED_WORDS:
            continue
        long += 1
        if not _is_copied(answer, question_text):
            continue
        copied += 1
        if len(answer) >= ECHO * len(question_text):
            echoes.append(row)
    if long < MIN_ROWS // 2:
        return
    if echoes:
        yield _echoed(echoes, long)
    if copied - len(echoes) >= MOST_COPIED * long:
        yield Finding(
            "copied-answer",
            "info",
            f"In {copied:,} of the {long:,} training rows with an answer of {COPIED_WORDS} words or more, "
            "the answer is contained in the question word for word. This is right for extraction; in any "
            "other task the model would learn to copy.",
            fix="For extraction, nothing to do: the graders exact and f1 check whether the passage is right.",
            facts={"copied": copied, "rows": long},
        )


def _echoed(echoes: Sequence[Example], rows: int) -> Finding:
    few = len(echoes) <= FEW_ECHOES * rows
    return Finding(
        "copied-answer",
        "review",
        f"In {format_count_of(len(echoes), rows, 'training row')} the answer repeats the question, nearly "
        "word for word. "
        + (
            "Most rows do not: either there was nothing to change in these, or they were never answered."
            if few
            else "The model would learn to repeat its input."
        ),
        hits=tuple(
            Hit.of(
                row,
                "train",
                f"answer of {format_count(len(row.target), 'character')}, question of {len(question(row)):,}",
            )
            for row in echoes
        ),
        fix="Look at the rows; write the answers, or remove the rows.",
        facts={"echoes": len(echoes), "rows": rows},
    )


def _is_copied(answer: str, question_text: str) -> bool:
    """Whether an answer is in the question word for word, or at least 90% of its word trigrams are."""
    if answer in question_text:
        return True
    words, source = answer.split(), question_text.split()
    known = set(source)
    if len(words) < 2 * COPIED_WORDS or sum(word in known for word in words) < 0.9 * len(words):
        return False
    own = _trigrams(words)
    return len(own & _trigrams(source)) >= 0.9 * len(own)


def _trigrams(words: Sequence[str]) -> set[tuple[str, ...]]:
    return set(zip(words, words[1:], words[2:], strict=False))
