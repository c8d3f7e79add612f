"""Rates by group: a planted difference is found, chance is not, and the interval holds what was planted."""

from __future__ import annotations

import random

import pytest
from label_rows import row, view
from scipy import stats

from finetooth.quality.findings import View
from finetooth.quality.rules.answer_rates import _adjusted, _p, answer_rates

NAMES = ("north", "south", "west")


def rows(rates: tuple[float, ...], count: int = 900, seed: int = 0, column: str = "region") -> View:
    """Rows of as many groups as rates, in each of which so many are accepted."""
    rng = random.Random(seed)
    made = []
    for at in range(count):
        group = at % len(rates)
        answer = "accept" if rng.random() < rates[group] else rng.choice(["reject", "ask"])
        made.append(row(f"text {at}", answer, at, **{column: NAMES[group]}))
    return view(made)


def test_a_planted_difference_is_found() -> None:
    (finding,) = answer_rates(rows((0.6, 0.6, 0.3)), "region")
    assert finding.severity == "review" and "'accept'" in finding.summary
    for name, planted in zip(NAMES, (0.6, 0.6, 0.3), strict=True):
        cell = finding.facts["rates"]["accept"][name]
        assert cell["rows"] == 300 and cell["low"] <= planted <= cell["high"]


def test_equal_groups_are_said_to_be_equal() -> None:
    """At a false discovery rate of 5% about one set in 20 is called different."""
    severities = [
        next(answer_rates(rows((0.5, 0.5, 0.5), 300, seed), "region")).severity for seed in range(60)
    ]
    assert severities.count("review") <= 7


def test_without_a_column_nothing_is_said() -> None:
    assert not list(answer_rates(rows((0.5, 0.2))))
    assert not list(answer_rates(rows((0.5, 0.2)), "nowhere"))


def test_the_group_column_of_the_split_is_known_by_its_name() -> None:
    looked = rows((0.8, 0.2), column="group")
    named = View(looked.sides, "labels", looked.config.model_copy(update={"group": "customer"}))
    (finding,) = answer_rates(named, "customer")
    assert finding.severity == "review" and finding.facts["column"] == "customer"


def test_p_is_that_of_scipy() -> None:
    cells = [(30, 100), (45, 100), (20, 80)]
    table = [[k for k, _ in cells], [n - k for k, n in cells]]
    assert _p(cells) == pytest.approx(stats.chi2_contingency(table, correction=False).pvalue)
    p = [0.01, 0.2, 0.03, 0.9, 0.02]
    assert _adjusted(p) == pytest.approx(list(stats.false_discovery_control(p)))


def test_p_of_few_rows_is_by_permutation() -> None:
    """Fisher's exact test gives .0325 for this table."""
    cells = [(6, 10), (1, 11)]
    exact = stats.fisher_exact([[6, 4], [1, 10]]).pvalue
    assert _p(cells) == pytest.approx(exact, abs=0.02)
    assert _p([(0, 10), (0, 10)]) == 1.0
