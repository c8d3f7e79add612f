"""What is said of a targeted and a random arm: "helped" only where the interval is above 0."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import finetooth as ft
from finetooth.commands import iterate
from finetooth.evaluation.recipes import compare_recipes


def scored(pairs: list[tuple[float, float]], monkeypatch: pytest.MonkeyPatch, **more: Any) -> dict[str, Any]:
    """What is said of these scores (random, targeted) of the rows."""
    examples = {
        f"r{n}": ft.Example(f"r{n}", (ft.Message("user", f"question {n}"),), ()) for n in range(len(pairs))
    }

    def read(path: Path, split: str) -> Any:
        column = ("random", "targeted").index(path.name)
        scores = {f"r{n}": pair[column] for n, pair in enumerate(pairs)}
        seeds = [scores] * more["seeds"] if "seeds" in more else []
        return iterate.paired.RunScores(
            path, {"grader": "label", "split": split}, scores, examples, {}, {}, seeds
        )

    monkeypatch.setattr(iterate.paired, "read_scores", read)
    return iterate.targeting(Path("targeted"), Path("random"), 12, more.get("choosing", {"gone"}))


def test_targeting_helped_only_if_the_interval_is_above_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    gain, same, loss = (0.0, 1.0), (1.0, 1.0), (1.0, 0.0)
    helped = scored([gain] * 20 + [same] * 40, monkeypatch)
    assert helped["verdict"] == "helped" and helped["low"] > 0
    assert helped["words"].startswith("Targeting helped: with the 12 added rows the model scores 100.0%")
    for rows in ([gain] * 5 + [loss] * 4 + [same] * 50, [gain] * 10, [loss] * 20 + [same] * 40):
        found = scored(rows, monkeypatch)
        assert found["verdict"] == "not proven" and found["words"].startswith("Not proven that targeting")
    assert "The rows drawn at random did better." in found["words"]
    recipe = scored([gain] * 20 + [same] * 40, monkeypatch, seeds=3)
    known = compare_recipes([[0.0] * 20 + [1.0] * 40] * 3, [[1.0] * 60] * 3)
    assert (recipe["seeds"], recipe["low"]) == ([3, 3], pytest.approx(known.low)) and recipe[
        "verdict"
    ] == "helped"
    assert scored([gain] * 20 + [same] * 40, monkeypatch, seeds=2)["verdict"] == "not proven"


def test_rows_that_chose_do_not_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gain is on the rows that chose alone: on the others there is none."""
    pairs = [(0.0, 1.0)] * 40 + [(1.0, 1.0)] * 40
    found = scored(pairs, monkeypatch, choosing={f"r{n}" for n in range(40)})
    assert (found["n"], found["difference"], found["verdict"]) == (40, 0, "not proven")
    assert "on 40 validation rows that have chosen none" in found["words"]
    assert "favoured" not in found["words"] and found["chosen_by"] == 40
    favoured = scored(pairs, monkeypatch, choosing=set())
    assert favoured["low"] > 0 and favoured["verdict"] == "not proven" and "favoured" in favoured["words"]
    recipe = scored(pairs, monkeypatch, choosing={f"r{n}" for n in range(40)}, seeds=3)
    assert recipe["n"] == 40 and recipe["difference"] == 0
