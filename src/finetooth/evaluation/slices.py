"""Weak slices: groups of rows on which a model errs more often than on the others.

A condition is a value of a column, the expected label, the source file, a quarter of the rows by a length or
a number, or a feature of the question's text; a slice is one condition, or two of different kinds. Hundreds
of slices are tested, so p values are adjusted for their number (Benjamini and Hochberg 1995), and what is
found is a hint where to look.

Axes: R rows, C conditions, K slices, U units (rows, or clusters of rows).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy import stats

from finetooth.data.formats.parse import RESERVED
from finetooth.evaluation.statistics import mean_interval
from finetooth.evaluation.text_features import text_conditions
from finetooth.quality.findings import question
from finetooth.types import Example

SUPPORT = 20  # units that a slice has, and that stand outside of it
FALSE_SHARE = 0.1  # of the slices that are called weak, the share that may be chance
QUARTERS, FEW_VALUES = 4, 8  # a column with more numbers than this is cut into quarters
LONGEST_VALUE = 60  # characters; longer ones are texts and no groups
MOST_VALUES = 200  # of a column: the most frequent
PAIRED = 150  # conditions that are tested in pairs: those that halve the rows most evenly
TEXT = "text"  # the kind of all features of the question's text, so that no two of them are a pair

Mask = np.ndarray  # bool [R]
Units = np.ndarray | None  # [R]: the number of each row's cluster; None: every row is a unit


@dataclass(frozen=True, slots=True)
class Slice:
    """One group of rows. error: mean of 1 - score, with its 95% interval; others: of the rows outside.

    units: clusters of its rows, or its rows where none is in a cluster. p: of the hypothesis that its rows
    are like the others, one-sided; adjusted: for the number of slices that were tested.
    """

    conditions: tuple[str, ...]
    rows: int
    units: int
    error: float
    low: float
    high: float
    others: float
    p: float
    adjusted: float


@dataclass(frozen=True, slots=True)
class WeakSlices:
    """How many slices were tested, and those that are weak, the clearest first."""

    tested: int
    found: tuple[Slice, ...]


def weak_slices(
    examples: Sequence[Example],
    scores: Sequence[float],
    groups: Sequence[str] | None = None,
    known: Mapping[tuple[str, str], Mask] | None = None,
) -> WeakSlices:
    """The slices of these rows in which the scores are lower than elsewhere.

    scores: of one model, in [0, 1]. groups: the cluster of each row; each then counts as one observation
    inside a slice and one outside. Of slices that hold the same rows the first is tested. A pair of
    conditions is weak only where it says more than either alone. known: `conditions_by_kind` of the examples,
    where they were looked at already.
    """
    error_R = 1 - np.asarray(scores, dtype=np.float64)
    unit_R = np.unique(groups, return_inverse=True)[1] if groups else None
    if error_R.size < 2 * SUPPORT:
        return WeakSlices(0, ())
    by_kind = conditions_by_kind(examples) if known is None else known
    mask_of = {words: mask for (_, words), mask in by_kind.items()}
    moments = _supported(by_kind, error_R, unit_R)
    if not moments:
        return WeakSlices(0, ())
    p_K = _p_worse(np.array([*moments.values()], dtype=np.float64))
    adjusted_K = stats.false_discovery_control(p_K)
    p_of = dict(zip(moments, p_K.tolist(), strict=True))
    found = []
    for names, p, adjusted in zip(moments, p_K, adjusted_K, strict=True):
        parts = [p_of[(name,)] for name in names if (name,) in p_of]
        if adjusted >= FALSE_SHARE or (len(names) > 1 and p >= min(parts, default=1.0)):
            continue
        mask = _all_of(mask_of, names)
        clusters = [groups[row] for row in np.flatnonzero(mask).tolist()] if groups else None
        low, high = mean_interval(error_R[mask].tolist(), clusters=clusters)
        rows, units = int(mask.sum()), int(moments[names][0])
        own, others = (float(error_R[part].mean()) for part in (mask, ~mask))
        found.append(Slice(names, rows, units, own, low, high, others, float(p), float(adjusted)))
    return WeakSlices(len(moments), tuple(sorted(found, key=lambda one: (one.p, len(one.conditions)))))


def conditions_by_kind(examples: Sequence[Example]) -> dict[tuple[str, str], Mask]:
    """(kind, words) of every condition -> the rows that it holds for."""
    return dict(_conditions(examples))


def conditions(examples: Sequence[Example]) -> dict[str, Mask]:
    """The rows of every single condition, by its words."""
    return {words: mask for (_, words), mask in _conditions(examples)}


def slice_masks(examples: Sequence[Example], slices: Iterable[Slice]) -> list[Mask]:
    """The rows of each slice that was found in these examples."""
    known = conditions(examples)
    return [_all_of(known, one.conditions) for one in slices]


def _all_of(known: Mapping[str, Mask], names: Sequence[str]) -> Mask:
    mask: Mask = np.logical_and.reduce([known[name] for name in names])
    return mask


def _conditions(examples: Sequence[Example]) -> Iterator[tuple[tuple[str, str], Mask]]:
    """(kind, words) and the rows of every condition."""
    words_R = [sum(len(m.content.split()) for m in row.context if m.role != "system") for row in examples]
    yield from _of_numbers("question", "", words_R, " words in the question")
    labels_R = [row.tags.get("label") or "" for row in examples]
    if any(labels_R):  # the length of a label says no more than the label
        yield from _of_values("label", "expected ", labels_R)
    else:
        yield from _of_numbers("answer", "", [len(row.target.split()) for row in examples], " words expected")
    yield from _of_values("file", "from ", [row.tags.get("file") or "" for row in examples])
    columns = dict.fromkeys(name for row in examples for name in row.tags if name not in RESERVED)
    for column in columns:
        values = [row.tags.get(column) for row in examples]
        numbers = [_number(value) for value in values]
        given = [one for one, value in zip(numbers, values, strict=True) if value not in (None, "")]
        if None not in given and len(set(given)) > FEW_VALUES:
            yield from _of_numbers(column, f"{column} ", numbers)
        else:
            yield from _of_values(column, f"{column} is ", values)
    for words, mask in text_conditions([question(row) for row in examples], SUPPORT):
        yield (TEXT, words), mask


def _of_values(kind: str, before: str, values: Sequence[Any]) -> Iterator[tuple[tuple[str, str], Mask]]:
    texts = ["" if value is None else " ".join(str(value).split()) for value in values]
    text_R = np.array(texts, dtype=object)
    counts = Counter(texts)
    often = {text for text, _ in counts.most_common(MOST_VALUES + 1) if text}
    for text, count in counts.items():
        if text in often and count >= SUPPORT and len(text) <= LONGEST_VALUE:
            yield (kind, f"{before}{text}"), text_R == text


def _of_numbers(
    kind: str, before: str, values: Sequence[float | None], after: str = ""
) -> Iterator[tuple[tuple[str, str], Mask]]:
    """Quarters of the rows by a number; equal numbers are in one quarter."""
    value_R = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    known = value_R[~np.isnan(value_R)]
    if not known.size:
        return
    edges = np.unique(np.quantile(known, np.linspace(0, 1, QUARTERS + 1)[1:-1], method="inverted_cdf"))
    quarter_R = np.searchsorted(edges, value_R)
    for quarter in range(edges.size + 1):
        mask = (quarter_R == quarter) & ~np.isnan(value_R)
        if mask.any():
            low, high = (f"{bound:,.6g}" for bound in (value_R[mask].min(), value_R[mask].max()))
            yield (kind, f"{before}{low if low == high else f'{low} to {high}'}{after}"), mask


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if np.isfinite(number) else None


Moments = tuple[float, ...]


def _supported(
    conditions: Mapping[tuple[str, str], Mask], error_R: np.ndarray, unit_R: Units
) -> dict[tuple[str, ...], Moments]:
    """The moments of the slices of one and of two conditions with enough units inside and outside.

    Each set of rows once. A slice's rows are not kept: at 20,000 rows there may be thousands of slices.
    """
    seen: set[bytes] = set()
    supported: dict[tuple[str, ...], Moments] = {}
    moments_of = _of_rows(error_R) if unit_R is None else _of_clusters(error_R, unit_R)
    for names, mask in _slices(conditions, error_R.size):
        if not SUPPORT <= mask.sum() <= mask.size - SUPPORT or (key := np.packbits(mask).tobytes()) in seen:
            continue
        moments = moments_of(mask)
        if moments[0] >= SUPPORT and moments[2] - moments[0] >= SUPPORT:
            seen.add(key)
            supported[names] = moments
    return supported


def _slices(conditions: Mapping[tuple[str, str], Mask], rows: int) -> Iterator[tuple[tuple[str, ...], Mask]]:
    """The conditions, and the pairs of different kinds with enough rows inside."""
    yield from (((words,), mask) for (_, words), mask in conditions.items())
    uneven = {one: abs(2 * int(mask.sum()) - rows) for one, mask in conditions.items()}
    chosen = {*sorted(uneven, key=lambda one: uneven[one])[:PAIRED]}
    names = [one for one in conditions if one in chosen]
    if not names:
        return
    member_CR = np.array([conditions[one] for one in names], dtype=np.float32)
    both_CC = member_CR @ member_CR.T
    for one, other in combinations(range(len(names)), 2):
        if names[one][0] != names[other][0] and both_CC[one, other] >= SUPPORT:
            mask = conditions[names[one]] & conditions[names[other]]
            yield (names[one][1], names[other][1]), mask


def _p_worse(moments_KM: np.ndarray) -> np.ndarray:
    """[K]: one-sided p of the hypothesis that a slice's units are a random draw from all units.

    A unit is a cluster's mean inside the slice, or outside. Right or wrong: mid-p of the hypergeometric
    distribution (Fisher's exact test); else the permutation distribution of the sum by its first three
    moments (Pearson's type III), its variance widened where the units inside are smaller ones.
    """
    drawn, total, n, mean, second, third, widened, graded = moments_KM.T
    p_exact = _fisher_midp(np.rint(total), drawn, np.rint(n * mean), n)
    shared = drawn * (n - drawn) / (n - 1)
    deviation = np.sqrt(np.maximum(shared * second, 1e-12))  # of the sum; 0 where all units are equal
    skewness = shared * (n - 2 * drawn) / (n - 2) * third / deviation**3
    p_graded = stats.pearson3.sf((total - drawn * mean) / (deviation * np.sqrt(widened)), skewness)
    return np.asarray(np.where(graded > 0, p_graded, p_exact))


def _fisher_midp(k_K: np.ndarray, drawn_K: np.ndarray, wrong_K: np.ndarray, n_K: np.ndarray) -> np.ndarray:
    """[K]: mid-p of as many wrong units or more among those drawn, by the ratios of neighbouring terms.

    scipy.stats.hypergeom sums over all of its support for one slice after the other.
    """
    term_K = stats.hypergeom.pmf(k_K, n_K, wrong_K, drawn_K)
    certain_K = (term_K == 0) & (k_K * n_K < wrong_K * drawn_K)  # too far below what is expected for a number
    sum_K, k_K = term_K / 2, k_K.copy()
    while ((term_K > 1e-18) | (k_K * n_K < wrong_K * drawn_K)).any():
        more = (wrong_K - k_K) * (drawn_K - k_K)
        term_K = term_K * more / ((k_K + 1) * (n_K - wrong_K - drawn_K + k_K + 1))
        k_K += 1
        sum_K += term_K
    return np.where(certain_K, 1.0, np.minimum(sum_K, 1.0))


def _of_rows(error_R: np.ndarray) -> Callable[[Mask], Moments]:
    """The moments of a slice; see `_of_clusters`. Those of all rows are the same for every slice."""
    centred_R = error_R - error_R.mean()
    graded = float(not ((error_R == 0) | (error_R == 1)).all())
    of_all = (error_R.mean(), (centred_R**2).mean(), (centred_R**3).mean(), 1.0, graded)
    return lambda mask: (float(mask.sum()), float(error_R[mask].sum()), float(error_R.size), *of_all)


def _of_clusters(error_R: np.ndarray, unit_R: np.ndarray) -> Callable[[Mask], Moments]:
    """Units inside and the sum of their values; of all units number, mean, second and third central moment.

    Then how much wider the values inside vary than all: a mean of fewer rows varies more, the more so the
    less the rows of a cluster resemble each other. Last: 1 where a value is neither 0 nor 1.
    """
    rows_U = np.bincount(unit_R)
    sum_U = np.bincount(unit_R, weights=error_R)
    within_R = error_R - (sum_U / rows_U)[unit_R]
    freedom, variance = max(1, error_R.size - rows_U.size), max(float(error_R.var()), 1e-12)
    alike = min(1.0, max(0.0, 1 - float((within_R**2).sum()) / freedom / variance))

    def moments(mask: Mask) -> Moments:
        inside_U = np.bincount(unit_R[mask], minlength=rows_U.size)
        wrong_U = np.bincount(unit_R[mask], weights=error_R[mask], minlength=rows_U.size)
        within, without = inside_U > 0, inside_U < rows_U
        value_U = np.concatenate(
            [wrong_U[within] / inside_U[within], (sum_U - wrong_U)[without] / (rows_U - inside_U)[without]]
        )
        inside = int(within.sum())
        share_U = 1 / np.concatenate([inside_U[within], (rows_U - inside_U)[without]])
        widened = (alike + (1 - alike) * share_U[:inside].mean()) / (alike + (1 - alike) * share_U.mean())
        centred_U = value_U - value_U.mean()
        graded = not ((np.abs(value_U) < 1e-9) | (np.abs(value_U - 1) < 1e-9)).all()
        third = (centred_U * centred_U * centred_U).mean()
        own = (inside, value_U[:inside].sum(), value_U.size, value_U.mean(), (centred_U**2).mean(), third)
        return (*map(float, own), max(1.0, float(widened)), float(graded))

    return moments
