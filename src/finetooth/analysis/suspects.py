"""Training rows that probably have a wrong answer, with the evidence in words.

Measured on planted noise (docs/log.md): a label that hidden states and a bag of words both call wrong,
without having seen the row, is wrong in most cases. Training rows next to a failing validation row, with the
label that was wrongly given there, are wrong hardly more often than others, so that alone lists no row.

Axes: T training rows, J those of them that are judged, L labels, D dimensions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from finetooth.analysis.answered import AnsweredRow
from finetooth.config.values import format_count, plural
from finetooth.data.examples import normalise
from finetooth.quality.label_audit import (
    BEYOND_MAJORITY,
    FEWEST_OF_LABEL,
    FOLDS,
    MIN_ROWS,
    SURE_ENOUGH,
    LabelAudit,
)
from finetooth.quality.label_noise import label_error_probability_R
from finetooth.types import Example

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
# The probability that a label is wrong: of rows that are listed, and of those with a suggestion.
SUSPECT, STRONG = 0.3, 0.9
FEWEST_LOSSES = 20  # rows whose loss is known, to say which stands out
OUTLYING, LEAST_GAP = 6, 0.2  # median deviations and nats per token of a loss above the median
LEAST = 1e-4  # of a probability before its logarithm


@dataclass(frozen=True, slots=True)
class Suspect:
    """A training row that probably has a wrong answer, or teaches a failure.

    kind: `label`, `loss` or `neighbour`. suggestion: another answer, only where the evidence is strong.
    """

    example: Example
    kind: str
    words: str
    suggestion: str = ""


@dataclass(frozen=True, slots=True)
class LabelDoubt:
    """Out-of-fold predictions for the training labels, and how probably each label is wrong.

    rows: indices of the training rows that are judged, (J,); given_J: columns of their labels in proba_JL.
    wrong_J: 0 where the label is the predicted one.
    """

    rows: Ints
    labels: tuple[str, ...]
    given_J: Ints
    proba_JL: Floats
    wrong_J: Floats

    @property
    def accuracy(self) -> float:
        """Share of rows whose predicted label is the given one."""
        return float((self.proba_JL.argmax(axis=1) == self.given_J).mean())

    @property
    def is_reliable(self) -> bool:
        """Whether the predictions are good enough to judge labels, by the rule of the label audit."""
        majority = np.bincount(self.given_J).max() / len(self.given_J)
        avoided = (self.accuracy - majority) / max(1 - majority, 1e-9)
        return bool(self.accuracy >= SURE_ENOUGH and avoided >= BEYOND_MAJORITY)

    @property
    def expected(self) -> int:
        """How many labels are probably wrong."""
        return round(float(self.wrong_J.sum()))

    @property
    def doubt_J(self) -> Floats:
        """Log ratio of the predicted label's probability to the given one's; 0 if they are the same."""
        own_J = self.proba_JL[np.arange(len(self.rows)), self.given_J]
        return np.asarray(np.log(self.proba_JL.max(axis=1) / np.maximum(own_J, 1e-9)), np.float32)


def label_doubt(
    train: Sequence[Example], hidden_TD: Floats, audit: LabelAudit | str, seed: int
) -> LabelDoubt | str:
    """Doubt in the labels, by hidden states and, where there is an audit, by a bag of words; or why none.

    Both predict each row from the others; their log-probabilities are averaged.
    """
    counts = Counter(example.target for example in train)
    labels = tuple(sorted(label for label, rows in counts.items() if rows >= FEWEST_OF_LABEL))
    if len(labels) < 2 or len(train) < MIN_ROWS:
        return (
            f"wrong labels cannot be told with {format_count(len(train), 'training row')} and "
            f"{format_count(len(labels), 'label')} that {plural(len(labels), 'has', 'have')} at least "
            f"{FEWEST_OF_LABEL} of them"
        )
    column = {label: at for at, label in enumerate(labels)}
    rows_J = np.array([at for at, example in enumerate(train) if example.target in column])
    given_J = np.array([column[train[at].target] for at in rows_J])
    logp_JL = np.log(np.maximum(_out_of_fold(hidden_TD[rows_J], given_J, len(labels), seed), LEAST))
    if isinstance(audit, LabelAudit):
        place = {int(row): at for at, row in enumerate(rows_J)}
        shared = [(place[int(row)], at) for at, row in enumerate(audit.rows) if int(row) in place]
        words_JL = np.full((len(rows_J), len(labels)), LEAST, np.float32)
        at_J, position_J = (np.array(one, int) for one in zip(*shared, strict=True))
        for at, label in enumerate(audit.labels):
            words_JL[at_J, column[label]] = np.maximum(audit.proba_RL[position_J, at], LEAST)
        logp_JL[at_J] = (logp_JL[at_J] + np.log(words_JL[at_J])) / 2
    proba_JL = np.exp(logp_JL - np.logaddexp.reduce(logp_JL, axis=1, keepdims=True)).astype(np.float32)
    return LabelDoubt(rows_J, labels, given_J, proba_JL, label_error_probability_R(proba_JL, given_J))


def _out_of_fold(hidden_TD: Floats, given_T: Ints, labels: int, seed: int) -> Floats:
    """Probabilities of the labels by logistic regression on standardised hidden states, (T, L)."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold

    spread = hidden_TD.std(axis=0)
    hidden_TD = (hidden_TD - hidden_TD.mean(axis=0)) / np.where(spread > 0, spread, 1)
    proba_TL = np.zeros((len(given_T), labels), np.float32)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    for known, held in folds.split(hidden_TD, given_T):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted = LogisticRegression(C=0.01, max_iter=100).fit(hidden_TD[known], given_T[known])
        proba_TL[np.ix_(held, fitted.classes_)] = fitted.predict_proba(hidden_TD[held])
    return proba_TL


