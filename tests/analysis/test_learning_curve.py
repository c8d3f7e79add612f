"""The forecast of a learning curve holds in simulated worlds of several shapes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from finetooth.analysis.learning_curve import NOT_PROVEN, Forecast, Point, forecast, verdict

Random = np.random.Generator
WORLDS = 18  # of each shape


def power(draw: Random, size: np.ndarray) -> np.ndarray:
    high, low = draw.uniform(0.7, 0.99), draw.uniform(0.2, 0.65)
    return high - (high - low) * (size / size[0]) ** -draw.uniform(0.15, 1.0)


def saturating(draw: Random, size: np.ndarray) -> np.ndarray:
    high, low = draw.uniform(0.7, 0.99), draw.uniform(0.2, 0.65)
    return high - (high - low) * np.exp((size[0] - size) / (size[-2] * draw.uniform(0.15, 1.2)))


def logarithmic(draw: Random, size: np.ndarray) -> np.ndarray:
    return np.minimum(0.995, draw.uniform(0.2, 0.65) + np.log2(size / size[0]) * draw.uniform(0.01, 0.07))


def plateau(draw: Random, size: np.ndarray) -> np.ndarray:
    return np.full(len(size), draw.uniform(0.5, 0.98))


def jump(draw: Random, size: np.ndarray) -> np.ndarray:
    high, low = draw.uniform(0.7, 0.99), draw.uniform(0.2, 0.65)
    place = np.exp(draw.uniform(np.log(size[0]), np.log(size[-1])))
    return low + (high - low) / (1 + (place / size) ** draw.uniform(2, 6))


SHAPES: tuple[Callable[[Random, np.ndarray], np.ndarray], ...] = (
    power, saturating, logarithmic, plateau, jump,
)  # fmt: skip


def world(draw: Random, shape: Callable[[Random, np.ndarray], np.ndarray]) -> tuple[Forecast, float]:
    """A forecast, and the score of one training at its target.

    Rows are easy or hard, the same for all trainings; a training shifts all of them, more so with few rows.
    """
    most, sizes, rows = (
        draw.choice([80, 160, 400, 1200]),
        draw.choice([3, 4, 5]),
        draw.choice([100, 300, 1000]),
    )
    seeds, spread = draw.choice([1, 2, 3, 3]), np.exp(draw.uniform(np.log(0.04), np.log(0.4)))
    size = np.array([most // 2**back for back in range(sizes - 1, -1, -1)] + [2 * most], dtype=float)
    ease = draw.normal(0, draw.uniform(2, 5), rows)

    def trained(mean: float, size: float) -> float:
        level = np.linspace(-15, 15, 601)
        shift = level[np.abs((1 / (1 + np.exp(-(level[:, None] + ease)))).mean(1) - mean).argmin()]
        shift += draw.normal(0, spread * (most / size) ** 0.25)
        return float((draw.random(rows) < 1 / (1 + np.exp(-(shift + ease)))).mean())

    truth = shape(draw, size)
    points = [
        Point(int(one), seed, trained(mean, one))
        for one, mean in zip(size[:-1], truth[:-1], strict=True)
        for seed in range(seeds)
    ]
    return forecast(points, int(rows), draws=600), trained(truth[-1], size[-1])


def test_nine_of_ten_trainings_land_in_the_interval() -> None:
    draw, held, widths = np.random.default_rng(5), {}, {}
    for shape in SHAPES:
        found = [world(draw, shape) for _ in range(WORLDS)]
        held[shape.__name__] = np.mean([one.low - 1e-9 <= real <= one.high + 1e-9 for one, real in found])
        widths[shape.__name__] = np.mean([one.high - one.low for one, _ in found])
    assert 0.85 <= np.mean([*held.values()]) <= 0.98, held
    assert min(held[name] for name in ("power", "saturating", "logarithmic", "plateau")) >= 0.83, held
    assert held["jump"] >= 0.6, held  # a step behind what was measured cannot be foreseen
    assert np.mean([*widths.values()]) < 0.25, widths


def points(*scores: tuple[float, ...]) -> list[Point]:
    sizes = [50 * 2**at for at in range(len(scores))]
    return [
        Point(size, seed, score)
        for size, of in zip(sizes, scores, strict=True)
        for seed, score in enumerate(of)
    ]


def test_a_steady_rise_goes_on_and_a_flat_curve_proves_nothing() -> None:
    rising = forecast(points((0.5, 0.51), (0.6, 0.59), (0.69, 0.7), (0.79, 0.8)), 1000)
    assert rising.size == 400 and rising.target == 800 and 0.03 < rising.gain < 0.13
    assert rising.gain_low > 0 and rising.words.startswith("Doubling the 400 rows would bring about +")
    flat = forecast(points((0.8, 0.81), (0.8, 0.79), (0.81, 0.8), (0.8, 0.8)), 1000)
    assert verdict(flat.to_json()) == NOT_PROVEN and "not proven" in flat.words and abs(flat.gain) < 0.03
    assert flat.high - flat.low < rising.high - rising.low + 0.1


def test_the_forecast_stays_a_score_and_is_the_same_again() -> None:
    top = points((0.9, 0.93), (0.97, 0.96), (0.99, 0.98), (1.0, 1.0))
    found = forecast(top, 100)
    assert 0.95 < found.low <= found.score <= found.high <= 1 and found.now <= 1
    assert all(0 <= one.low <= one.score <= one.high <= 1 for one in found.band)
    assert forecast(top[::-1], 100).to_json() == found.to_json()


def test_more_seeds_narrow_the_mean_and_not_the_chance_of_one_training() -> None:
    draw = np.random.default_rng(2)
    means = (0.6, 0.68, 0.74, 0.79)
    few, many = (
        forecast(points(*[tuple(mean + 0.02 * draw.standard_normal(seeds)) for mean in means]), 300)
        for seeds in (2, 20)
    )
    assert many.mean_high - many.mean_low < few.mean_high - few.mean_low
    assert many.spread == pytest.approx(0.02, rel=0.35)
    assert many.high - many.low > 2 * 1.6 * 0.012


def test_too_little_is_said_to_be_too_little() -> None:
    one = forecast([Point(40, 1, 0.7)], 30)
    assert len(one.warnings) == 3 and one.high - one.low > 0.2
    assert not forecast(points((0.5, 0.5), (0.6, 0.6), (0.7, 0.7)), 200).warnings
    with pytest.raises(ValueError, match="at least one"):
        forecast([], 10)


@pytest.mark.parametrize("score", [0.0, 0.7, 1.0])
def test_one_size_proves_nothing_whatever_its_score(score: float) -> None:
    found = forecast([Point(40, seed, score) for seed in range(3)], 500)
    assert verdict(found.to_json()) == NOT_PROVEN
    assert found.words == "One size alone does not tell what doubling the 40 rows would bring."
