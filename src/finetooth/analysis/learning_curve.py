"""The score against the number of training rows, and a forecast for more of them. Pure.

A curve is level + gain * shape(rows). The shape is one of a family (power laws, logarithmic, saturating, and
steps), none of which is known to be right: each is weighted by how well it explains the measured scores, and
the forecast is the mixture. Level and gain have wide normal priors, so that all of this is exact, but for the
draws that put the forecast into [0, 1]. The same validation rows are answered at every size, so chance is in
the trainings: which rows were drawn, and the seed. How large it is, is estimated from the spread of the seeds
and, since few of them say little, from what is usual.

Axes: P trainings, F shapes, K spreads, D draws.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]

LEVEL = 0.9  # of the intervals
HELPS, ON_AVERAGE, NOT_PROVEN, NO_HELP = (
    "more rows help",
    "more rows help on average",
    "not proven",
    "no help",
)
SMALL = 0.001  # a gain that is not shown to be larger than this is none
DRAWS = 4000
FEWEST_SIZES, FEWEST_ROWS = 3, 100  # fewer sizes or validation rows are warned of
# Mean and deviation before the data: of the score, and of the gain up to the forecast. A flat curve is a case
# of its own: without it, measured scores that are equal would tell for shapes that rise only behind them.
LEVEL_PRIOR, GAIN_PRIOR, FLAT_PRIOR = (0.5, 0.5), (0.1, 0.25), (0.0, 0.02)
# The usual deviation between trainings: half of what answers by chance would have, and a share of the error.
CHANCE, SHARE, SHRINKING = 0.5, 0.18, 0.25  # it falls with the rows to the power of the last one
SPREADS = np.exp(np.linspace(-1.6, 1.6, 9))  # times the usual deviation
SPREAD_SD = 0.6  # of the logarithm of what multiplies it, before the data
WEIGHTS = {"power": 0.4, "saturating": 0.2, "step": 0.3, "flat": 0.1}


@dataclass(frozen=True, slots=True)
class Point:
    """The score of one training, in [0, 1]."""

    size: int
    seed: int
    score: float


@dataclass(frozen=True, slots=True)
class Band:
    """The curve at one size: the expected score and its interval, without the chance of one training."""

    size: float
    score: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """What `target` training rows would bring, in place of the `size` that there are.

    sizes: how many were measured. measured: the mean score at `size`. now: the curve there. score: expected
    at the target; low, high: of one training there. gain, gain_low, gain_high: of one training beyond `now`;
    mean_low, mean_high: of the mean over trainings. spread: deviation of the score between trainings at
    `size`. band: for a drawing.
    """

    size: int
    sizes: int
    target: int
    rows: int
    measured: float
    now: float
    score: float
    low: float
    high: float
    gain: float
    gain_low: float
    gain_high: float
    mean_low: float
    mean_high: float
    spread: float
    band: tuple[Band, ...]
    words: str
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The forecast as plain values."""
        return {**asdict(self), "band": [asdict(one) for one in self.band], "warnings": list(self.warnings)}


def forecast(points: Sequence[Point], rows: int, target: int | None = None, draws: int = DRAWS) -> Forecast:
    """The forecast from measured scores. rows: validation rows. target: default twice the largest size.

    The same arguments give the same numbers. Raises ValueError for no points.
    """
    if not points:
        raise ValueError("a forecast needs at least one measured score")
    points = sorted(points, key=lambda point: (point.size, point.seed))
    size_P = np.array([point.size for point in points], dtype=np.float64)
    score_P = np.array([point.score for point in points], dtype=np.float64)
    least, most = float(size_P.min()), float(size_P.max())
    target = int(2 * most) if target is None else target
    span = max(target, most)
    grid = np.unique(np.concatenate([np.geomspace(least, span, 33), [most, target]]))
    shapes, priors = _shapes(least, most, span)
    usual = _usual_spread(size_P, score_P, rows)
    chosen = _Mixture.of(size_P, score_P, usual(size_P), shapes, priors, grid).draw(draws)
    at = {float(size): chosen.curve_DG[:, index] for index, size in enumerate(grid)}
    now_D, then_D = at[most], at[float(target)]
    noise_D = chosen.spread_D * float(usual(np.array([float(target)]))[0]) * chosen.normal_D
    seen_D = np.clip(then_D + noise_D, 0.0, 1.0)
    low, high = _interval(seen_D)
    gain_low, gain_high = _interval(seen_D - now_D)
    mean_low, mean_high = _interval(then_D - now_D)
    gain, now = float((then_D - now_D).mean()), float(now_D.mean())
    found: dict[str, Any] = {
        "size": int(most),
        "sizes": len(set(size_P.tolist())),
        "target": target,
        "rows": rows,
        "measured": float(score_P[size_P == most].mean()),
        "now": now,
        "score": float(then_D.mean()),
        "low": low,
        "high": high,
        "gain": gain,
        "gain_low": gain_low,
        "gain_high": gain_high,
        "mean_low": mean_low,
        "mean_high": mean_high,
        "spread": float(chosen.spread_D.mean() * usual(np.array([most]))[0]),
    }
    band = tuple(
        Band(float(size), float(one_D.mean()), *_interval(one_D))
        for size, one_D in zip(grid, chosen.curve_DG.T, strict=True)
    )
    return Forecast(**found, band=band, words=_words(found), warnings=tuple(_warnings(points, rows)))


