"""Labels that would profit from more rows are found, and none is named where nothing stands out."""

from __future__ import annotations

import numpy as np

from finetooth.analysis.label_gains import GroupGain, Measured, gain_words, group_gains

LABELS = [f"label {at}" for at in range(6)]


def trainings(
    seed: int, start: np.ndarray, power: np.ndarray, share: np.ndarray
) -> tuple[list[Measured], np.ndarray]:
    """Two trainings of each of four sizes, and the true gain of doubling each label's rows, in points."""
    draw, found = np.random.default_rng(seed), []
    validation = np.maximum(6, (share * 300).astype(int))

    def error(rows: np.ndarray) -> np.ndarray:
        falls = (1 + rows) ** -power if power[0] else 1 - 0.1 * np.log2(1 + rows)  # 0: as the logarithm
        return np.clip(start * falls, 0, 0.97)

    for size in (20, 40, 80, 160):
        for _ in range(2):
            rows = draw.multinomial(size, share)
            wrong = np.clip(error(rows) + draw.normal(0, 0.03, len(rows)), 0.005, 0.99)
            scores = {
                label: list((draw.random(count) > one).astype(float))
                for label, count, one in zip(LABELS, validation, wrong, strict=True)
            }
            found.append(Measured(size, dict(zip(LABELS, map(int, rows), strict=True)), scores))
    last = 160 * share
    return found, (error(last) - error(2 * last)) * validation / validation.sum()


def test_intervals_hold_the_true_gain() -> None:
    """Of power laws, and of curves that go on rising with the logarithm of the rows."""
    held: dict[bool, list[bool]] = {True: [], False: []}
    for seed in range(25):
        for steady, of in held.items():
            draw = np.random.default_rng(100 + seed)
            share = draw.dirichlet(np.full(6, 4.0))
            power = np.full(6, 0.0 if steady else draw.uniform(0.15, 0.4))
            measured, true = trainings(seed, draw.uniform(0.5, 1.0, 6), power, share)
            of += [one.low <= true[LABELS.index(one.group)] <= one.high for one in group_gains(measured)]
    assert min(np.mean(of) for of in held.values()) >= 0.85, [np.mean(of) for of in held.values()]
    assert np.mean([*held[True], *held[False]]) <= 0.99


def test_a_hard_label_that_learns_stands_out_and_equal_labels_do_not() -> None:
    first, named_alike = [], 0
    for seed in range(12):
        start, power, share = np.full(6, 0.4), np.full(6, 0.3), np.full(6, 0.14)
        alike, _ = trainings(seed, start, power, np.full(6, 1 / 6))
        named_alike += any(one.stands_out for one in group_gains(alike))
        start[2], share[2] = 2.0, 0.3
        hard, true = trainings(seed, start, power, share)
        assert true.argmax() == 2
        first.append(group_gains(hard)[0])
    assert sum(one.group == "label 2" for one in first) >= 11
    assert sum(one.group == "label 2" and one.stands_out for one in first) >= 8
    assert named_alike <= 2


def test_what_cannot_be_told_is_left_out() -> None:
    scores = {"a": [1.0] * 6, "b": [0.0] * 6, "rare": [0.0]}
    same = [Measured(20, {"a": 10, "b": 10}, scores)] * 3
    assert group_gains(same) == []
    found = group_gains([Measured(20, {"a": 10, "b": 10}, scores), Measured(40, {"a": 20, "b": 20}, scores)])
    assert {one.group for one in found} == {"a", "b"} and not any(one.stands_out for one in found)
    assert gain_words(found, "label").startswith("Nothing stands out: no label")
    assert gain_words([], "label") == ""
    best = GroupGain("b", 20, 30, 0.5, 0.031, 0.008, 0.055, True)
    assert (
        "for b: doubling its 20 rows would bring about +3.1 points (90% interval +0.8 to +5.5)"
        in gain_words([best], "label")
    )
