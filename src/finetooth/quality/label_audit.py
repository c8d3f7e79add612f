"""What a bag of words, trained on the other rows, says of each row's label.

How many labels are wrong is the question of confident learning (Northcutt, Jiang, Chuang 2021, JAIR 70:1373),
asked here of the tenth of each label's rows that the bag of words is surest of: where it is sure, what
disagrees is mostly noise; its own mistakes are among the rest. Where nothing disagrees there, nothing is
listed. So few rows leave the count uncertain by a quarter: it lists only what is e^1.5 times likelier to have
another label, and by a strong bag of words no fewer than all rows say are wrong at two in five (noise).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from finetooth.data.examples import normalise
from finetooth.data.split import split_keys, uniform
from finetooth.quality.findings import View, question
from finetooth.quality.intervals import wilson
from finetooth.quality.label_noise import label_error_probability_R
from finetooth.types import Example

FOLDS = 5
FEWEST_OF_LABEL = 10  # rows: of fewer, two folds' worth, too little is left to learn a label from
MIN_ROWS = 100  # below, neither the accuracy nor the noise rate says anything
SURE_ENOUGH = 0.7  # requirement B3: at an accuracy of .54 a list of suspects had a precision of .06
STRONG = 0.9  # from here on at least three in four of the suspects are wrong (requirement B3)
DOUBTFUL = 0.8
BEYOND_MAJORITY = 1 / 3  # of what the most frequent label gets wrong, the bag of words must mend this share
SUREST = 0.1
FEWEST_SUREST = 300  # or 30% of the rows, if those are fewer
PROBABLY = 0.4  # at 0.5 one set in sixteen of 5% wrong labels was below a recall of .80
CLEARLY = 1.5  # log ratio of two labels; the count alone, from a few surest rows, can be a quarter too high
TEXT = 4_000  # characters of a text that are read
SHORT = 400  # characters: longer texts are told apart by their words alone; the rest takes minutes
READ = {True: 8_000_000, False: 20_000_000}  # characters of all texts that are read, short and long: ~10 s
WORK = 2e10  # floating-point operations of all fits: ~20 s of one core
LEAST_ITERATIONS, MOST_ITERATIONS = 16, 50  # on clinc150 16 get within a point of all
COEFFICIENTS = 4_000_000  # of one fit, which holds about 200 bytes for each
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LabelAudit:
    """What a bag of words says of labels that it was not trained on.

    rows: indices among the training rows of those looked at; labels: of the columns. given_R: column of the
    label that a row has. proba_RL: out-of-fold probabilities. words: by position in rows, up to two words
    that speak for the likeliest label against the given one, where the two differ. total: rows with these
    labels.
    """

    rows: Ints
    labels: tuple[str, ...]
    given_R: Ints
    proba_RL: Floats
    words: dict[int, tuple[str, ...]]
    total: int

    @property
    def predicted_R(self) -> Ints:
        """Column of the likeliest label of each row."""
        predicted_R: Ints = self.proba_RL.argmax(axis=1)
        return predicted_R

    @property
    def right(self) -> int:
        """Rows whose likeliest label is the given one."""
        return int((self.predicted_R == self.given_R).sum())

    @property
    def accuracy(self) -> float:
        """Share of them."""
        return self.right / len(self.rows)

    @property
    def majority(self) -> float:
        """Share of the most frequent label."""
        return int(np.bincount(self.given_R).max()) / len(self.rows)

    @property
    def is_reliable(self) -> bool:
        """Whether its opinion of a label is worth anything."""
        mended = (self.accuracy - self.majority) / max(1 - self.majority, 1e-9)
        return self.accuracy >= SURE_ENOUGH and mended >= BEYOND_MAJORITY

    @property
    def weak(self) -> bool:
        """Whether many good labels will be among its suspects."""
        return self.accuracy < STRONG

    @property
    def doubt_R(self) -> Floats:
        """How much likelier another label is than the given one, as a log ratio; 0 where none is."""
        own = self.proba_RL[np.arange(len(self.rows)), self.given_R]
        ratio_R: Floats = np.log(np.maximum(self.proba_RL.max(axis=1), 1e-9) / np.maximum(own, 1e-9))
        return ratio_R

    def suspects(self) -> tuple[Ints, int, int]:
        """Positions in rows of the probably wrong labels, worst first; and of the surest rows that the count
        comes from: how many have another label, of how many. Below STRONG fewer are listed, and from
        DOUBTFUL on as few as the lower bound of their share."""
        likeliest, top = self.predicted_R, self.proba_RL.max(axis=1)
        share = max(SUREST, min(0.3, FEWEST_SUREST / len(self.rows)))
        wrong = looked = 0
        for label in range(len(self.labels)):
            at = np.flatnonzero(likeliest == label)
            surest = at[np.argsort(-top[at], kind="stable")[: math.ceil(share * len(at))]]
            wrong += int((self.given_R[surest] != label).sum())
            looked += len(surest)
        low = wilson(wrong, looked)[0]
        trust = min(1.0, max(0.0, (self.accuracy - DOUBTFUL) / (STRONG - DOUBTFUL)))
        doubt = self.doubt_R
        count = round((low + trust * (wrong / looked - low)) * len(self.rows))
        count = min(count, int((doubt >= CLEARLY).sum()))
        if wrong and not self.weak:
            count = max(
                count, int((label_error_probability_R(self.proba_RL, self.given_R) >= PROBABLY).sum())
            )
        order = np.argsort(-doubt, kind="stable")[:count]
        return order[doubt[order] > 0], wrong, looked

    def explain(self, position: int) -> str:
        """The evidence against the label of a row."""
        given, likely = int(self.given_R[position]), int(self.predicted_R[position])
        p_R = self.proba_RL[position]
        if given == likely:
            return f"labelled {self.labels[given]!r}, which is {p_R[given]:.0%} likely"
        words = " and ".join(f"'{word}'" for word in self.words.get(position, ()))
        return (
            f"labelled {self.labels[given]!r} ({p_R[given]:.0%} likely), looks like "
            f"{self.labels[likely]!r} ({p_R[likely]:.0%})" + (f", as it has {words}" if words else "")
        )


def audit_labels(view: View) -> LabelAudit | str:
    """What a bag of words says of the training rows' labels, found once; or in words why it says nothing.

    Rows of labels with fewer than FEWEST_OF_LABEL rows are left out; of a large set a sample is read, chosen
    by the ids of its rows and the seed.
    """
    return view.once("judged labels", lambda: _judged(view))


def _judged(view: View) -> LabelAudit | str:
    train = view.sides.get("train", ())
    counts = Counter(example.target for example in train)
    texts = [question(example)[:TEXT] for example in train]
    rows = [
        at
        for at, example in enumerate(train)
        if counts[example.target] >= FEWEST_OF_LABEL and texts[at].strip()
    ]
    if len({train[at].target for at in rows}) < 2:
        return f"fewer than two labels have {FEWEST_OF_LABEL} training rows"
    if len(rows) < MIN_ROWS:
        return f"{len(rows)} training rows are too few; {MIN_ROWS} are the least"
    short = sum(len(texts[at]) for at in rows) <= SHORT * len(rows)
    order = sorted(rows, key=lambda at: uniform(view.seed, train[at].id))
    space = np.cumsum([len(texts[at]) for at in order])
    kept = sorted(order[: max(MIN_ROWS, int(np.searchsorted(space, READ[short], "right")))])
    return _judge(
        kept,
        [texts[at] for at in kept],
        [train[at].target for at in kept],
        _keys([train[at] for at in kept]),
        short,
        len(rows),
        view.seed,
    )


def _keys(examples: Sequence[Example]) -> list[str]:
    """What must stay in one fold: groups, and near copies."""
    if any("group" in example.tags for example in examples):
        return split_keys(examples)
    return [text_skeleton(question(example)[:TEXT]) for example in examples]


def text_skeleton(text: str) -> str:
    """The same for texts that differ in digits, case, spaces and punctuation alone."""
    plain = normalise(text)
    return re.sub(r"[\W\d_]+", " ", plain).strip() or plain


def _judge(
    rows: Sequence[int],
    texts: Sequence[str],
    labels: Sequence[str],
    keys: Sequence[str],
    short: bool,
    total: int,
    seed: int,
) -> LabelAudit | str:
    try:
        words, table = features(texts, short, COEFFICIENTS // len(set(labels)))
    except ValueError:  # what scikit-learn says of an empty vocabulary
        return "the rows share no words"
    # Operations of one iteration of all folds: the rows, and the optimiser's memory.
    work = 0.8 * FOLDS * len(set(labels)) * (2 * table.nnz + 40 * table.shape[1])
    step = math.ceil(LEAST_ITERATIONS * work / (2 * WORK))
    counts = Counter(labels[::step])
    kept = [at for at in range(0, len(rows), step) if counts[labels[at]] >= FEWEST_OF_LABEL]
    names = tuple(sorted({labels[at] for at in kept}))
    if len(names) < 2 or len(kept) < MIN_ROWS:
        return "too many labels have too few rows in the sample that can be read"
    table, iterations = table[kept], int(WORK * step / work)
    given_R = np.array([names.index(labels[at]) for at in kept])
    fold_R = _folds([labels[at] for at in kept], [keys[at] for at in kept], seed)
    proba_RL = np.zeros((len(kept), len(names)), np.float32)
    speaking: dict[int, tuple[str, ...]] = {}
    for fold in range(FOLDS):
        held = np.flatnonzero(fold_R == fold)
        if not len(held) or len(set(given_R[fold_R != fold])) < 2:
            return "too many rows share a group or a text"
        classifier = _fitted(table[fold_R != fold], given_R[fold_R != fold], iterations)
        proba_RL[np.ix_(held, classifier.classes_)] = classifier.predict_proba(table[held])
        speaking |= _speaking(classifier, table, words, held, given_R, proba_RL)
    return LabelAudit(np.array([rows[at] for at in kept]), names, given_R, proba_RL, speaking, total)


def features(texts: Sequence[str], letters: bool, most: int) -> tuple[list[str], Any]:
    """TF-IDF of words; if letters, also of pairs of words, and of letters within words (3-5 grams).

    Only what two texts share, the most frequent `most` of each kind. Returns the words, whose columns come
    first, and the table, texts in rows. ValueError when the texts share nothing.
    """
    from scipy import sparse
    from sklearn.feature_extraction.text import TfidfVectorizer

    both = {"sublinear_tf": True, "min_df": 2, "max_features": max(1, most // 2), "dtype": np.float32}
    words = TfidfVectorizer(ngram_range=(1, 1 + letters), token_pattern=r"(?u)\b\w+\b|[^\w\s]", **both)
    tables = [words.fit_transform(texts)]
    if letters:
        tables.append(TfidfVectorizer(ngram_range=(3, 5), analyzer="char_wb", **both).fit_transform(texts))
    return list(words.get_feature_names_out()), sparse.hstack(tables).tocsr()


def _folds(labels: Sequence[str], keys: Sequence[str], seed: int) -> Ints:
    """The fold of each row: rows of a key in one, the labels spread evenly."""
    first = dict(zip(reversed(keys), reversed(labels), strict=True))
    order = sorted(first, key=lambda key: (first[key], uniform(seed, key)))
    fold = {key: at % FOLDS for at, key in enumerate(order)}
    return np.array([fold[key] for key in keys])


def _fitted(table: Any, given_R: Ints, iterations: int) -> Any:
    """Logistic regression; it need not converge, as its order of the rows settles long before."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(
            C=10.0, max_iter=min(MOST_ITERATIONS, max(LEAST_ITERATIONS, iterations))
        ).fit(table, given_R)


def _speaking(
    classifier: Any, table: Any, words: list[str], held: Ints, given_R: Ints, proba_RL: Floats
) -> dict[int, tuple[str, ...]]:
    """By row, the words that speak most for its likeliest label where that is not the given one."""
    column = {int(label): at for at, label in enumerate(classifier.classes_)}
    weights = classifier.coef_ if len(column) > 2 else np.vstack([-classifier.coef_, classifier.coef_])
    found = {}
    for row in held:
        likely, given = int(proba_RL[row].argmax()), int(given_R[row])
        if likely == given or given not in column:
            continue
        cells = table[row]
        at, value = cells.indices, cells.data
        gain = value * (weights[column[likely], at] - weights[column[given], at])
        best = [
            words[at[cell]]
            for cell in np.argsort(-gain, kind="stable")
            if at[cell] < len(words) and gain[cell] > 0 and words[at[cell]].isalpha()
        ]
        found[int(row)] = tuple(best[:2])
    return found
