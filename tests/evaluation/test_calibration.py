"""Calibrated confidence: the temperature, its measures by their definitions, and the threshold by costs."""

import math

import numpy as np
import pytest
from scipy import special

from finetooth.evaluation.calibration import (
    MIN_ROWS,
    Calibration,
    Decisions,
    cheapest_threshold,
    decide,
    ece,
    fit,
    measure,
)

LABELS = "abcd"


def decisions(rows: int, temperature: float, seed: int = 0) -> Decisions:
    """Rows of which labels are drawn from the softmax at a temperature: the right one is that."""
    random = np.random.default_rng(seed)
    logit_RL = random.normal(0, 3, (rows, len(LABELS)))
    share_RL = special.softmax(logit_RL / temperature, axis=1)
    want_R = np.array([random.choice(len(LABELS), p=share_L) for share_L in share_RL])
    return Decisions(logit_RL, want_R, logit_RL.argmax(axis=1) == want_R)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_that_the_labels_were_drawn_at_is_found(temperature: float) -> None:
    drawn = decisions(800, temperature)
    calibration = fit(drawn)
    assert calibration.temperature == pytest.approx(temperature, rel=0.15)
    assert (calibration.rows, calibration.reason, calibration.threshold) == (800, "", None)
    grid = [drawn.nll(each) for each in np.geomspace(0.1, 10, 200)]
    assert drawn.nll(calibration.temperature) <= min(grid) + 1e-3  # 800 rows leave the prior little to say
    new = decisions(800, temperature, seed=1)
    found = measure(new, calibration)
    assert found["after"]["ece"] <= max(0.5 * found["before"]["ece"], 0.02, 1.3 * found["chance"])


def test_the_measures_are_their_definitions() -> None:
    drawn = decisions(400, 2.0)
    share_RL = special.softmax(drawn.logp_RL / 1.3, axis=1)
    assert drawn.confidence_R(1.3) == pytest.approx(share_RL.max(1))
    assert drawn.brier_R(1.3) == pytest.approx(((share_RL - np.eye(4)[drawn.want_R]) ** 2).sum(1))
    assert drawn.nll(1.3) == pytest.approx(-np.log(share_RL[range(400), drawn.want_R]).mean())
    right_R = drawn.right_R.astype(float)
    confidence_R = drawn.confidence_R(1.3)
    order = np.argsort(confidence_R)
    by_hand = sum(
        40 / 400 * abs(confidence_R[rows].mean() - right_R[rows].mean()) for rows in np.split(order, 10)
    )
    assert ece(confidence_R, right_R) == pytest.approx(by_hand)
    found = measure(drawn, Calibration(1.3))
    assert found["after"]["ece"] == pytest.approx(by_hand) and found["before"]["ece"] != found["after"]["ece"]
    for scores in (found["before"], found["after"]):
        assert scores["brier_low"] < scores["brier"] < scores["brier_high"]
        assert scores["ece_low"] < scores["ece_high"]
    assert sum(one["n"] for one in found["bins"]) == 400 and len(found["bins"]) == 10
    assert found["curve"][-1]["coverage"] == 1 and found["curve"][-1]["accuracy"] == right_R.mean()
    assert [point["threshold"] for point in found["curve"]] == sorted(
        (point["threshold"] for point in found["curve"]), reverse=True
    )


def test_a_label_that_is_none_of_the_options_counts_as_wrong_and_is_not_fitted_on() -> None:
    logprobs = [dict(zip(LABELS, logp_L, strict=True)) for logp_L in decisions(200, 1.0).logp_RL.tolist()]
    odd = Decisions.of(logprobs, ["new", *"abcd" * 49, *"abc"], [False, *[True, False] * 99, True])
    assert odd.want_R.tolist()[:5] == [-1, 0, 1, 2, 3]
    assert fit(odd).rows == 199 and math.isfinite(odd.nll(1.0))
    assert odd.brier_R(1.0)[0] == pytest.approx((special.softmax(odd.logp_RL[0]) ** 2).sum() + 1)


def test_too_few_rows_keep_a_temperature_of_1_and_say_why() -> None:
    few = fit(decisions(MIN_ROWS - 1, 3.0))
    assert few.temperature == 1 and few.reason == "19 validation rows are too few to fit it, which takes 20"
    assert fit(decisions(MIN_ROWS, 3.0)).reason == ""


