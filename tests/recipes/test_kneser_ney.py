"""The n-gram model that milktooth is measured against, beside one with dictionaries from the paper."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
from scripts_for_tests import load_script

pytestmark = pytest.mark.full
kneser_ney = load_script("recipes/milktooth/kneser_ney.py")
VOCABULARY = 9


def rows(seed: int, count: int) -> list[list[int]]:
    """Rows of a Markov chain over 1..8, so that contexts matter."""
    rng = np.random.default_rng(seed)
    chain = np.random.default_rng(7).dirichlet([0.3] * (VOCABULARY - 1), size=(VOCABULARY, VOCABULARY))
    found = []
    for _ in range(count):
        row = [0, int(rng.integers(1, VOCABULARY))]
        for _ in range(int(rng.integers(0, 12))):
            row.append(1 + int(rng.choice(VOCABULARY - 1, p=chain[row[-2], row[-1]])))
        found.append(row)
    return found


class Paper:
    """Interpolated modified Kneser-Ney with dictionaries, order by order."""

    def __init__(self, text: list[list[int]], order: int) -> None:
        raw: dict[int, Counter[tuple[int, ...]]] = defaultdict(Counter)
        before: dict[tuple[int, ...], set[int]] = defaultdict(set)
        for row in text:
            for size in range(1, order + 1):
                for start in range(len(row) - size + 1):
                    gram = tuple(row[start : start + size])
                    raw[size][gram] += 1
                    if start:
                        before[gram].add(row[start - 1])
        self.counts = dict(raw)
        for size in range(1, order):
            self.counts[size] = Counter({g: len(before[g]) or c for g, c in raw[size].items() if g != (0,)})
        self.order = order

    def off(self, size: int, count: int) -> float:
        n = Counter(self.counts[size].values())
        if not all(n[times] for times in (1, 2, 3, 4)):
            return min(count, 3) / 2
        ratio = n[1] / (n[1] + 2 * n[2])
        k = min(count, 3)
        return k - (k + 1) * ratio * n[k + 1] / n[k] if k else 0.0

    def chance(self, context: tuple[int, ...], word: int) -> float:
        shorter = self.chance(context[1:], word) if context else 1 / (VOCABULARY - 1)
        size = len(context) + 1
        follow = {g[-1]: c for g, c in self.counts[size].items() if g[:-1] == context}
        total = sum(follow.values())
        if not total:
            return shorter
        count = follow.get(word, 0)
        left = sum(self.off(size, c) for c in follow.values())
        return (count - self.off(size, count) + left * shorter) / total


@pytest.mark.parametrize("order", [2, 3, 4])
def test_equals_the_formula_and_sums_to_one(order: int) -> None:
    text, asked = rows(1, 150), rows(2, 15)
    model = kneser_ney.KneserNey(np.concatenate([np.array(row) for row in text]), VOCABULARY, order)
    paper = Paper(text, order)
    for row in asked:
        ours = model.probabilities(np.array(row))
        for place in range(1, len(row)):
            context = tuple(row[max(0, place - order + 1) : place])
            assert ours[place] == pytest.approx(paper.chance(context, row[place]), rel=1e-12)
        everything = [model.probabilities(np.array([*row, word]))[-1] for word in range(1, VOCABULARY)]
        assert sum(everything) == pytest.approx(1.0, abs=1e-12)


def test_rows_do_not_see_each_other() -> None:
    text = rows(1, 150)
    model = kneser_ney.KneserNey(np.concatenate([np.array(row) for row in text]), VOCABULARY, 3)
    one, two = np.array([0, 3, 4, 5]), np.array([0, 6, 1])
    both = model.probabilities(np.concatenate([one, two]))
    assert both.tolist() == [*model.probabilities(one), *model.probabilities(two)]
