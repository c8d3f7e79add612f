"""The choice of a share: only what keeps general ability, and no more false claims than one test makes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from finetooth.evaluation.retention import PanelScores, read_panel, retention
from finetooth.runs.interpolation import Trial, chosen, kept_shares

ITEMS, TEXTS = 120, len(read_panel().texts)
LOOPS = 60


def trial(share: float, verdict: str, score: float | None) -> Trial:
    return Trial(share, {"verdict": verdict}, score)


@pytest.mark.parametrize(
    ("scores", "share"),
    [([0.5, 0.7, 0.6], 0.2), ([0.7, 0.7, 0.7], 0.1), ([0.1, 0.2, 0.3], 0.3), ([None] * 3, 0.3)],
)
def test_the_best_score_is_chosen_among_those_that_keep(scores: list[float | None], share: float) -> None:
    trials = [trial(tenths / 10, "kept", score) for tenths, score in zip((1, 2, 3), scores, strict=True)]
    found = chosen([*trials, trial(0.4, "forgotten", 0.9)])
    assert found is not None and found.share == share


def test_nothing_is_chosen_where_nothing_is_kept() -> None:
    assert chosen([trial(0.1, "not proven", 0.9)]) is None


def test_trials_end_with_the_first_failure() -> None:
    verdicts = {0.1: "kept", 0.2: "kept", 0.3: "not proven", 0.4: "kept"}
    found = list(kept_shares(lambda share: {"verdict": verdicts[share]}))
    assert [one.share for one in found] == [0.1, 0.2, 0.3]


@pytest.mark.full
def test_a_share_that_loses_more_than_the_margin_is_seldom_called_kept() -> None:
    """The loss is 10 points, the margin, at a share of .5: larger shares are called kept in at most 2.5%."""
    false = 0
    base = PanelScores(np.full(ITEMS, 0.6), np.full(TEXTS, 400.0))
    for seed in range(LOOPS):
        item_I = np.random.default_rng(seed).normal(-0.2, 0.35, ITEMS)

        def of(share: float, item_I: Any = item_I) -> dict[str, Any]:
            return retention(base, PanelScores(0.6 + share * item_I, base.bits_T), 0.1)

        kept = [one.share for one in kept_shares(of) if one.retention["verdict"] == "kept"]
        false += max(kept, default=0.0) >= 0.5
    assert false <= 5  # 2.5% of 60 is 1.5
