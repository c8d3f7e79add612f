"""A tag's precision is that of its wrong rows, whatever else was judged, and whenever the person stops."""

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from finetooth.analysis.annotations import Annotations, collect, judged_tags
from finetooth.analysis.review_order import review_order

SIMULATIONS = 400


def overlapping(seed: int, rare: int = 12, share: float = 0.3) -> tuple[dict[str, Any], dict[str, set[str]]]:
    """An analysis, and the ids for which each tag is right. "frequent" is wrong where a rare tag holds, the
    rare ones are right in 7 of 10 rows: so the rows that are judged for rare tags speak against "frequent".
    """
    draw = random.Random(seed)
    rows: list[dict[str, Any]] = []
    right: dict[str, set[str]] = {}
    for k in range(350):
        names = ["frequent"] * (draw.random() < 0.7) + ["other"] * (draw.random() < 0.2)
        names += [f"rare {draw.randrange(rare)}"] * (draw.random() < share)
        rows.append({"id": f"{seed}-{k}", "wrong": draw.random() < 0.9, "tags": [{"tag": n} for n in names]})
        for name in names:
            wrong = "rare" in names[-1] if name == "frequent" else draw.random() < 0.3
            right.setdefault(name, set()).update([] if wrong else [rows[-1]["id"]])
    tags = [{"tag": name, "rows": 1, "wrong": 1} for name in right]
    return {"rows": rows, "tags": tags}, right


def said_of(rows: list[Any], right: Mapping[str, set[str]]) -> Annotations:
    """What a person who is never wrong says about these rows."""
    return collect(
        {"id": id, "tag": tag, "verdict": "confirm" if id in right[tag] else "reject"}
        for row in rows
        for id, tag in ((row["id"], one["tag"]) for one in row["tags"])
    )


def shown(name: str, analysis: dict[str, Any], known: Annotations) -> dict[str, Any]:
    return next(tag for tag in judged_tags(analysis, known) if tag["tag"] == name)


def true_precision(name: str, analysis: dict[str, Any], right: Mapping[str, set[str]]) -> float:
    ids = [r["id"] for r in analysis["rows"] if r["wrong"] and any(one["tag"] == name for one in r["tags"])]
    return float(np.mean([id in right[name] for id in ids]))


@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize("stop", [60, 110])
def test_the_precision_shown_is_fair_whenever_the_person_stops(stop: int, by_hand: bool) -> None:
    """by_hand: at first all rows with one of three rare tags are judged, as a filter lists them."""
    errors: dict[str, list[float]] = {"frequent": [], "other": []}
    covered = dict.fromkeys(errors, 0)
    for seed in range(SIMULATIONS):
        analysis, right = overlapping(seed)
        chosen = [row for row in analysis["rows"] if row["wrong"] and by_hand]
        chosen = [r for r in chosen if {one["tag"] for one in r["tags"]} & {"rare 0", "rare 1", "rare 2"}]
        order = review_order(analysis["rows"], said_of(chosen, right))
        known = said_of([*chosen, *order[:stop]], right)
        tags = {tag["tag"]: tag for tag in judged_tags(analysis, known)}
        for name, found in errors.items():
            tag, true = tags[name], true_precision(name, analysis, right)
            assert tag["precision"] is not None
            found.append(tag["precision"] - true)
            covered[name] += tag["low"] <= true <= tag["high"]
    mean = {name: float(np.mean(found)) for name, found in errors.items()}
    assert all(abs(one) < 0.02 for one in mean.values()), mean
    assert all(count >= 0.93 * SIMULATIONS for count in covered.values()), covered


def test_few_rows_tell_about_every_tag() -> None:
    analysis, right = overlapping(0)
    known = said_of(review_order(analysis["rows"], Annotations())[:60], right)
    judged = {tag["tag"]: tag["confirmed"] + tag["rejected"] for tag in judged_tags(analysis, known)}
    assert len(judged) == 14 and min(judged.values()) >= 4, judged


def test_the_sample_of_a_tag_does_not_depend_on_other_tags_and_a_gap_ends_it() -> None:
    analysis, right = overlapping(1)
    alone = {**analysis, "rows": [dict(row) for row in analysis["rows"]]}
    for row in alone["rows"]:
        row["tags"] = [one for one in row["tags"] if one["tag"] == "other"]
    first = review_order(alone["rows"], Annotations())[:10]
    known = said_of(first, {"other": right["other"]})
    for rows in (alone, analysis):
        tag = shown("other", {**rows, "tags": [{"tag": "other", "rows": 1, "wrong": 1}]}, known)
        assert (tag["confirmed"] + tag["rejected"], tag["others"]) == (10, 0)
    skipped = {key: said for key, said in known.verdicts.items() if key != (first[2]["id"], "other")}
    tag = shown("other", analysis, Annotations(skipped))
    assert (tag["confirmed"] + tag["rejected"], tag["others"]) == (2, 7)
    assert (
        review_order(alone["rows"], Annotations(skipped))[0]["id"] == first[2]["id"]
    )  # it comes first again
    tag = shown("other", analysis, said_of(first[1:], {"other": right["other"]}))
    assert (tag["precision"], tag["low"], tag["headline"], tag["others"]) == (None, None, True, 9)


def test_right_rows_are_not_in_the_estimate() -> None:
    analysis, right = overlapping(2)
    known = said_of([row for row in analysis["rows"] if not row["wrong"]], right)
    tag = shown("frequent", analysis, known)
    assert tag["precision"] is None and tag["others"] > 20
    everything = shown("frequent", analysis, said_of(analysis["rows"], right))
    assert everything["precision"] == pytest.approx(true_precision("frequent", analysis, right))
    assert everything["others"] == tag["others"]
