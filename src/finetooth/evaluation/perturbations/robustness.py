"""How far a model's answers hold on perturbed rows: numbers of evaluate/robustness.json.

Every figure is paired: the same rows, as they are and perturbed. Axes: R rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from finetooth.data.examples import normalise
from finetooth.evaluation.perturbations.kept import question
from finetooth.evaluation.perturbations.kinds import KINDS, Perturbed
from finetooth.evaluation.statistics import ALPHA, MIN_ROWS, compare, mean_interval
from finetooth.types import Example

FILE = "evaluate/robustness.json"  # of a run
ADDITION, OUT_OF_SCOPE = "addition", "out-of-scope"
ALL_KINDS = (*KINDS, ADDITION, OUT_OF_SCOPE)
TOLERANCE = 0.1  # of a probability that should not fall
USUAL = 0.9  # of the task's own rows have at least this confidence, where the run has no threshold
EXAMPLES, CHANGES = 4, 6  # shown of a kind, and of an example's changes


@dataclass(frozen=True, slots=True)
class Answer:
    """One graded answer. logprobs: of all labels, in nats; None where no label was chosen."""

    text: str
    score: float | None
    logprobs: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """A row as it is and perturbed, and a candidate's answers to both. group: the row's cluster."""

    row: Example
    changed: Perturbed
    before: Answer
    after: Answer
    group: str

    @property
    def flipped(self) -> bool:
        """Whether the answer is another one; case and marks at its ends do not count."""
        return normalise(self.before.text) != normalise(self.after.text)


def compare_pairs(kind: str, pairs: Sequence[Pair], tests: int) -> dict[str, Any]:
    """The change of the score with its interval, and the share of answers that flipped.

    tests: how many kinds a candidate is tested with; `loses` is proven at the level .05 / tests. Rows on
    which the grader failed are left out. `difference` is None where no row is left.
    """
    graded = [pair for pair in pairs if None not in (pair.before.score, pair.after.score)]
    result: dict[str, Any] = {"kind": kind, "rows": len(graded), "difference": None}
    if not graded:
        return result
    before, after = ([one.score or 0.0 for one in side] for side in zip(*_answers(graded), strict=True))
    groups = [pair.group for pair in graded]
    clusters = groups if len(set(groups)) < len(groups) else None
    compared = asdict(compare(before, after, clusters))
    flips = [float(pair.flipped) for pair in graded]
    low, high = mean_interval(flips, clusters=clusters)
    result |= {key: compared[key] for key in ("units", "difference", "low", "high", "p", "gained", "lost")}
    return {
        **result,
        "before": float(np.mean(before)),
        "after": float(np.mean(after)),
        "loses": compared["units"] >= MIN_ROWS and result["high"] < 0 and result["p"] < ALPHA / tests,
        "flipped": {"rows": int(sum(flips)), "share": float(np.mean(flips)), "low": low, "high": high},
        "examples": [shown(pair) for pair in sorted(graded, key=_telling)[:EXAMPLES]],
    }


def _answers(pairs: Sequence[Pair]) -> list[tuple[Answer, Answer]]:
    return [(pair.before, pair.after) for pair in pairs]


def _telling(pair: Pair) -> tuple[bool, float]:
    """The order in which examples are shown: answers that flipped, those that lost most first."""
    return not pair.flipped, (pair.after.score or 0.0) - (pair.before.score or 0.0)


def shown(pair: Pair) -> dict[str, Any]:
    """A pair as an example: the texts, what was changed, and the answers."""
    return {
        "id": pair.row.id,
        "before": question(pair.row),
        "after": question(pair.changed.example),
        "changes": [list(change) for change in pair.changed.changes[:CHANGES]],
        "want": pair.row.target,
        "answer_before": pair.before.text,
        "answer_after": pair.after.text,
        "flipped": pair.flipped,
    }


def directed(pairs: Sequence[Pair], temperature: float, tests: int) -> dict[str, Any]:
    """The kind `addition`: as compare_pairs, and the share of rows whose label got less likely.

    fell: the probability of the expected label fell by more than TOLERANCE although more speaks for it.
    """
    result = compare_pairs(ADDITION, pairs, tests)
    falls = []
    groups = []
    for pair in pairs:
        sides = [probability(one.logprobs, pair.row.target, temperature) for one in (pair.before, pair.after)]
        if sides[0] is not None and sides[1] is not None:
            falls.append(float(sides[1] < sides[0] - TOLERANCE))
            groups.append(pair.group)
    if falls:
        low, high = mean_interval(falls, clusters=groups if len(set(groups)) < len(groups) else None)
        share = float(np.mean(falls))
        result["fell"] = {"rows": int(sum(falls)), "of": len(falls), "share": share, "low": low, "high": high}
    return result


def probability(logprobs: Mapping[str, float] | None, label: str | None, temperature: float) -> float | None:
    """The probability of a label among all, of the likeliest for None; None where it is not known."""
    if logprobs is None or (label is not None and label not in logprobs):
        return None
    logp_L = np.array([*logprobs.values()]) / temperature
    share_L = np.exp(logp_L - np.logaddexp.reduce(logp_L))
    return float(share_L.max() if label is None else share_L[[*logprobs].index(label)])


def out_of_scope(own: Sequence[float], others: Sequence[float], threshold: float | None) -> dict[str, Any]:
    """How rows that are no business of the task are told from its own by the confidence.

    own, others: confidences. threshold: that below which the run hands over; None: that which USUAL of the
    own rows reach. handed_over: the share of the others below it. separation: the probability that an own row
    has the higher confidence (area under the ROC curve).
    """
    chosen = threshold is not None
    limit = float(np.quantile(own, 1 - USUAL, method="lower")) if threshold is None else threshold
    below = [float(one < limit) for one in others]
    low, high = mean_interval(below)
    labels = [1] * len(own) + [0] * len(others)
    return {
        "rows": len(below),
        "threshold": limit,
        "chosen": chosen,
        "handed_over": {"rows": int(sum(below)), "share": float(np.mean(below)), "low": low, "high": high},
        "own_handed_over": float(np.mean([one < limit for one in own])),
        "confidence": {"own": float(np.mean(own)), "others": float(np.mean(others))},
        "separation": float(roc_auc_score(labels, [*own, *others])),
    }