@pytest.mark.parametrize("temperature", [1.0, 1.8])
def test_few_rows_make_the_confidence_better_and_never_much_worse(temperature: float) -> None:
    """The mean over 30 draws of 25 rows; by the likelihood alone it is 0.018 and 0.013 off."""
    new = decisions(4_000, temperature, seed=99)
    found = [new.nll(fit(decisions(25, temperature, seed)).temperature) for seed in range(30)]
    best, untouched = new.nll(temperature), new.nll(1.0)
    assert np.mean(found) - best < 0.012
    assert temperature == 1.0 or np.mean(found) - best < 0.15 * (untouched - best)


def test_answers_that_are_nearly_all_right_decide_no_temperature_by_themselves() -> None:
    logp_RL = decisions(100, 3.0).logp_RL
    for wrong in (0, 3):
        want_R = logp_RL.argmax(axis=1)
        want_R[:wrong] = logp_RL[:wrong].argmin(axis=1)
        sure = Decisions(logp_RL, want_R, np.arange(100) >= wrong)
        assert 0.2 < fit(sure).temperature < 3  # of no wrong answer the likelihood alone makes 0.05


def test_a_perfect_confidence_has_the_error_of_chance_and_the_interval_covers_it() -> None:
    found = measure(decisions(300, 1.0), Calibration())
    assert 0.01 < found["chance"] < 0.06
    assert found["after"]["ece"] < 2 * found["chance"]
    seen = [measure(decisions(300, 1.0, seed), Calibration())["after"]["ece"] for seed in range(4)]
    assert np.mean(seen) == pytest.approx(found["chance"], rel=0.35)


def test_no_threshold_is_cheaper_where_the_confidence_holds() -> None:
    """Against a search on 200 validation rows, whose threshold follows their noise."""
    new = decisions(20_000, 1.0, seed=9)
    confidence_R, wrong_R = new.confidence_R(1.0), ~new.right_R

    def cost(threshold: float, confidence_R: np.ndarray, wrong_R: np.ndarray) -> float:
        alone_R = confidence_R >= threshold
        return float(np.where(alone_R, 4.0 * wrong_R, 1.0).mean())

    grid = np.arange(0, 1.01, 0.02)
    best = cost(cheapest_threshold(4.0, 1.0), confidence_R, wrong_R)
    assert best < min(cost(each, confidence_R, wrong_R) for each in grid) + 0.002
    searched = []
    for seed in range(20):
        few = decisions(200, 1.0, seed)
        known = few.confidence_R(1.0), ~few.right_R
        searched.append(cost(min(grid, key=lambda each: cost(each, *known)), confidence_R, wrong_R))
    assert np.mean(searched) > best
    assert cheapest_threshold(1.0, 5.0) == 0 == cheapest_threshold(0.0, 0.0)  # a wrong answer is cheaper
    assert fit(decisions(20, 1.0), 5.0, 1.0).threshold == pytest.approx(0.8)


def test_the_decision_is_confirmed_on_other_rows() -> None:
    calibration = fit(decisions(800, 1.5), 4.0, 1.0)
    new = decisions(2_000, 1.5, seed=5)
    found = decide(new, calibration, 4.0, 1.0)
    alone_R = new.confidence_R(calibration.temperature) >= found["threshold"]
    right_R = new.right_R
    assert found["answered"] == alone_R.sum() and found["correct"] == right_R[alone_R].sum()
    assert found["accuracy"]["value"] > right_R.mean() + 0.05
    cost_R = np.where(alone_R, 4.0 * ~right_R, 1.0)
    assert found["cost"]["value"] == pytest.approx(cost_R.mean())
    assert found["cost"]["low"] < cost_R.mean() < found["cost"]["high"]
    cheaper = min(4 * (~right_R).mean(), 1.0)
    assert found["saving"]["value"] == pytest.approx(cheaper - cost_R.mean()) and found["saving"]["low"] > 0
    none = decide(new, Calibration(threshold=1.01), 4.0, 1.0)
    assert none["accuracy"]["value"] is None and none["saving"]["value"] == 0
