"""Clusters of wrong answers: planted ones are recovered, and named by their words and labels."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from time import perf_counter

import numpy as np
import pytest
from gate import gate

from finetooth.analysis.answered import AnsweredRow
from finetooth.analysis.clusters import clusters
from finetooth.types import Answer, Example, Message

COMMON = ["please", "tell", "help", "today", "account", "thanks", "want", "know", "could", "time", "order"]
PLANTED = {  # (wanted, answered) -> words of the questions
    ("refund", "billing"): ["refund", "card", "money"],
    ("login", "password"): ["locked", "screen", "code"],
    ("delivery", "refund"): ["parcel", "courier", "late"],
    ("login", "billing"): ["premium", "plan", "upgrade"],
}


Rows = tuple[list[AnsweredRow], dict[str, int]]


def rows_of(seed: int, wrong: int = 120, right: int = 400, noise: int = 10) -> Rows:
    """Rows with the kind of each wrong one by id; those of `noise` are like nothing else."""
    random = np.random.default_rng(seed)
    rows, kinds = [], {}

    def add(id: str, words: list[str], want: str, got: str) -> None:
        text = " ".join(random.permutation([*words, *random.choice(COMMON, 5)]))
        example = Example(id, (Message("user", text),), (Answer(want),), {"label": want})
        rows.append(AnsweredRow(example, got, float(want == got), got=got, want=want))

    for at in range(wrong):
        kind = int(random.integers(len(PLANTED)))
        (want, got), words = list(PLANTED.items())[kind]
        kinds[f"w{at}"] = kind
        add(f"w{at}", [str(word) for word in random.choice(words, 2, replace=False)], want, got)
    for at in range(right):
        label = str(random.choice(["refund", "billing", "login", "delivery", "password"]))
        add(f"r{at}", [f"{label}s"], label, label)
    for at in range(noise):
        add(f"n{at}", [f"odd{at}", f"rare{at}"], f"want{at}", f"got{at}")
    return rows, kinds


@pytest.mark.parametrize("seed", gate(range(12), range(3)))
def test_planted_clusters_are_recovered(seed: int) -> None:
    rows, kinds = rows_of(seed)
    found = clusters(rows)
    assert 4 <= len(found) <= 6
    pure = placed = 0
    for one in found:
        planted = [kinds[id] for id in one.ids if id in kinds]
        if planted:
            pure += Counter(planted).most_common(1)[0][1]
            placed += len(planted)
    assert pure >= 0.95 * placed and placed >= 0.9 * len(kinds)
    covered = {Counter(kinds.get(id, -1) for id in one.ids).most_common(1)[0][0] for one in found}
    assert covered >= set(range(len(PLANTED)))
    for one in found[:4]:
        want, got = list(PLANTED)[Counter(kinds.get(id, -1) for id in one.ids).most_common(1)[0][0]]
        assert f"answered as {got} (want: {want})" in one.title
        assert set(one.words) <= set(PLANTED[want, got]) and len(one.words) >= 2
        assert one.title.startswith(f'"{one.words[0]}", "{one.words[1]}"')
        assert len(one.typical) == 3 and set(one.typical) <= set(one.ids)


def test_the_same_rows_give_the_same_clusters() -> None:
    assert clusters(rows_of(0)[0]) == clusters(rows_of(0)[0])


def test_typical_rows_ask_different_questions() -> None:
    rows, _ = rows_of(1)
    one = rows[0]
    copies = [
        AnsweredRow(replace(one.example, id=f"c{at}"), one.text, 0.0, got=one.got, want=one.want)
        for at in range(20)
    ]
    by_id = {row.id: row for row in [*rows, *copies]}
    for one in clusters([*rows, *copies]):
        asked = [by_id[id].example.context[0].content for id in one.typical]
        assert len(set(asked)) == len(asked)


def test_few_or_no_wrong_rows() -> None:
    rows, _ = rows_of(2, wrong=0, noise=0)
    assert clusters(rows) == [] and clusters([]) == []
    asked = Example("", (Message("user", "hello"),), (Answer("a"),))
    same = [AnsweredRow(replace(asked, id=str(at)), "b", 0.0) for at in range(9)]
    (one,) = clusters(same)
    assert one.rows == 9 and one.typical == (one.ids[0],)
    nothing = replace(asked, context=(Message("user", ""),), answers=(Answer(""),))
    assert clusters([AnsweredRow(replace(nothing, id=str(at)), "", 0.0) for at in range(9)]) == []


@pytest.mark.full
def test_many_rows_take_seconds() -> None:
    rows, kinds = rows_of(3, wrong=15_000, right=5_000, noise=100)
    started = perf_counter()
    found = clusters(rows)
    assert perf_counter() - started < 60
    assert sum(one.rows for one in found) >= 0.9 * len(kinds)
