"""Annotations: nothing said is lost, a broken line is named, a tag that cries wolf leaves the headline."""

import json
from dataclasses import replace
from math import comb
from pathlib import Path

import pytest
from made_up_errors import made_up_errors

from finetooth.analysis.annotations import (
    ANNOTATIONS,
    Annotations,
    Precision,
    annotate,
    collect,
    judged_tags,
    precision,
    random_orders,
    read_annotations,
)
from finetooth.analysis.review_order import review_order, reviewed
from finetooth.errors import DataError
from finetooth.quality.intervals import wilson
from finetooth.rundir import is_ours, start_manifest


def verdict(id: str, tag: str, right: bool) -> dict[str, str]:
    return {"id": id, "tag": tag, "verdict": "confirm" if right else "reject"}


def of(right: int, judged: int) -> Precision:
    return Precision(right, judged - right, right / judged, *wilson(right, judged))


def test_the_last_one_wins_and_an_empty_text_withdraws(tmp_path: Path) -> None:
    assert read_annotations(tmp_path) == Annotations()
    annotate(tmp_path, [verdict("a", "loop", True), {"id": "a", "answer": "refund"}])
    annotate(tmp_path, [verdict("a", "loop", False), verdict("b", "loop", True), {"id": "a", "note": "n"}])
    annotate(
        tmp_path, [{"id": "b", "answer": "x"}, {"id": "b", "answer": " "}, {"id": "a", "note": "ü\n\x00"}]
    )
    known = read_annotations(tmp_path)
    assert known.verdicts == {("a", "loop"): False, ("b", "loop"): True}
    assert known.answers == {"a": "refund"} and known.notes == {"a": "ü\n\x00"}
    assert all("time" in json.loads(line) for line in (tmp_path / ANNOTATIONS).read_text().splitlines())


def test_every_truncation_of_the_last_line_loses_that_line_alone(tmp_path: Path) -> None:
    start_manifest(tmp_path)
    annotate(tmp_path, [verdict("a", "loop", True)])
    path = tmp_path / ANNOTATIONS
    assert is_ours(tmp_path, ANNOTATIONS)
    whole = path.read_bytes()
    annotate(tmp_path, [{"id": "b", "note": "ein Zettel für später"}])
    both = path.read_bytes()
    for size in range(len(whole), len(both) + 1):
        path.write_bytes(both[:size])
        survived = size >= len(both) - 1  # all but the line break
        assert read_annotations(tmp_path).notes == ({"b": "ein Zettel für später"} if survived else {})
        annotate(tmp_path, [verdict("c", "loop", False)])
        known = read_annotations(tmp_path)
        assert known.verdicts == {("a", "loop"): True, ("c", "loop"): False}
        assert ("b" in known.notes) == survived


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{broken", "not valid JSON"),
        ("[]", "not an annotation"),
        ('{"id": 3, "note": "x"}', "not an annotation"),
        ('{"id": "a"}', 'one of the keys "verdict"'),
        ('{"id": "a", "tag": "t", "verdict": "yes"}', "'yes', expected \"confirm\""),
        ('{"id": "a", "verdict": "confirm"}', 'needs the name of its "tag"'),
        ('{"id": "a", "answer": 7}', '"answer" is not a text'),
        ("", "not valid JSON"),
    ],
)
def test_a_broken_line_in_the_middle_is_named(tmp_path: Path, line: str, words: str) -> None:
    (tmp_path / "errors").mkdir()
    good = json.dumps(verdict("a", "t", True))
    (tmp_path / ANNOTATIONS).write_text(f"{good}\n{line}\n{good}\n")
    with pytest.raises(
        DataError, match=r"annotations\.jsonl, line 2: .*Correct or delete this line"
    ) as error:
        read_annotations(tmp_path)
    assert words in str(error.value)


def test_precision_counts_what_stands_now() -> None:
    known = collect([verdict(f"r{k}", "loop", k < 7) for k in range(10)] + [verdict("r0", "typo", False)] * 3)
    ids = [f"r{k}" for k in range(12)]
    tagged = {(id, tag) for id in ids for tag in ("loop", "typo")}
    both = precision(known, tagged, {"loop": ids, "typo": ids})
    assert both["loop"] == of(7, 10) and both["typo"] == of(0, 1)
    assert (both["loop"].low, both["loop"].high) == pytest.approx((0.3968, 0.8922), abs=1e-4)
    less = {("r0", "loop"), ("r9", "loop")}
    assert precision(known, less, {"loop": ["r9", "r0"]}) == {"loop": of(1, 2)}
    gap = precision(known, tagged, {"loop": ["r8", "r0", "r11", *ids[1:8]]})["loop"]
    assert gap == replace(of(1, 2), others=8)  # behind a row that is not judged nothing is in the estimate


def hidden_share(true_precision: float, judged: int) -> float:
    """How often a tag of this precision is hidden after so many judgements."""
    return sum(
        comb(judged, k) * true_precision**k * (1 - true_precision) ** (judged - k)
        for k in range(judged + 1)
        if not of(k, judged).headline
    )


def test_a_tag_that_cries_wolf_leaves_the_headline_and_a_good_one_hardly_ever() -> None:
    shown = {
        (right, judged): of(right, judged).headline for judged in range(1, 9) for right in range(judged + 1)
    }
    assert all(shown[right, judged] for judged in (1, 2) for right in range(judged + 1))  # too few to say
    assert not shown[0, 3] and shown[1, 3] and shown[1, 4]  # 0 of 3: the whole interval is below
    assert not shown[2, 5] and shown[3, 5] and not shown[4, 7] and shown[5, 8]
    assert all(hidden_share(0.9, judged) < 0.03 for judged in range(1, 40))
    assert all(hidden_share(0.8, judged) < 0.15 for judged in range(1, 40))
    assert all(hidden_share(0.8, judged) < 0.04 for judged in range(20, 40))
    assert hidden_share(0.3, 5) > 0.8 and all(hidden_share(0.3, judged) > 0.92 for judged in range(9, 40))


def test_tags_have_their_own_precision_and_hidden_ones_come_last() -> None:
    analysis = made_up_errors(200)
    first = next(tag["tag"] for tag in judged_tags(analysis, Annotations()) if tag["wrong"])
    rows = random_orders(analysis["rows"])[first]
    known = collect([verdict(id, first, k == 0) for k, id in enumerate(rows[:6])])
    *others, last = judged_tags(analysis, known)
    assert last["tag"] == first and not last["headline"] and (last["confirmed"], last["rejected"]) == (1, 5)
    assert (last["low"], last["high"]) == wilson(1, 6) and last["precision"] == 1 / 6
    assert all(tag["headline"] and tag["precision"] is None for tag in others)
    assert [tag["wrong"] for tag in others] == sorted((tag["wrong"] for tag in others), reverse=True)


def test_the_first_rows_of_a_review_tell_about_every_tag() -> None:
    analysis = made_up_errors(1_000)
    order = review_order(analysis["rows"], Annotations())
    assert sorted(row["id"] for row in order) == sorted(row["id"] for row in analysis["rows"] if row["wrong"])
    counts = dict.fromkeys((tag["tag"] for tag in analysis["tags"]), 0)
    for row in order[:50]:
        for one in row["tags"]:
            counts[one["tag"]] += 1
    assert min(counts.values()) >= 10 - 1, counts
    done = collect([verdict(row["id"], one["tag"], True) for row in order[:50] for one in row["tags"]])
    again = review_order(analysis["rows"], done)
    assert not any(reviewed(row, done) for row in again[:-50]) and all(
        reviewed(row, done) for row in again[-50:]
    )
