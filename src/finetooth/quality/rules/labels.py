"""Rules about the labels themselves: how many there are, how often each is, and how they are written."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

from finetooth.config.values import format_count, format_count_of, plural
from finetooth.data.examples import normalise
from finetooth.quality.findings import Finding, Hit, View
from finetooth.types import Example

FEWEST_UNIQUE = 20  # rows, before labels that differ on each of them mean anything
NO_CLASSES = 0.9  # distinct labels per row: this is text to write, not a class to choose
MANY_CLASSES = 0.5
RARE = 5  # rows of a label, below which little is learned of it
IMBALANCE = 10  # the most frequent label's rows for one of the rarest
STRONG_IMBALANCE = 50
TYPO = 0.1  # a typing error is at most this share of the label that was meant
TYPO_LENGTHS = ((9, 2), (5, 1))  # from so many letters on, so many edits may be a typing error
MOST_LABELS = 2_000  # that are compared with one another
SET_SIZE = 20  # answers, at most, that a task of free text may choose from to look like one of labels
SET_SHARE = 0.95
FEWEST_ANSWERS = 50
NAMED = 5


def train_labels(view: View) -> Counter[str]:
    """Training rows by label; empty when the format has none, or when there is about one label per row."""
    counts = (
        Counter(example.target for example in view.sides.get("train", ())) if view.labelled else Counter()
    )
    return Counter() if _unlike_classes(counts) else counts


def _unlike_classes(counts: Counter[str]) -> bool:
    return counts.total() >= FEWEST_UNIQUE and len(counts) > MANY_CLASSES * counts.total()


def _where(view: View, wanted: Callable[[str, Example], str]) -> tuple[Hit, ...]:
    """Hits of the rows for which `wanted` has something to say."""
    return tuple(
        Hit.of(example, side, evidence)
        for side, example in view.rows()
        if (evidence := wanted(side, example))
    )


def _names(labels: Sequence[str], counts: Mapping[str, int] | None = None) -> str:
    """The first labels by name, with their rows."""
    named = [repr(label) + (f" ({counts[label]:,})" if counts else "") for label in labels[:NAMED]]
    more = f" and {len(labels) - NAMED:,} more" if len(labels) > NAMED else ""
    return ", ".join(named) + more


def one_label(view: View) -> Iterator[Finding]:
    """`one-label` (block; review where answers are free text): all training rows have the same answer."""
    answers = {example.target for example in view.sides.get("train", ())}
    rows = len(view.sides.get("train", ()))
    if len(answers) != 1 or view.format == "text" or not (view.labelled or rows >= FEWEST_UNIQUE):
        return
    shown = Hit.of(view.sides["train"][0], "train", "the answer of every row").place
    yield Finding(
        "one-label",
        "block" if view.labelled else "review",
        f"All {rows:,} training rows have the same {'label' if view.labelled else 'answer'}, as {shown}: "
        "there is nothing to tell apart, so nothing can be learned.",
        fix="Bring rows with other answers, or name the column of the labels with data.columns.",
        facts={"rows": rows},
    )


def labels_are_unique(view: View) -> Iterator[Finding]:
    """`labels-are-unique` (block from NO_CLASSES labels per row, else review): no task of choosing."""
    counts = (
        Counter(example.target for example in view.sides.get("train", ())) if view.labelled else Counter()
    )
    if not _unlike_classes(counts):
        return
    yield Finding(
        "labels-are-unique",
        "block" if len(counts) >= NO_CLASSES * counts.total() else "review",
        f"{counts.total():,} training rows have {len(counts):,} different labels. A label that hardly any "
        "other row has cannot be learned; this looks like text to write, not a label to choose.",
        fix="For text to write, data.columns: {text: context, label: answer}. Else name the label column.",
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
        f"{RARE} "
        f"training rows: {_names(rare, counts)}"
        ". Too little to learn them from, and too little to measure whether they were learned.",
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
        fix="Bring more rows of these labels, or join them with a label that is close.",
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
        f"{rows} that no training row has: {_names(names, unseen)}. The model never sees them, so it will "
        f"answer {plural(len(hits), 'this row', 'these rows')} wrong.",
        hits=hits,
        fix="Bring training rows of these labels, or correct their spelling, or take the rows out.",
        facts={"labels": {label: unseen[label] for label in names}},
    )


def label_imbalance(view: View) -> Iterator[Finding]:
    """`label-imbalance` (info from 10 to 1, review from 50 to 1): among labels with RARE rows and more."""
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
        f"{least!r} "
        f"has {counts[least]:,}: {ratio:,.0f} to 1. A model that never answers {least!r} loses next to no "
        "accuracy.",
        fix="data.clean: [{balance: {by: label, max_ratio: 3}}], or judge by the average over the labels.",
        facts={"ratio": ratio, "shares": {label: counts[label] / counts.total() for label in kept[:50]}},
    )


def label_spelling(view: View) -> Iterator[Finding]:
    """`label-spelling` (review): labels that look like another one misspelt; the rarer is the suspect.

    The same but for case, spaces and punctuation; or, where it is at most a tenth as frequent, but for a
    plural or for 1 edit in 5 letters or more, 2 in 9 or more, each word with its first letter and the
    digits the same: most pairs of real opposites differ there (supported, unsupported).
    """
    if not train_labels(view):
        return
    counts = Counter(row.target for _, row in view.rows())
    meant = dict(_misspelt(counts))
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
        f"{format_count(len(pairs), 'label looks', 'labels look')} like another spelling of a label: "
        f"{', '.join(pairs[:NAMED])}{more}. The model would learn them as different answers.",
        hits=_where(
            view,
            lambda side, row: (
                f"{row.target!r}: {meant[row.target]!r} was probably meant" if row.target in meant else ""
            ),
        ),
        fix="If they mean the same, write them the same in the file.",
        facts={"spellings": {label: meant[label] for label in names}},
    )


def _misspelt(counts: Counter[str]) -> Iterator[tuple[str, str]]:
    """Suspected labels, each with the one that was probably meant."""
    order = sorted(counts, key=lambda label: (-counts[label], label))[:MOST_LABELS]
    bare: dict[str, str] = {}
    nearby: dict[tuple[str, str], list[str]] = defaultdict(list)
    for label in order:  # the most frequent first: what comes later is the suspect
        key = _bare(label)
        if bare.setdefault(key, label) != label:
            yield label, bare[key]
            continue
        bucket = (key[:1], re.sub(r"\D", "", key))
        for other in nearby[bucket]:
            if (
                counts[label] <= max(1, TYPO * counts[other])
                and counts[other] >= RARE
                and _near(label, other)
            ):
                yield label, other
                break
        else:
            nearby[bucket].append(label)


def _bare(label: str) -> str:
    """A label without case, accents' coding, spaces and punctuation that carries no meaning (C# is not C).

    Signs and points stay where there are digits: -1 is not 1, and 1.0 is not 10.
    """
    folded = unicodedata.normalize("NFKC", label).casefold().strip()
    # A minus at the end is a grade: A- is not A.
    signs = r"\s+" if re.search(r"\d", folded) else r"[\s_./,;:!?'\"()\[\]]+|-(?!$)"
    kept = re.sub(signs, "", folded)
    return kept or folded


def _near(one: str, other: str) -> bool:
    """Whether two labels differ by a plural or by so few edits that one may be a typing error."""
    a, b = _bare(one), _bare(other)
    short, long = sorted((a, b), key=len)
    if len(short) >= 4 and long in (short + "s", short + "es", short[:-1] + "ies"):
        return True
    edits = next((edits for length, edits in TYPO_LENGTHS if len(short) >= length), 0)
    if not edits or len(long) - len(short) > edits:
        return False
    words = [re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", text).casefold()) for text in (one, other)]
    if len(words[0]) == len(words[1]) and any(x[0] != y[0] for x, y in zip(*words, strict=True)):
        return False
    return _distance(a, b, edits) <= edits


def _distance(a: str, b: str, most: int) -> int:
    """Edits (insert, delete, replace, swap neighbours) from a to b; more than `most` is most + 1."""
    before: list[int] = []
    last = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            row.append(min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (x != y)))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                row[j] = min(row[j], before[j - 2] + 1)
        if min(row) > most:
            return most + 1
        before, last = last, row
    return last[-1]


def answer_not_in_set(view: View) -> Iterator[Finding]:
    """`answer-not-in-set` (review): free-text formats whose answers are a small set, but for a few rows.

    The set: at most SET_SIZE answers, each of at least 1% of the training rows and 3 of them, that together
    answer SET_SHARE of the rows.
    """
    train = view.sides.get("train", ())
    if view.labelled or view.format == "text" or len(train) < FEWEST_ANSWERS:
        return
    counts = Counter(normalise(example.target) for example in train)
    usual = {answer for answer, rows in counts.items() if rows >= max(3, 0.01 * len(train))}
    known = sum(counts[answer] for answer in usual)
    if not 2 <= len(usual) <= SET_SIZE or known < SET_SHARE * len(train):
        return
    hits = _where(
        view,
        lambda side, row: (
            f"the answer is none of the {len(usual)} usual ones" if normalise(row.target) not in usual else ""
        ),
    )
    if not hits:
        return
    yield Finding(
        "answer-not-in-set",
        "review",
        f"{format_count_of(known, len(train), 'training row')} have one of {len(usual)} answers; "
        f"{format_count(len(hits), 'row has', 'rows have')} another. Either these answers are mistakes, or "
        "the "
        "set "
        "is larger than the rows show.",
        hits=hits,
        fix="Look at the rows. If the answers are labels, data.format: labels has them graded as such.",
        facts={"usual": len(usual), "rows": len(train), "known": known},
    )
