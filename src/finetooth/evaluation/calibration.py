"""Confidence in a chosen label: a temperature fitted on validation, how well it holds, and when to hand over.

The confidence in a label is its share in the softmax of all labels' total log-probabilities, divided by one
temperature (Guo et al. 2017): the likeliest by the validation labels and by what is known of tuned models.

Axes: R rows, L labels, U units (rows, or clusters of rows), B bins or bootstrap samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any

import numpy as np
from scipy import optimize, special

from finetooth.evaluation import resampling
from finetooth.evaluation.statistics import mean_interval
from finetooth.quality.intervals import wilson

MIN_ROWS = 20  # validation rows that a temperature is fitted on, at least
# The log-normal prior: a model that is tuned on few rows is rather too sure. It decides where rows are few or
# nearly all answers are right, and hardly counts from some hundred rows on (docs/log.md has what it changes).
USUAL, SPREAD = 1.3, 1.5
COLDEST, HOTTEST = 0.05, 20.0
BINS, ROWS_OF_BIN = 10, 20  # of the reliability diagram: at most so many bins, of at least so many rows
RESAMPLES = 300
CURVE = 40  # points of the curve of coverage against accuracy
HANDOVER = "handing over every row"
Floats = np.ndarray


@dataclass(frozen=True, slots=True)
class Calibration:
    """How a run turns log-probabilities into a confidence, and when it answers alone: calibration.json.

    temperature: 1 where it was not fitted, and `reason` says why. rows: that it was fitted on. threshold: the
    confidence below which a row is handed over; None where no costs are given.
    """

    temperature: float = 1.0
    rows: int = 0
    reason: str = ""
    threshold: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields, for calibration.json."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Decisions:
    """Labels chosen with all log-probabilities (nats). right_R: whether the answer is the expected label.

    want_R: the index of the expected label, -1 where it is none of them. groups: the cluster of each row.
    """

    logp_RL: Floats
    want_R: Floats
    right_R: Floats
    groups: Sequence[str] | None = None

    @classmethod
    def of(
        cls,
        logprobs: Sequence[Mapping[str, float]],
        wanted: Sequence[str],
        right: Sequence[bool],
        groups: Sequence[str] | None = None,
    ) -> Decisions:
        """From each row's log-probabilities by label, its expected label, and whether the answer is right."""
        labels = [*logprobs[0]]
        logp_RL = np.array([[logp[label] for label in labels] for logp in logprobs])
        want_R = np.array([labels.index(want) if want in labels else -1 for want in wanted])
        return cls(logp_RL, want_R, np.array(right, dtype=bool), groups)

    def logp_at(self, temperature: float) -> Floats:
        """The log-probabilities of the labels among themselves: [R, L]."""
        return np.asarray(special.log_softmax(self.logp_RL / temperature, axis=1))

    def confidence_R(self, temperature: float) -> Floats:
        """The probability of the chosen label, which is the likeliest."""
        return np.asarray(np.exp(self.logp_at(temperature).max(axis=1)))

    def nll(self, temperature: float) -> float:
        """The mean negative log-likelihood of the expected labels, over the rows where it is one."""
        known = np.flatnonzero(self.want_R >= 0)
        return float(-self.logp_at(temperature)[known, self.want_R[known]].mean()) if known.size else math.nan

    def brier_R(self, temperature: float) -> Floats:
        """The Brier score of each row, 0-2: the squared distance of the probabilities from the truth."""
        truth_RL = self.want_R[:, None] == np.arange(self.logp_RL.shape[1])
        distance_R = ((np.exp(self.logp_at(temperature)) - truth_RL) ** 2).sum(axis=1)
        return np.asarray(distance_R + (self.want_R < 0))


def fit(
    decisions: Decisions, cost_wrong: float | None = None, cost_handover: float | None = None
) -> Calibration:
    """The temperature, and with costs the threshold, of validation rows."""
    known = int((decisions.want_R >= 0).sum())
    temperature, reason = 1.0, ""

    def loss(log: float) -> float:
        unusual = (log - math.log(USUAL)) / math.log(SPREAD)
        return known * decisions.nll(math.exp(log)) + unusual**2 / 2

    if known < MIN_ROWS:
        reason = f"{known} validation rows are too few to fit it, which takes {MIN_ROWS}"
    else:
        bounds = math.log(COLDEST), math.log(HOTTEST)
        temperature = math.exp(optimize.minimize_scalar(loss, bounds=bounds, method="bounded").x)
    threshold = None
    if cost_wrong is not None and cost_handover is not None:
        threshold = cheapest_threshold(cost_wrong, cost_handover)
    return Calibration(temperature, known, reason, threshold)


def cheapest_threshold(cost_wrong: float, cost_handover: float) -> float:
    """The confidence at which an answer is expected to cost as much as handing the row over.

    No other threshold is cheaper where the confidence holds. One that is searched for on some hundred rows
    follows their noise (docs/log.md).
    """
    return max(0.0, 1 - cost_handover / cost_wrong) if cost_wrong else 0.0


