"""The statistics against published numbers, exact enumeration and simulation."""

import numpy as np
import pytest
from scipy import stats

from finetooth.errors import GradeError
from finetooth.evaluation.resampling import sign_flip
from finetooth.evaluation.statistics import (
    compare,
    mean_interval,
    midp_mcnemar,
    minimum_detectable_effect,
    tango,
    wilson,
)


def values(gained: int, lost: int, both: int, neither: int) -> tuple[list[int], list[int]]:
    baseline = [0] * gained + [1] * lost + [1] * both + [0] * neither
    candidate = [1] * gained + [0] * lost + [1] * both + [0] * neither
    return baseline, candidate


# Newcombe 1998, Stat. Med. 17:857, table I, method 3
@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_intervals(k: int, n: int, low: float, high: float) -> None:
    assert wilson(k, n) == pytest.approx((low, high), abs=5e-5)
    assert wilson(n - k, n) == pytest.approx((1 - high, 1 - low), abs=5e-5)


@pytest.mark.parametrize("n", [50, 100, 500])
def test_wilson_covers_by_exact_enumeration(n: int) -> None:
    bounds = np.array([wilson(k, n) for k in range(n + 1)])
    rates = np.linspace(0.05, 0.95, 91)
    inside = (bounds[:, :1] <= rates) & (rates <= bounds[:, 1:])
    coverage = (stats.binom.pmf(np.arange(n + 1)[:, None], n, rates) * inside).sum(0)
    assert coverage.min() >= 0.925
    assert coverage.mean() == pytest.approx(0.95, abs=0.006)
    assert coverage.max() <= 0.985


def test_midp_is_the_exact_test_less_half_of_the_observed_table() -> None:
    # Fagerland, Lydersen, Laake 2013, BMC Med. Res. Methodol. 13:91: airway data, 1 and 7 discordant pairs
    assert midp_mcnemar(1, 7) == pytest.approx(0.0391, abs=5e-5)
    assert midp_mcnemar(7, 1) == midp_mcnemar(1, 7)
    assert midp_mcnemar(59, 6) == pytest.approx(
        stats.binomtest(6, 65).pvalue - stats.binom.pmf(6, 65, 0.5), rel=1e-9
    )
    assert midp_mcnemar(0, 0) == 1.0
    assert midp_mcnemar(5, 5) == 1.0


def test_tango_limits_solve_his_score_equation() -> None:
    for b, c, n in [(1, 0, 44), (7, 1, 21), (12, 2, 14), (0, 0, 30), (53, 16, 1_000), (3, 40, 100)]:
        for bound in tango(b, c, n):
            assert abs(reference_score(b, c, n, bound)) == pytest.approx(1.959964, abs=1e-3)
        low, high = tango(b, c, n)
        assert low < (b - c) / n < high
        assert tango(c, b, n) == pytest.approx((-high, -low), abs=1e-9)


def reference_score(b: int, c: int, n: int, delta: float) -> float:
    """Tango's statistic with the restricted likelihood maximised numerically instead of by his formula."""
    lost = np.linspace(max(0, -delta), (1 - delta) / 2, 200_001)[1:-1]
    gained = lost + delta
    same = np.maximum(1 - gained - lost, 1e-300)
    likelihood = (n - b - c) * np.log(same)
    likelihood = likelihood + (b * np.log(gained) if b else 0) + (c * np.log(lost) if c else 0)
    best = lost[np.argmax(likelihood)]
    return (b - c - n * delta) / np.sqrt(n * (2 * best + delta * (1 - delta)))


def test_tango_gives_the_published_interval() -> None:
    # Fagerland et al. 2014, Stat. Med. 33:2850, table IV: 1 and 7 discordant among 21 pairs
    assert tango(1, 7, 21) == pytest.approx((-0.517, -0.026), abs=1e-3)


def test_tango_survives_every_table_of_small_tests() -> None:
    for n in (1, 2, 3, 7):
        for b in range(n + 1):
            for c in range(n + 1 - b):
                low, high = tango(b, c, n)
                assert -1 <= low <= (b - c) / n <= high <= 1
    assert tango(30, 0, 30)[1] == 1.0
    assert tango(0, 30, 30)[0] == -1.0
    zero = 1.959964**2 / (30 + 1.959964**2)  # both limits have a closed form when nothing is discordant
    assert tango(0, 0, 30) == pytest.approx((-zero, zero), abs=1e-6)


@pytest.mark.parametrize("n", [30, 100, 300])
@pytest.mark.parametrize(("gained", "lost"), [(0.05, 0.05), (0.15, 0.05), (0.2, 0.2)])
def test_tango_covers_and_midp_keeps_its_level(n: int, gained: float, lost: float) -> None:
    random = np.random.default_rng(n)
    drawn = random.multinomial(n, [gained, lost, 1 - gained - lost], 4_000)
    tables, counts = np.unique(drawn[:, :2], axis=0, return_counts=True)
    bounds = np.array([tango(int(b), int(c), n) for b, c in tables])
    covered = (bounds[:, 0] <= gained - lost + 1e-12) & (gained - lost - 1e-12 <= bounds[:, 1])
    assert 0.935 <= (covered * counts).sum() / 4_000 <= 0.99
    if gained == lost:
        rejected = np.array([midp_mcnemar(int(b), int(c)) < 0.05 for b, c in tables])
        assert (rejected * counts).sum() / 4_000 <= 0.06