@dataclass(frozen=True, slots=True)
class _Draws:
    """Curves on a grid of sizes, spreads as multiples of the usual one, and normal numbers."""

    curve_DG: Floats
    spread_D: Floats
    normal_D: Floats


@dataclass(frozen=True, slots=True)
class _Priors:
    """Of each shape before the data: its weight, and mean and deviation of level and gain."""

    weight_F: Floats
    mean_FC: Floats
    deviation_FC: Floats


@dataclass(frozen=True, slots=True)
class _Mixture:
    """The posterior: for each shape and spread its probability, and mean and covariance of level and gain."""

    weight_FK: Floats
    mean_FKC: Floats
    root_FKCC: Floats
    shape_FG: Floats

    @classmethod
    def of(
        cls, size_P: Floats, score_P: Floats, usual_P: Floats, shapes: Any, priors: _Priors, grid: Floats
    ) -> _Mixture:
        shape_FP, shape_FG = shapes(size_P), shapes(grid)
        design_FPC = np.stack([np.ones_like(shape_FP), shape_FP], axis=-1)
        inverse = 1 / (usual_P * SPREADS[:, None]) ** 2  # of each training's variance, K P
        precision = np.einsum("fpc,kp,fpd->fkcd", design_FPC, inverse, design_FPC)
        precision += np.einsum("fc,cd->fcd", priors.deviation_FC**-2, np.eye(2))[:, None]
        right = np.einsum("fpc,kp,p->fkc", design_FPC, inverse, score_P)
        right += (priors.mean_FC / priors.deviation_FC**2)[:, None]
        covariance = np.linalg.inv(precision)
        mean_FKC = np.einsum("fkcd,fkd->fkc", covariance, right)
        # The evidence, by the square completed in level and gain.
        log_FK = 0.5 * np.log(inverse).sum(1) - 0.5 * (inverse @ score_P**2)
        log_FK = log_FK + 0.5 * np.einsum("fkc,fkc->fk", right, mean_FKC)
        log_FK += 0.5 * np.linalg.slogdet(covariance)[1]
        log_FK -= (0.5 * (priors.mean_FC / priors.deviation_FC) ** 2 + np.log(priors.deviation_FC)).sum(1)[
            :, None
        ]
        log_FK += np.log(priors.weight_F)[:, None] - 0.5 * (np.log(SPREADS) / SPREAD_SD) ** 2
        weight_FK = np.exp(log_FK - log_FK.max())
        root_FKCC = np.linalg.cholesky(covariance)
        return cls(weight_FK / weight_FK.sum(), mean_FKC, root_FKCC, shape_FG)

    def draw(self, draws: int) -> _Draws:
        """Draws whose curves stay in [0, 1]; where hardly any does, the others are clipped."""
        random = np.random.default_rng(0)
        kinds, spreads = self.weight_FK.shape
        index_D = random.choice(kinds * spreads, size=8 * draws, p=self.weight_FK.ravel())
        kind_D, spread_D = np.divmod(index_D, spreads)
        normal_DC = random.standard_normal((len(index_D), 2))
        mean_DC = self.mean_FKC[kind_D, spread_D]
        pair_DC = mean_DC + np.einsum("dij,dj->di", self.root_FKCC[kind_D, spread_D], normal_DC)
        curve_DG = pair_DC[:, :1] + pair_DC[:, 1:] * self.shape_FG[kind_D]
        inside_D = (curve_DG.min(1) >= 0) & (curve_DG.max(1) <= 1)
        order_D = np.argsort(~inside_D, kind="stable")[:draws]
        curve_DG = np.clip(curve_DG[order_D], 0.0, 1.0)
        return _Draws(curve_DG, SPREADS[spread_D[order_D]], random.standard_normal(draws))


