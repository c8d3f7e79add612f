"""The messages that instruction rows are made of keep the rules that the recipe states."""

from __future__ import annotations

import re
from collections import Counter
from itertools import combinations, pairwise
from pathlib import Path

import pytest

from finetooth.commands.examples import folder, titles
from finetooth.data.examples import normalise
from finetooth.rundir import read_jsonl

pytestmark = pytest.mark.full
RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "milktooth"


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    return list(read_jsonl(RECIPE / "messages.jsonl"))


def grams(text: str) -> frozenset[str]:
    plain = " ".join(re.findall(r"\w+", text.lower()))
    return frozenset(plain[start : start + 4] for start in range(len(plain) - 3))


def test_every_row_is_a_clean_text_and_label(rows: list[dict[str, str]]) -> None:
    for row in rows:
        assert set(row) == {"text", "label"}
        assert row["text"] == " ".join(row["text"].split())
        assert 3 <= len(row["text"].split()) <= 40, row["text"]


def test_labels_are_balanced_and_the_number_of_rows_is_told(rows: list[dict[str, str]]) -> None:
    counts = Counter(row["label"] for row in rows)
    assert len(counts) == 8
    assert sum(counts.values()) >= 480
    assert max(counts.values()) <= 1.25 * min(counts.values())
    assert f"{len(rows):,} messages" in (RECIPE / "make_instructions.py").read_text(encoding="utf-8")


def test_no_text_occurs_twice_or_nearly_so(rows: list[dict[str, str]]) -> None:
    assert len({normalise(row["text"]) for row in rows}) == len(rows)
    sets = [(row["text"], grams(row["text"])) for row in rows]
    for (one, first), (other, second) in combinations(sets, 2):
        assert len(first & second) <= 0.4 * len(first | second), (one, other)


def test_labels_are_not_sorted(rows: list[dict[str, str]]) -> None:
    same = sum(one["label"] == other["label"] for one, other in pairwise(rows))
    assert same < 0.25 * len(rows)


def test_no_single_word_gives_a_label_away(rows: list[dict[str, str]]) -> None:
    """Each label's name, or the obvious word for it, also occurs under other labels."""
    for word in ("cancel", "refund", "invoice", "password", "parcel", "crash", "how do", "add"):
        assert len({row["label"] for row in rows if word in row["text"].lower()}) >= 2, word


def test_no_message_is_one_of_an_example(rows: list[dict[str, str]]) -> None:
    """What the embedded model was tuned on must not be what its examples test."""
    shown = {
        normalise(row.get("text") or row["input"])
        for name in titles()
        for row in read_jsonl(folder() / name / "train.jsonl")
    }
    assert len(shown) > 3000
    assert not shown & {normalise(row["text"]) for row in rows}
