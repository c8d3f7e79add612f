"""Rules about labels: their number, frequency and spelling."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

from rapidfuzz.distance import OSA

from finetooth.config.values import format_count, format_count_of, plural
from finetooth.data.examples import normalise
from finetooth.data.read.names import visible
from finetooth.data.render.turns import answer_key
from finetooth.data.unicode_forms import normal_form
from finetooth.quality.findings import Finding, Hit, View
from finetooth.types import Example

FEWEST_UNIQUE = 20  # minimum rows for these rules to apply
NO_CLASSES = 0.9  # distinct labels per row: generation, not classification
MANY_CLASSES = 0.5
RARE = 5  # rows of a label, below which it can hardly be learned
IMBALANCE = 10  # ratio of the most to the least frequent label
STRONG_IMBALANCE = 50
TYPO = 0.1  # maximum frequency of a misspelling, relative to the correct label
TYPO_LENGTHS = ((9, 2), (5, 1))  # (minimum letters, maximum edits) of a misspelling
MOST_LABELS = 2_000  # compared with one another
LONGEST = 200  # characters of a label that can be a misspelling
SET_SIZE = 20  # maximum answers of a free-text task that looks like classification
SET_SHARE = 0.95
FEWEST_ANSWERS = 50
NAMED = 5


def train_labels(view: View) -> Counter[str]:
    """Training rows by label; empty if the format has no labels, if nearly every row has its own, and if rows
    have several, which several_labels judges one by one."""
    judged = view.labelled and not view.several_labels
    counts = Counter(example.target for example in view.sides.get("train", ())) if judged else Counter()
    return Counter() if _unlike_classes(counts) else counts


def _unlike_classes(counts: Counter[str]) -> bool:
    return counts.total() >= FEWEST_UNIQUE and len(counts) > MANY_CLASSES * counts.total()


def _where(view: View, evidence_of: Callable[[str, Example], str]) -> tuple[Hit, ...]:
    """Hits of the rows for which `evidence_of` returns a text."""
    return tuple(
        Hit.of(example, side, evidence)
        for side, example in view.rows()
        if (evidence := evidence_of(side, example))
    )


def _names(labels: Sequence[str], counts: Mapping[str, int] | None = None) -> str:
    """The first NAMED labels, with their row counts."""
    named = [repr(label) + (f" ({counts[label]:,})" if counts else "") for label in labels[:NAMED]]
    more = f" and {len(labels) - NAMED:,} more" if len(labels) > NAMED else ""
    return ", ".join(named) + more


def one_label(view: View) -> Iterator[Finding]:
    """`one-label` (block; review for free-text answers): all training rows have the same answer."""
    answers = {answer_key(example) for example in view.sides.get("train", ())}
    rows = len(view.sides.get("train", ()))
    if len(answers) != 1 or view.format == "text" or not (view.labelled or rows >= FEWEST_UNIQUE):
        return
    shown = Hit.of(view.sides["train"][0], "train", "the answer of every row").place
    yield Finding(
        "one-label",
        "block" if view.labelled else "review",
        f"All {rows:,} training rows have the same {'label' if view.labelled else 'answer'}, for example "
        f"{shown}. With a single answer there is nothing to learn.",
        fix="Add rows with other answers, or name the label column with data.columns.",
        facts={"rows": rows},
    )


def labels_are_unique(view: View) -> Iterator[Finding]:
    """`labels-are-unique` (block from NO_CLASSES labels per row, else review): not a classification task."""
    judged = view.labelled and not view.several_labels
    counts = Counter(example.target for example in view.sides.get("train", ())) if judged else Counter()
    if not _unlike_classes(counts):
        return
    yield Finding(
        "labels-are-unique",
        "block" if len(counts) >= NO_CLASSES * counts.total() else "review",
        f"{counts.total():,} training rows have {len(counts):,} different labels. A label that occurs in "
        "hardly any other row cannot be learned. These look like free-text answers, not labels.",
        fix="For free-text answers, set data.columns: {text: context, label: answer}. Otherwise name the "
        "label column.",
        facts={"rows": counts.total(), "labels": len(counts)},
    )


def rare_label(view: View) -> Iterator[Finding]:
    """`rare-label` (review): labels with fewer than RARE training rows."""
    counts = train_labels(view)
    rare = sorted((label for label in counts if counts[label] < RARE), key=lambda at: (counts[at], at))
    if not rare or len(counts) < 2:
        return
    listed = set(rare)
    yield Finding(
        "rare-label",
        "review",
        f"{format_count_of(len(rare), len(counts), 'label')} {plural(len(rare), 'has', 'have')} fewer than "
        f"{RARE} training rows: {_names(rare, counts)}. That is too few to learn them from, and too few to "
        "measure whether they were learned.",
        hits=tuple(
            sorted(
                _where(
                    view,
                    lambda side, row: (
                        f"{format_count(counts[row.target], 'training row')} with {row.target!r}"
                        if side == "train" and row.target in listed
                        else ""
                    ),
                ),
                key=lambda hit: int(hit.evidence.split()[0]),
            )
        ),
        fix="Add rows with these labels, or merge them into a similar label.",
        facts={"labels": {label: counts[label] for label in rare}},
    )


def unseen_label(view: View) -> Iterator[Finding]:
    """`unseen-label` (review): labels of validation or test rows that no training row has."""
    counts = train_labels(view)
    if not counts:
        return
    hits = _where(
        view,
        lambda side, row: f"no training row has {row.target!r}" if row.target not in counts else "",
    )
    if not hits:
        return
    unseen = Counter(row.target for side, row in view.rows() if row.target not in counts)
    names = sorted(unseen, key=lambda label: (-unseen[label], label))
    rows = format_count(
        len(hits), "validation or test row has a label", "validation or test rows have labels"
    )
    yield Finding(
        "unseen-label",
        "review",
        f"{rows} that no training row has: {_names(names, unseen)}. The model never sees "
        f"{plural(len(unseen), 'it', 'them')} in training, so it will answer "
        f"{plural(len(hits), 'this row', 'these rows')} wrong.",
        hits=hits,
        fix="Add training rows with these labels, correct their spelling, or remove the rows.",
        facts={"labels": {label: unseen[label] for label in names}},
    )


def label_imbalance(view: View) -> Iterator[Finding]:
    """`label-imbalance` (info from 10:1, review from 50:1): among labels with at least RARE rows."""
    counts = train_labels(view)
    kept = sorted((label for label in counts if counts[label] >= RARE), key=lambda at: (-counts[at], at))
    if len(kept) < 2 or counts[kept[0]] < IMBALANCE * counts[kept[-1]]:
        return
    most, least = kept[0], kept[-1]
    ratio = counts[most] / counts[least]
    share = counts[most] / counts.total()
    yield Finding(
        "label-imbalance",
        "review" if ratio >= STRONG_IMBALANCE else "info",
        f"{most!r} has {format_count_of(counts[most], counts.total(), 'training row')} ({share:.0%}), "
        f"{least!r} has {counts[least]:,}: {ratio:,.0f} to 1. A model that never answers {least!r} loses "
        "hardly any accuracy.",
        fix="data.clean: [{balance: {by: label, max_ratio: 3}}], or compare models by macro-average, in "
        "which every label counts the same.",
        facts={"ratio": ratio, "shares": {label: counts[label] / counts.total() for label in kept[:50]}},
    )


def label_spelling(view: View) -> Iterator[Finding]:
    """`label-spelling` (review): labels that look like a misspelling; the rarer one is the suspect.

    They differ only in case, spaces and punctuation; or, if the suspect is at most a tenth as frequent, in a
    plural, in 1 edit (5 letters or more) or in 2 edits (9 or more). Digits and the first letter of each word
    must be the same, as real opposites mostly differ there (supported, unsupported).
    """
    if not train_labels(view):
        return
    counts = Counter(row.target for _, row in view.rows())
    meant = {one: right for one, right in _misspelt(counts) if visible(one) != visible(right)}
    if not meant:
        return
    names = sorted(meant, key=lambda label: (-counts[label], label))
    pairs = [
        f"{label!r} ({counts[label]:,}) for {meant[label]!r} ({counts[meant[label]]:,})" for label in names
    ]
    more = f" and {len(pairs) - NAMED} more" if len(pairs) > NAMED else ""
    yield Finding(
        "label-spelling",
        "review",
        f"{format_count(len(pairs), 'label looks', 'labels look')} like a misspelling of another label: "
        f"{', '.join(pairs[:NAMED])}{more}. The model would learn them as different answers.",
        hits=_where(
            view,
            lambda side, row: (
                f"{row.target!r}: {meant[row.target]!r} was probably meant" if row.target in meant else ""
            ),
        ),
        fix="If they mean the same, use one spelling in the file.",
        facts={"spellings": {label: meant[label] for label in names}},
    )


def _misspelt(counts: Counter[str]) -> Iterator[tuple[str, str]]:
    """Suspected misspellings, each with the label that was probably meant."""
    order = sorted(counts, key=lambda label: (-counts[label], label))[:MOST_LABELS]
    bare: dict[str, str] = {}
    nearby: dict[tuple[str, str], list[str]] = defaultdict(list)
    bared = {label: _bare(label) for label in order}
    for label, key in bared.items():  # the most frequent first, so the later of two is the suspect
        if bare.setdefault(key, label) != label:
            yield label, bare[key]
            continue
        bucket = (key[:1], re.sub(r"\D", "", key))
        for other in nearby[bucket]:
            if (
                counts[label] <= max(1, TYPO * counts[other])
                and counts[other] >= RARE
                and _near(label, key, other, bared[other])
            ):
                yield label, other
                break
        else:
            nearby[bucket].append(label)


def _bare(label: str) -> str:
    """A label normalised (NFKC), case-folded, without spaces and meaningless punctuation (C# is not C).

    If there are digits, signs and points are kept: -1 is not 1, and 1.0 is not 10.
    """
    folded = normal_form("NFKC", label).casefold().strip()
    # A minus at the end is a grade: A- is not A.
    signs = r"\s+" if re.search(r"\d", folded) else r"[\s_./,;:!?'\"()\[\]]+|-(?!$)"
    kept = re.sub(signs, "", folded)
    return kept or folded


def _near(one: str, bare_one: str, other: str, bare_other: str) -> bool:
    """Whether two labels differ by a plural or by few enough edits to be a misspelling."""
    short, long = sorted((bare_one, bare_other), key=len)
    if len(short) >= 4 and long in (short + "s", short + "es", short[:-1] + "ies"):
        return True
    edits = next((edits for length, edits in TYPO_LENGTHS if len(short) >= length), 0)
    if not edits or len(long) - len(short) > edits or len(long) > LONGEST:
        return False
    # Insert, delete, replace, or transpose neighbours: this comes first, as it sorts out nearly all pairs.
    if OSA.distance(short, long, score_cutoff=edits) > edits:
        return False
    words = [re.findall(r"[^\W_]+", normal_form("NFKC", text).casefold()) for text in (one, other)]
    return len(words[0]) != len(words[1]) or all(x[0] == y[0] for x, y in zip(*words, strict=True))


def answer_not_in_set(view: View) -> Iterator[Finding]:
    """`answer-not-in-set` (review): free-text tasks in which nearly all answers come from a small set.

    The set: at most SET_SIZE answers, each in at least 1% and at least 3 of the training rows, that together
    cover SET_SHARE of the rows.
    """
    train = view.sides.get("train", ())
    if view.labelled or view.format == "text" or len(train) < FEWEST_ANSWERS:
        return
    counts = Counter(normalise(answer_key(example)) for example in train)
    usual = {answer for answer, rows in counts.items() if rows >= max(3, 0.01 * len(train))}
    known = sum(counts[answer] for answer in usual)
    if not 2 <= len(usual) <= SET_SIZE or known < SET_SHARE * len(train):
        return
    hits = _where(
        view,
        lambda side, row: (
            f"the answer is not one of the {len(usual)} usual ones"
            if normalise(answer_key(row)) not in usual
            else ""
        ),
    )
    if not hits:
        return
    yield Finding(
        "answer-not-in-set",
        "review",
        f"{format_count_of(known, len(train), 'training row')} have one of {len(usual)} answers; "
        f"{format_count(len(hits), 'row has', 'rows have')} a different one. Either these answers are "
        "mistakes, or some answers of the task are rare.",
        hits=hits,
        fix="Look at the rows. If the answers are labels, set data.format: labels to have them graded as "
        "labels.",
        facts={"usual": len(usual), "rows": len(train), "known": known},
    )