def label_suspects(
    train: Sequence[Example], doubt: LabelDoubt, chosen: Mapping[int, str], count: int
) -> list[Suspect]:
    """At most `count` training rows whose label is probably wrong, the most doubtful first.

    chosen: by index, the label that the tuned model chooses for a training row; another than the row's,
    although it was trained on it, is evidence of its own. A suggestion is only made where the predictions are
    reliable and the label is wrong with a probability of STRONG or more.
    """
    predicted_J = doubt.proba_JL.argmax(axis=1)
    order = np.argsort(-doubt.doubt_J, kind="stable")
    found = []
    for at in [int(at) for at in order if doubt.wrong_J[at] >= SUSPECT][:count]:
        row, likely = int(doubt.rows[at]), doubt.labels[predicted_J[at]]
        example = train[row]
        how = f"is probably wrong ({doubt.wrong_J[at]:.0%})" if doubt.is_reliable else "may be wrong"
        words = f"its label {example.target!r} {how}: rows like it are {likely!r}"
        if chosen.get(row, example.target) != example.target:
            words += f"; the tuned model still says {chosen[row]!r}, although it was trained on this row"
        sure = doubt.is_reliable and doubt.wrong_J[at] >= STRONG
        found.append(Suspect(example, "label", words, likely if sure else ""))
    return found


def loss_suspects(train: Sequence[Example], loss_T: Sequence[float | None], count: int) -> list[Suspect]:
    """Training rows whose answer the tuned model still finds unlikely, the unlikeliest first.

    loss_T: mean negative log-probability of the answer's tokens, in nats; None where there is none. Only rows
    that stand out: OUTLYING median deviations above the median, and LEAST_GAP nats.
    """
    known = np.array([loss for loss in loss_T if loss is not None])
    if len(known) < FEWEST_LOSSES:
        return []
    middle = float(np.median(known))
    spread = max(float(np.median(np.abs(known - middle))), 1e-3)
    least = middle + max(OUTLYING * spread, LEAST_GAP)
    far = [at for at, loss in enumerate(loss_T) if loss is not None and loss > least]
    far.sort(key=lambda at: (-(loss_T[at] or 0.0), at))
    words = (
        "the tuned model finds its answer unlikely ({:.2f} nats per token, usually {:.2f}), although it was "
        "trained on it"
    )
    return [Suspect(train[at], "loss", words.format(loss_T[at], middle)) for at in far[:count]]


def contradictions(
    train: Sequence[Example], wrong: Sequence[AnsweredRow], pairs: Iterable[tuple[int, int]], labelled: bool
) -> list[Suspect]:
    """Training rows that say something else than a failing validation row with nearly the same text.

    pairs: (index in train, index in wrong) of near-duplicates. The validation row is named and not quoted.
    """
    found: dict[str, Suspect] = {}
    for at, failed in pairs:
        example, row = train[at], wrong[failed]
        if normalise(example.target) == normalise(row.example.target):
            continue
        said = f" {example.target!r}" if labelled else " another answer"
        taught = (
            ", which is what the tuned model answers"
            if normalise(example.target) == normalise(row.text)
            else ""
        )
        words = f"it has nearly the text of the validation row {row.id} and says{said}{taught}"
        found.setdefault(example.id, Suspect(example, "neighbour", words))
    return [*found.values()]
