"""Weak slices: groups of rows on which a model errs more often than on the others.

A condition is a value of a column, the expected label, the source file, or a quarter of the rows by a length
or a number; a slice is one condition, or two of different kinds. Hundreds of slices are tested, so p values
are adjusted for their number (Benjamini and Hochberg 1995), and what is found is a hint where to look.

Axes: R rows, K slices, U units (rows, or clusters of rows).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy import stats

from finetooth.data.formats.parse import RESERVED
from finetooth.evaluation.statistics import mean_interval
from finetooth.types import Example

SUPPORT = 20  # units that a slice has, and that stand outside of it
FALSE_SHARE = 0.1  # of the slices that are called weak, the share that may be chance
QUARTERS, FEW_VALUES = 4, 8  # a column with more numbers than this is cut into quarters
LONGEST_VALUE = 60  # characters; longer ones are texts and no groups

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
    examples: Sequence[Example], scores: Sequence[float], groups: Sequence[str] | None = None
) -> WeakSlices:
    """The slices of these rows in which the scores are lower than elsewhere.

    scores: of one model, in [0, 1]. groups: the cluster of each row; each then counts as one observation
    inside a slice and one outside. Of slices that hold the same rows the first is tested. A pair of
    conditions is weak only where it says more than either alone.
    """
    error_R = 1 - np.asarray(scores, dtype=np.float64)
    unit_R = np.unique(groups, return_inverse=True)[1] if groups else None
    masks = _supported(dict(_conditions(examples)), unit_R)
    if not masks:
        return WeakSlices(0, ())
    p_K = _p_worse(error_R, unit_R, masks.values())
    adjusted_K = stats.false_discovery_control(p_K)
    p_of = dict(zip(masks, p_K.tolist(), strict=True))
    found = []
    for (names, mask), p, adjusted in zip(masks.items(), p_K, adjusted_K, strict=True):
        parts = [p_of[(name,)] for name in names if (name,) in p_of]
        if adjusted >= FALSE_SHARE or (len(names) > 1 and p >= min(parts, default=1.0)):
            continue
        clusters = [groups[row] for row in np.flatnonzero(mask).tolist()] if groups else None
        low, high = mean_interval(error_R[mask].tolist(), clusters=clusters)
        rows, units = int(mask.sum()), _units(unit_R, mask)
        own, others = (float(error_R[part].mean()) for part in (mask, ~mask))
        found.append(Slice(names, rows, units, own, low, high, others, float(p), float(adjusted)))
    return WeakSlices(len(masks), tuple(sorted(found, key=lambda one: (one.p, len(one.conditions)))))


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


def _of_values(kind: str, before: str, values: Sequence[Any]) -> Iterator[tuple[tuple[str, str], Mask]]:
    texts = ["" if value is None else " ".join(str(value).split()) for value in values]
    text_R = np.array(texts, dtype=object)
    for text, count in Counter(texts).items():
        if text and count >= SUPPORT and len(text) <= LONGEST_VALUE:
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


def _supported(conditions: Mapping[tuple[str, str], Mask], unit_R: Units) -> dict[tuple[str, ...], Mask]:
    """The slices of one and of two conditions with enough units inside and outside, each set of rows once."""
    single: dict[tuple[str, ...], Mask] = {(words,): mask for (_, words), mask in conditions.items()}
    double: dict[tuple[str, ...], Mask] = {
        (one[1], other[1]): conditions[one] & conditions[other]
        for one, other in combinations(conditions, 2)
        if one[0] != other[0]
    }
    seen: set[bytes] = set()
    supported: dict[tuple[str, ...], Mask] = {}
    for names, mask in (single | double).items():
        fewest = min(_units(unit_R, mask), _units(unit_R, ~mask))
        if fewest >= SUPPORT and (key := mask.tobytes()) not in seen:
            seen.add(key)
            supported[names] = mask
    return supported


def _units(unit_R: Units, mask: Mask) -> int:
    return int(mask.sum() if unit_R is None else np.unique(unit_R[mask]).size)


def _p_worse(error_R: np.ndarray, unit_R: Units, masks: Iterable[Mask]) -> np.ndarray:
    """[K]: one-sided p of the hypothesis that a slice's units are a random draw from all units.

    A unit is a cluster's mean inside the slice, or outside. Right or wrong: mid-p of the hypergeometric
    distribution (Fisher's exact test); else the permutation distribution of the sum by its first three
    moments (Pearson's type III).
    """
    drawn, total, n, mean, second, third, graded = np.array(
        [_moments(error_R, unit_R, mask) for mask in masks]
    ).T
    exact = stats.hypergeom(n.astype(int), np.rint(n * mean).astype(int), drawn.astype(int))
    p_exact = exact.sf(total) + exact.pmf(np.rint(total)) / 2
    shared = drawn * (n - drawn) / (n - 1)
    deviation = np.sqrt(np.maximum(shared * second, 1e-12))  # of the sum; 0 where all units are equal
    skewness = shared * (n - 2 * drawn) / (n - 2) * third / deviation**3
    p_graded = stats.pearson3.sf((total - drawn * mean) / deviation, skewness)
    return np.asarray(np.where(graded > 0, p_graded, p_exact))


def _moments(error_R: np.ndarray, unit_R: Units, mask: Mask) -> tuple[float, ...]:
    """Units inside and the sum of their values; of all units number, mean, second and third central moment.

    Last: 1 where a value is neither 0 nor 1.
    """
    inside_U, outside_U = error_R[mask], error_R[~mask]
    if unit_R is not None:
        inside_U, outside_U = _unit_means(inside_U, unit_R[mask]), _unit_means(outside_U, unit_R[~mask])
    value_U = np.concatenate([inside_U, outside_U])
    centred_U = value_U - value_U.mean()
    graded = not ((value_U == 0) | (value_U == 1)).all()
    moments = (value_U.mean(), (centred_U**2).mean(), (centred_U**3).mean())
    return inside_U.size, inside_U.sum(), value_U.size, *moments, graded


def _unit_means(error_R: np.ndarray, unit_R: np.ndarray) -> np.ndarray:
    _, at_R, size_U = np.unique(unit_R, return_inverse=True, return_counts=True)
    return np.bincount(at_R, weights=error_R) / size_U
