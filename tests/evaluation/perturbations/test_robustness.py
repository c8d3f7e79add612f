"""Numbers of robustness: a planted weakness is found with its examples, and chance is not taken for one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from gate import gate

from finetooth.evaluation.perturbations.kept import Kept, question
from finetooth.evaluation.perturbations.kinds import Perturbed, perturbed
from finetooth.evaluation.perturbations.robustness import (
    TOLERANCE,
    Answer,
    Pair,
    compare_pairs,
    directed,
    out_of_scope,
    probability,
)
from finetooth.evaluation.statistics import compare
from finetooth.types import Answer as Expected
from finetooth.types import Example, Message

WORDS = {"refund": "billing", "parcel": "delivery", "password": "account"}


def row(n: int) -> Example:
    word, label = [*WORDS.items()][n % 3]
    text = f"Hello there, message number {n} concerns the {word} that somebody mentioned yesterday."
    return Example(str(n), (Message("user", text),), (Expected(label),), {"label": label})


def by_word(example: Example) -> Answer:
    """A model that knows its words in small letters alone."""
    text = next((label for word, label in WORDS.items() if word in question(example)), "billing")
    return Answer(text, float(text == example.target))


def pairs_of(kind: str, n: int = 120) -> list[Pair]:
    changed = [(row(at), perturbed(row(at), kind, 1, Kept())) for at in range(n)]
    return [
        Pair(one, other, by_word(one), by_word(other.example), one.id)
        for one, other in changed
        if other is not None
    ]


def test_a_weakness_for_capitals_is_found_with_its_rows() -> None:
    found = compare_pairs("case", pairs_of("case"), 7)
    lost = [pair for pair in pairs_of("case") if pair.after.score == 0]
    assert found["loses"] and found["before"] == 1.0 and found["lost"] == len(lost) > 20
    assert found["difference"] == -len(lost) / 120 and found["low"] < found["difference"] < found["high"] < 0
    assert found["flipped"]["rows"] == len(lost) and found["flipped"]["share"] == len(lost) / 120
    assert all(one["flipped"] and one["answer_after"] == "billing" for one in found["examples"])
    assert found["examples"][0]["after"] == found["examples"][0]["after"].upper()
    spaces = compare_pairs("whitespace", pairs_of("whitespace"), 7)
    assert (spaces["difference"], spaces["flipped"]["rows"], spaces["loses"]) == (0, 0, False)


def test_figures_are_those_of_the_paired_comparison_in_clusters() -> None:
    pairs = [
        Pair(p.row, p.changed, p.before, p.after, f"g{at // 3}") for at, p in enumerate(pairs_of("case"))
    ]
    found = compare_pairs("case", pairs, 1)
    before, after = (
        [one.score or 0.0 for one in side] for side in zip(*((p.before, p.after) for p in pairs), strict=True)
    )
    wanted = compare(before, after, [p.group for p in pairs])
    assert (found["low"], found["high"], found["p"], found["units"]) == (
        wanted.low,
        wanted.high,
        wanted.p,
        40,
    )
    alone = compare_pairs("case", pairs_of("case"), 1)
    assert (
        found["flipped"]["high"] - found["flipped"]["low"]
        != alone["flipped"]["high"] - alone["flipped"]["low"]
    )


def simulated(random: np.random.Generator, loss: float, flips: float = 0.1, n: int = 200) -> list[Pair]:
    before = random.random(n) < 0.8
    after = np.where(random.random(n) < flips, random.random(n) < 0.5 - loss / flips / 2, before)
    one = row(0)
    same = Perturbed(one, ())
    return [
        Pair(one, same, Answer(str(b), float(b)), Answer(str(a), float(a)), str(at))
        for at, (b, a) in enumerate(zip(before, after, strict=True))
    ]


@pytest.mark.parametrize("runs", gate([40, 400], [40]))
def test_a_loss_among_seven_kinds_is_seldom_made_up(runs: int) -> None:
    """No kind loses: any of seven is called a loss in at most 2.5% of runs, plus two standard errors."""
    random = np.random.default_rng(0)
    accused = 0
    for _ in range(runs):
        balanced = [simulated(random, 0.0) for _ in range(7)]
        for pairs in balanced:  # right and wrong answers flip alike
            swap = random.random(len(pairs)) < 0.5
            pairs[:] = [
                Pair(p.row, p.changed, p.after, p.before, p.group) if s else p
                for p, s in zip(pairs, swap, strict=True)
            ]
        accused += any(compare_pairs("typos", pairs, 7)["loses"] for pairs in balanced)
    assert accused <= runs * 0.025 + 2 * math.sqrt(runs * 0.025 * 0.975), accused


def test_rows_that_cannot_be_graded_are_left_out() -> None:
    pairs = pairs_of("case")
    broken = [Pair(p.row, p.changed, p.before, Answer("x", None), p.group) for p in pairs[:5]]
    assert compare_pairs("case", [*broken, *pairs[5:]], 7)["rows"] == len(pairs) - 5
    assert compare_pairs("case", broken, 7)["difference"] is None


def test_a_label_that_gets_less_likely_with_more_evidence_is_counted() -> None:
    def answer(p: float) -> Answer:
        return Answer("billing", 1.0, {"billing": math.log(p), "delivery": math.log(1 - p)})

    one = row(0)
    same = Perturbed(one, ())
    moves = [(0.9, 0.95)] * 30 + [(0.9, 0.9 - TOLERANCE - 0.02)] * 10 + [(0.9, 0.9 - TOLERANCE + 0.02)] * 10
    pairs = [Pair(one, same, answer(b), answer(a), str(at)) for at, (b, a) in enumerate(moves)]
    fell = directed(pairs, 1.0, 1)["fell"]
    assert (fell["rows"], fell["of"], fell["share"]) == (10, 50, 0.2) and fell["low"] < 0.2 < fell["high"]
    assert directed(pairs, 20.0, 1)["fell"]["rows"] == 0  # at this temperature no probability moves so far


def test_probabilities_are_those_at_the_temperature() -> None:
    logp = {"a": math.log(0.5), "b": math.log(0.3), "c": math.log(0.2)}
    assert probability(logp, None, 1.0) == pytest.approx(0.5)
    assert probability(logp, "c", 1.0) == pytest.approx(0.2)
    root = [p**0.5 for p in (0.5, 0.3, 0.2)]
    assert probability(logp, "b", 2.0) == pytest.approx(root[1] / sum(root))
    assert probability(None, None, 1.0) is None and probability(logp, "d", 1.0) is None


def test_rows_out_of_scope_are_counted_below_the_threshold() -> None:
    own = [0.6 + 0.004 * n for n in range(100)]
    found = out_of_scope(own, [0.3] * 6 + [0.99] * 4, 0.7)
    assert (found["handed_over"]["rows"], found["rows"], found["chosen"]) == (6, 10, True)
    assert found["own_handed_over"] == pytest.approx(0.25)
    pairs = [a > b for a in own for b in [0.3] * 6 + [0.99] * 4]
    ties = [a == b for a in own for b in [0.99] * 4]
    assert found["separation"] == pytest.approx((sum(pairs) + sum(ties) / 2) / len(pairs))
    usual = out_of_scope(own, [0.3, 0.99], None)
    assert not usual["chosen"] and np.mean([one >= usual["threshold"] for one in own]) >= 0.9
