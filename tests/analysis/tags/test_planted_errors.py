"""Requirement C1: planted errors are found, and clean answers are not tagged."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from public_data import DATA
from scripts_for_tests import load_script
from tagged_rows import answered, prose_rows, share

from finetooth.analysis.tags import TAGS, TagContext, gold_rows, silent_tags, tag_rows
from finetooth.types import Answer

SCRIPT = load_script("benchmarks/error_tags.py")
CONTEXT = TagContext.of(prose_rows(300), ())
ROWS = prose_rows(400, seed=1)
GOAL = {
    "repetition": 0.97,
    "misspelling": 0.95,
    "unsupported-number": 0.9,
    "unsupported-entity": 0.9,
    "refusal": 0.95,
}


@pytest.mark.parametrize("tag", GOAL)
def test_planted_errors_are_found(tag: str) -> None:
    wrong = SCRIPT.planted(ROWS, tag)
    assert len(wrong) >= 300 and share(wrong, tag, CONTEXT) >= GOAL[tag]


def test_clean_answers_have_no_tag() -> None:
    assert silent_tags(CONTEXT) == {}
    found = tag_rows(list(gold_rows(ROWS)), CONTEXT)
    assert sum(map(bool, found)) <= 0.005 * len(ROWS), [tags for tags in found if tags][:5]


def test_evidence_is_where_the_error_is() -> None:
    for row in SCRIPT.planted(ROWS[:100], "misspelling"):
        if evidence := tag_rows([row], CONTEXT)[0].get("misspelling"):
            assert row.text[evidence.start : evidence.end] not in row.example.target
            assert row.text[: evidence.start] == row.example.target[: evidence.start]


def test_a_tag_that_training_answers_have_is_silent_for_such_rows() -> None:
    draw = random.Random(0)
    train = [
        replace(row, answers=(Answer(row.target + f" Ask for Mrs {draw.choice('XYZ')}{at}bel."),))
        for at, row in enumerate(prose_rows(100))
    ]
    context = TagContext.of(train, ())
    assert ("unsupported-entity", True) in silent_tags(context)
    assert share([answered(train[0], "It is made by Zebulon.")], "unsupported-entity", context) == 0
    assert share([answered(train[0], "It costs 123456 euros.")], "unsupported-number", context) == 1


def test_names_of_tags_are_distinct_and_short() -> None:
    names = [tag.name for tag in TAGS]
    assert len(set(names)) == len(names) == 15 and all(len(name) <= 20 and tag.about for name, tag in
                                                       zip(names, TAGS, strict=True))  # fmt: skip


@pytest.mark.data
@pytest.mark.full
@pytest.mark.skipif(not (DATA / "e2e_cleaned").is_dir(), reason=f"no public data sets in {DATA}")
@pytest.mark.parametrize("name", ["sgd_sample", "e2e_cleaned", "xquad_en", "dolly_flan_6400"])
def test_public_sets(name: str) -> None:
    train, judged = SCRIPT.halves(name)
    context = TagContext.of(train, ())
    found = tag_rows(list(gold_rows(judged)), context)
    for tag in TAGS:
        hits = sum(tag.name in tags for tags in found) / len(judged)
        assert hits <= 0.005 if tag.name == "repetition" else hits <= 0.035, (tag.name, hits)
    for tag, goal in GOAL.items():
        wrong = SCRIPT.planted(judged, tag)
        if not any(silent == tag for silent, _ in silent_tags(context)):
            assert share(wrong, tag, context) >= goal - 0.02, tag
