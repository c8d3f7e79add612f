"""The advice on a base model, and the chart of quality against cost."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from finetooth.evaluation.bits_per_byte import per_byte
from finetooth.report.base_ranking import BaseRanking, BaseResult, advise
from finetooth.report.cost_chart import LINE, CostPoint, cost_chart

ROWS = 40
BYTES = np.full(ROWS, 10.0)
NOISE = np.random.default_rng(0).normal(0, 1.0, ROWS)


def result(name: str, bits: float, seconds: float = 1.0, fits: bool = True, own: float = 0.1) -> BaseResult:
    """A candidate that needs so many bits per byte; `own`: how much it differs from row to row."""
    noise = np.random.default_rng(len(name)).normal(0, own, ROWS)
    bits_R = 10 * bits + NOISE + noise - noise.mean()
    score = {"score": 0.5, "low": 0.35, "high": 0.65, "errors": 0}
    found = per_byte(bits_R, BYTES)
    return BaseResult(name, found, score, ROWS, seconds, 10, 1 << 30, fits, 2048, "MIT", [], bits_R)


def entry(name: str, score: float, low: float, high: float) -> dict[str, Any]:
    return {"name": name, "score": score, "low": low, "high": high}


def advice(*results: BaseResult) -> tuple[str | None, str]:
    return advise(sorted(results, key=lambda one: one.bits.value), BYTES, None)


def test_the_fewest_bits_win_where_that_is_proven() -> None:
    chosen, words = advice(result("small", 2.0, 0.1), result("large", 1.0, 3.0))
    assert chosen == "large" and "Start from large: it needs the fewest bits per byte" in words
    assert "The next, small, needs 1.00 (95% confidence interval 0.9" in words


def test_the_faster_of_two_that_are_not_proven_different() -> None:
    chosen, words = advice(result("small", 1.01, 0.5, own=3.0), result("large", 1.0, 1.5, own=3.0))
    assert chosen == "small" and "takes 3.0 times as long" in words and "not proven" in words


def test_what_does_not_fit_is_not_advised() -> None:
    chosen, words = advice(result("small", 2.0), result("large", 1.0, fits=False))
    assert chosen == "small" and "large needs fewer, but its training does not fit" in words
    chosen, words = advice(result("large", 1.0, fits=False))
    assert chosen is None and "none of these fits" in words
    assert advice() == (None, "No candidate could be measured.")


def test_a_far_larger_model_behind_the_advised_one_is_named() -> None:
    small, large = result("small", 1.0), replace(result("large", 2.0), parameters=1000)
    chosen, words = advice(small, large)
    assert chosen == "small" and words.startswith("Before training, the best is small: ")
    assert "But large, far larger, may learn more in training" in words
    assert "may learn more" not in advice(replace(small, parameters=1000), large)[1]


def test_the_embedded_model_is_advised_only_where_there_is_no_other() -> None:
    """It needs fewer bits of short labels before training, and learns far less."""
    chosen, words = advice(result("milktooth", 1.0), result("large", 2.0, 3.0))
    assert chosen == "large" and words.startswith("Start from large: ")
    assert words.endswith("milktooth needs fewer before training, but is too small to learn much.")
    assert advice(result("milktooth", 1.0), result("large", 2.0, fits=False))[0] == "milktooth"


@pytest.mark.parametrize(
    ("words", "most", "said"),
    [
        ((0.97, 0.92, 0.99), 0.5, "does most of this task already"),
        ((0.7, 0.6, 0.8), 0.5, "a tuned model has to beat that"),
        ((0.55, 0.45, 0.65), 0.5, "not proven better than always the most frequent label (50.0%)"),
    ],
)
def test_whether_a_bag_of_words_does_it(words: tuple[float, ...], most: float, said: str) -> None:
    baselines = [entry("majority", most, 0.4, 0.6), entry("bag-of-words", *words)]
    ranking = BaseRanking("t", "t.csv", "label", {"validation": 40}, [], [], {}, baselines, 90, "lora")
    assert said in ranking.baseline_words and "fitted to 90 training rows" in ranking.baseline_words


def test_names_in_the_chart_do_not_cover_each_other() -> None:
    points = [CostPoint(f"model {at}", 1.0 + at / 100, 0.5, 0.4, 0.6, at == 0) for at in range(5)]
    chart = str(cost_chart(points, "bits per byte", ("bag of words", 0.9)))
    heights = [float(y) for y in re.findall(r'<text class="name" x="[\d.]+" y="([\d.]+)"', chart)]
    assert len(heights) == 5
    assert all(abs(one - other) >= LINE for at, one in enumerate(heights) for other in heights[:at])
    assert chart.count('<g class="chosen">') == 1 and "bag of words" in chart


def test_a_chart_of_one_model_and_no_interval() -> None:
    chart = str(cost_chart([CostPoint("<b>", 0.2, 1.0, 1.0, 1.0, True)], "bits per byte"))
    assert "nan" not in chart and "<b>" not in chart and "&lt;b&gt;" in chart