def bin_edges(rows: int) -> list[int]:
    """The ends of bins of equal size, as counts of rows by rising confidence."""
    count = max(1, min(BINS, rows // ROWS_OF_BIN))
    return [round(rows * index / count) for index in range(count + 1)]


def ece(confidence_R: Floats, right_R: Floats) -> float:
    """Expected calibration error: the mean gap of confidence and accuracy over bins of equal mass."""
    order_R = np.argsort(confidence_R, kind="stable")
    gap_R = (confidence_R - right_R)[order_R]
    edges = bin_edges(gap_R.size)
    return float(sum(abs(gap_R[low:high].sum()) for low, high in pairwise(edges)) / gap_R.size)


def measure(decisions: Decisions, calibration: Calibration) -> dict[str, Any]:
    """How well the confidence holds on these rows, as summary.json has it under `calibration`.

    before, after: at temperature 1 and at the fitted one. chance: the calibration error that a perfect
    confidence would show on as many rows. bins: of the reliability diagram. curve: coverage and accuracy
    where only the rows of the highest confidence are answered.
    """
    right_R = decisions.right_R.astype(float)
    confidence_R = decisions.confidence_R(calibration.temperature)
    order_R = np.argsort(confidence_R, kind="stable")
    edges, bins = bin_edges(right_R.size), []
    for low, high in pairwise(edges):
        rows = order_R[low:high]
        interval = wilson(int(right_R[rows].sum()), rows.size)
        bins.append(
            {
                "n": int(rows.size),
                "confidence": float(confidence_R[rows].mean()),
                "accuracy": float(right_R[rows].mean()),
                **dict(zip(("low", "high"), interval, strict=True)),
            }
        )
    random = np.random.default_rng(0)
    perfect = [ece(confidence_R, random.random(right_R.size) < confidence_R) for _ in range(RESAMPLES)]
    kept = order_R[::-1]
    counts = sorted({max(1, round(right_R.size * part / CURVE)) for part in range(1, CURVE + 1)})
    return {
        "temperature": calibration.temperature,
        "rows": calibration.rows,
        "reason": calibration.reason,
        "before": _scores(decisions, 1.0),
        "after": _scores(decisions, calibration.temperature),
        "chance": fmean(perfect),
        "bins": bins,
        "curve": [
            {
                "threshold": float(confidence_R[kept[count - 1]]),
                "coverage": count / right_R.size,
                "accuracy": float(right_R[kept[:count]].mean()),
            }
            for count in counts
        ],
    }


def _scores(decisions: Decisions, temperature: float) -> dict[str, float]:
    """Calibration error with a bootstrap interval over units, Brier score with its interval, likelihood."""
    right_R, confidence_R = decisions.right_R.astype(float), decisions.confidence_R(temperature)
    names = decisions.groups or [str(row) for row in range(right_R.size)]
    number = {name: index for index, name in enumerate(dict.fromkeys(names))}
    unit_R = np.array([number[name] for name in names])
    rows_U = np.split(np.argsort(unit_R, kind="stable"), np.bincount(unit_R).cumsum()[:-1])
    random = np.random.default_rng(0)
    found = []
    for _ in range(RESAMPLES):
        rows = np.concatenate([rows_U[unit] for unit in random.integers(0, len(rows_U), len(rows_U))])
        found.append(ece(confidence_R[rows], right_R[rows]))
    brier_R = decisions.brier_R(temperature)
    low, high = mean_interval((brier_R / 2).tolist(), clusters=decisions.groups)
    return {
        "ece": ece(confidence_R, right_R),
        "ece_low": float(np.quantile(found, 0.025)),
        "ece_high": float(np.quantile(found, 0.975)),
        "brier": float(brier_R.mean()),
        "brier_low": 2 * low,
        "brier_high": 2 * high,
        "nll": decisions.nll(temperature),
    }


def decide(
    decisions: Decisions, calibration: Calibration, cost_wrong: float, cost_handover: float
) -> dict[str, Any]:
    """What the threshold does on these rows: coverage, accuracy of what is answered alone, and cost of a row.

    saving: against the cheaper of answering every row and handing over every row, with its 95% confidence
    interval. Costs are in the user's unit.
    """
    threshold = calibration.threshold or 0.0
    right_R = decisions.right_R
    alone_R = decisions.confidence_R(calibration.temperature) >= threshold
    cost_R = np.where(alone_R, ~right_R * cost_wrong, cost_handover)
    fixed = {
        "answering every row": ~right_R * cost_wrong,
        HANDOVER: np.full(right_R.size, cost_handover),
    }
    other = min(fixed, key=lambda name: float(fixed[name].mean()))
    answered, correct = int(alone_R.sum()), int(right_R[alone_R].sum())
    result: dict[str, Any] = {
        "threshold": threshold,
        "n": right_R.size,
        "answered": answered,
        "correct": correct,
    }
    for name, part, of in (("coverage", answered, right_R.size), ("accuracy", correct, answered)):
        low, high = wilson(part, of) if of else (0.0, 1.0)
        result[name] = {"value": part / of if of else None, "low": low, "high": high}
    for name, value_R in (("cost", cost_R), ("saving", fixed[other] - cost_R)):
        mean = float(value_R.mean())
        low, high = resampling.interval(*resampling.cluster_totals(value_R.astype(float), decisions.groups))
        # Where every row is handed over, each costs the same, whatever it is.
        known = not answered and (name == "cost" or other == HANDOVER)
        result[name] = {"value": mean, "low": mean if known else low, "high": mean if known else high}
    return {**result, "against": other, "cost_wrong": cost_wrong, "cost_handover": cost_handover}