def _shapes(least: float, most: float, span: float) -> tuple[Any, _Priors]:
    """The shapes as a function of sizes (to F x sizes), each 0 at the least size and 1 at the end."""
    powers = np.linspace(0.02, 1.5, 16)
    ends = np.geomspace(max(least, most / 16), 2 * most, 8)  # where a curve saturates
    places, steepness = np.geomspace(least, 4 * most, 12), (1.5, 3.0, 6.0)

    def raw(size: Floats) -> Floats:
        power = [-(size**-one) for one in powers]
        saturating = [-np.exp(-(size - least) / one) for one in ends]
        step = [1 / (1 + (place / size) ** steep) for steep in steepness for place in places]
        return np.array([*power, *saturating, *step, *power])

    def shapes(size: Floats) -> Floats:
        start, end = raw(np.array([least])), raw(np.array([span]))
        return np.asarray((raw(size) - start) / np.maximum(end - start, 1e-12), dtype=np.float64)

    counts = {"power": len(powers), "saturating": len(ends), "step": len(places) * len(steepness)}
    counts["flat"] = len(powers)
    weights = [np.full(count, WEIGHTS[name] / count) for name, count in counts.items()]
    pairs = [[LEVEL_PRIOR, FLAT_PRIOR if name == "flat" else GAIN_PRIOR] for name in counts]
    prior_FCX = np.repeat(np.array(pairs), list(counts.values()), axis=0)
    return shapes, _Priors(np.concatenate(weights), prior_FCX[..., 0], prior_FCX[..., 1])


def _usual_spread(size_P: Floats, score_P: Floats, rows: int) -> Any:
    """The usual deviation of the score between trainings, as a function of sizes.

    It follows the error, which is taken from the measured means, a straight line over the logarithm of rows.
    """
    error_P, most = 1 - score_P, float(size_P.max())
    line = np.polyfit(np.log(size_P), error_P, 1 if len(set(size_P)) > 1 else 0)

    def usual(size: Floats) -> Floats:
        inside = np.minimum(np.log(size), math.log(most))
        error = np.clip(np.polyval(line, inside), 1 / (rows + 2), 1 - 1 / (rows + 2))
        both = np.maximum(error * (1 - error), 1.0 / (rows + 2))
        deviation = np.sqrt(CHANCE**2 * both / max(rows, 1) + (SHARE * both) ** 2)
        return np.asarray(deviation * (most / size) ** SHRINKING, dtype=np.float64)

    return usual


def _interval(value_D: Floats) -> tuple[float, float]:
    low, high = np.quantile(value_D, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def signed(value: float) -> str:
    """A share as points with its sign: +3.1."""
    return f"{100 * value + 0.0:+.1f}".replace("-", "−").replace("−0.0", "+0.0")


def _words(found: dict[str, Any]) -> str:
    """The forecast in a sentence or two."""
    times = found["target"] / found["size"]
    doing = f"doubling the {found['size']:,} rows" if times == 2 else f"{found['target']:,} rows"
    if found["sizes"] == 1:
        return f"One size alone does not tell what {doing} would bring."
    words = (
        f"{doing[0].upper()}{doing[1:]} would bring about {signed(found['gain'])} points "
        f"({LEVEL:.0%} interval {signed(found['gain_low'])} to {signed(found['gain_high'])})."
    )
    return {
        HELPS: words,
        ON_AVERAGE: f"{words} More rows help on average, but one training with them need not show it.",
        NO_HELP: f"{words} More rows of this kind do not help.",
        NOT_PROVEN: f"{words} It is not proven that more rows help.",
    }[verdict(found)]


def verdict(found: Mapping[str, Any]) -> str:
    """Whether more rows help, by the intervals of a forecast (`Forecast.to_json()`).

    From one size nothing is proven: a score of 0 or 1 can only rise or fall, and the intervals would say so.
    """
    if found["sizes"] == 1:
        return NOT_PROVEN
    if found["gain_low"] > 0:
        return HELPS
    if found["mean_low"] >= SMALL:
        return ON_AVERAGE
    return NO_HELP if found["gain_high"] < 0 else NOT_PROVEN


def _warnings(points: Sequence[Point], rows: int) -> list[str]:
    """What makes the forecast doubtful."""
    sizes = sorted({point.size for point in points})
    seeds = min(sum(point.size == size for point in points) for size in sizes)
    found = []
    if len(sizes) < FEWEST_SIZES:
        found.append(
            f"{len(sizes)} {'size says' if len(sizes) == 1 else 'sizes say'} little about the shape of the "
            f"curve: measure {FEWEST_SIZES} or more (--sizes)."
        )
    if seeds < 2:
        found.append("One training of each size does not show what the seed decides: --seeds 2 or more.")
    if rows < FEWEST_ROWS:
        found.append(f"{rows} validation rows are few: one of them is {100 / max(rows, 1):.1f} points.")
    return found