@pytest.mark.parametrize(("n", "points"), [(100, 12.1), (200, 8.7), (500, 5.6), (1_000, 3.9), (2_000, 2.8)])
def test_smallest_gain_at_a_fifth_discordant(n: int, points: float) -> None:
    assert minimum_detectable_effect(n, 0.2) * 100 == pytest.approx(points, abs=0.06)


@pytest.mark.parametrize("n", [100, 500])
def test_smallest_gain_is_found_four_times_in_five(n: int) -> None:
    discordant = 0.2
    gain = minimum_detectable_effect(n, discordant)
    rates = [(discordant + gain) / 2, (discordant - gain) / 2, 1 - discordant]
    drawn = np.random.default_rng(1).multinomial(n, rates, 4_000)[:, :2]
    tables, counts = np.unique(drawn, axis=0, return_counts=True)
    found = np.array([midp_mcnemar(int(b), int(c)) < 0.05 for b, c in tables])
    assert (found * counts).sum() / 4_000 == pytest.approx(0.8, abs=0.03)


def test_smallest_gain_of_tiny_and_quiet_tests() -> None:
    assert 0.85 < minimum_detectable_effect(1, 0.0) < 1
    assert 0.1 < minimum_detectable_effect(50, 0.0) < 0.2  # never 0: a gain needs rows that disagree


def test_ten_points_on_five_hundred_rows_are_found() -> None:
    drawn = np.random.default_rng(2).multinomial(500, [0.15, 0.05, 0.8], 500)
    verdicts = [compare(*values(b, c, same, 0)).verdict for b, c, same in drawn]
    assert verdicts.count("better") >= 0.95 * 500
    assert "worse" not in verdicts


def test_the_verdict_has_three_values_and_few_rows_prove_nothing() -> None:
    assert compare(*values(29, 0, 0, 0)).verdict == "not proven"
    assert compare(*values(30, 0, 0, 0)).verdict == "better"
    assert compare(*values(0, 30, 0, 0)).verdict == "worse"
    tie = compare(*values(5, 4, 100, 91))
    assert tie.verdict == "not proven"
    assert 0.03 < tie.mde < 0.06
    assert (tie.n, tie.gained, tie.lost, tie.difference) == (200, 5, 4, 0.005)


def test_no_verdict_contradicts_its_interval() -> None:
    for b in range(41):
        for c in range(41 - b):
            result = compare(*values(b, c, 40 - b - c, 0))
            assert (result.verdict == "better") == (result.p < 0.05 and result.low > 0)
            assert (result.verdict == "worse") == (result.p < 0.05 and result.high < 0)


def test_zero_rows_and_unequal_rows_are_refused() -> None:
    with pytest.raises(GradeError, match="zero rows"):
        compare([], [])
    with pytest.raises(GradeError, match="2 and 1 rows"):
        compare([1, 0], [1])
    with pytest.raises(GradeError, match="not a number"):
        compare([1, float("nan")], [1, 0])
    with pytest.raises(GradeError, match="zero rows"):
        wilson(0, 0)
    with pytest.raises(GradeError, match="zero rows"):
        mean_interval([])


def test_graded_values_use_the_permutation_test() -> None:
    random = np.random.default_rng(0)
    base = random.uniform(0, 0.5, 200)
    same = compare(base, np.clip(base + random.normal(0, 0.1, 200), 0, 1))
    better = compare(base, base + random.uniform(0, 0.2, 200))
    assert same.verdict == "not proven"
    assert better.verdict == "better"
    assert better.low < 0.1 < better.high


def test_sign_flip_agrees_with_all_flips_enumerated() -> None:
    difference = np.array([0.3, -0.1, 0.25, 0.4, -0.05, 0.2, 0.15, 0.1])
    flips = np.array(np.meshgrid(*[[-1, 1]] * 8)).reshape(8, -1).T
    exact = (np.abs(flips @ difference) >= abs(difference.sum()) - 1e-12).mean()
    assert sign_flip(difference) == pytest.approx(exact, abs=0.01)
    assert sign_flip(difference) == sign_flip(difference)


def test_sign_flip_keeps_its_level_under_the_null() -> None:
    random = np.random.default_rng(3)
    rejected = [sign_flip(random.normal(0, 1, 40), seed) < 0.05 for seed in range(300)]
    assert np.mean(rejected) <= 0.08


def test_mean_interval_of_few_graded_values_is_students() -> None:
    scores = [0.2, 0.4, 0.9, 0.5]
    reference = stats.t.interval(0.95, 3, np.mean(scores), stats.sem(scores))
    assert mean_interval(scores) == pytest.approx((max(0, reference[0]), min(1, reference[1])))
    assert mean_interval([1, 0, 1, 1]) == wilson(3, 4)


def test_a_stricter_level_widens_the_interval_and_decides() -> None:
    tables = [
        values(30, 14, 100, 56),
        ([0.2] * 40, [0.2 + (row % 8 > 0) * 0.1 - (row % 8 == 0) * 0.4 for row in range(40)]),
    ]
    for base, other in tables:
        usual, strict = compare(base, other), compare(base, other, alpha=0.01)
        assert usual.p == strict.p
        assert strict.low < usual.low < usual.high < strict.high
        assert strict.mde > usual.mde
        assert (usual.level, strict.level) == (0.95, 0.99)
    assert [compare(*tables[0], alpha=alpha).verdict for alpha in (0.05, 0.01)] == ["better", "not proven"]
