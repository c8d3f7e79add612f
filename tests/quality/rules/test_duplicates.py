"""Rules about rows of one side: copies, near-copies, contradicting answers; none on clean rows."""

from __future__ import annotations

import json
import random
import re
import time
from dataclasses import replace
from pathlib import Path

import planted
import pytest
from contexts_for_tests import checked

from finetooth.config.task import DataConfig, Task
from finetooth.quality.findings import EVIDENCE, Edit, Finding, View
from finetooth.quality.label_audit import audit_labels
from finetooth.quality.prepare import assemble
from finetooth.quality.rules.duplicates import conflicting_answers, difference, duplicates, near_duplicates
from finetooth.quality.similarity.near_duplicates import find_near_duplicates, reuse_near_duplicates
from finetooth.types import Answer, Example, Message

TEXTS = planted.texts(2000, seed=4, least=1, most=3)
CLEAN = planted.rows(TEXTS)


def view(rows: list[Example], format: str = "labels") -> View:
    return View({"train": rows}, format, DataConfig(train="rows.jsonl"))


def pairs(findings: list[Finding]) -> set[tuple[str, str]]:
    return {(hit.id, hit.other) for finding in findings for hit in finding.hits}


def test_clean_rows_give_next_to_nothing() -> None:
    assert not list(duplicates(view(CLEAN)))
    assert not list(conflicting_answers(view(CLEAN)))
    assert sum(len(finding.hits) for finding in near_duplicates(view(CLEAN))) <= 0.005 * len(CLEAN)


def test_copies_are_found_exactly_and_the_later_ones_are_to_drop() -> None:
    generator = random.Random(1)
    picked = generator.sample(range(2000), 40)
    copies = [
        planted.row(f"c{k}", planted.recase(TEXTS[at], generator), CLEAN[at].target)
        for k, at in enumerate(picked)
    ]
    other_answer = planted.row("x", TEXTS[5], CLEAN[6].target)
    (finding,) = duplicates(view([*CLEAN, *copies, other_answer]))
    assert pairs([finding]) == {(f"c{k}", f"r{at}") for k, at in enumerate(picked)}
    assert finding.edits == tuple(Edit(f"c{k}", "drop") for k in range(40))
    assert finding.severity == "review"
    assert "40 of 2,041 train rows" in finding.summary
    assert finding.facts["sizes"] == {"2": 40}
    (few,) = duplicates(view([*CLEAN, *copies[:3], *(replace(copies[0], id=id) for id in "ab")]))
    assert few.severity == "info"
    assert few.facts["sizes"] == {"2": 2, "4": 1}


def test_a_copy_on_another_side_is_no_duplicate() -> None:
    sides = {"train": CLEAN[:50], "test": [planted.row("t", TEXTS[0], CLEAN[0].target)]}
    assert not list(duplicates(View(sides, "labels", DataConfig(train="rows.jsonl"))))


def test_near_copies_are_found_in_clusters_the_largest_first() -> None:
    generator = random.Random(2)
    long = [at for at, text in enumerate(TEXTS) if len(text.split()) >= 12]
    picked = generator.sample(long, 60)
    near = [
        planted.row(f"n{k}", planted.edit(TEXTS[at], 0.1, generator), CLEAN[at].target)
        for k, at in enumerate(picked)
    ]
    near += [planted.row(f"m{k}", f"{TEXTS[picked[0]]} {k}", CLEAN[picked[0]].target) for k in range(3)]
    (finding,) = near_duplicates(view([*CLEAN, *near]))
    assert finding.severity == "review"
    found = {hit.id for hit in finding.hits}
    assert len({f"n{k}" for k in range(60)} & found) >= 59
    planted_rows = {f"n{k}" for k in range(60)} | {f"m{k}" for k in range(3)} | {f"r{at}" for at in picked}
    assert len(found - planted_rows) <= 0.01 * len(CLEAN)
    first = f"r{picked[0]}"
    assert [hit.id for hit in finding.hits[:5]] == [first, "n0", "m0", "m1", "m2"]
    assert finding.hits[2].other == first
    assert finding.hits[2].evidence.endswith("”") and "only here" in finding.hits[2].evidence
    assert all(len(hit.evidence) <= EVIDENCE for hit in finding.hits)
    assert not finding.edits
    sizes = finding.facts["sizes"]
    assert sizes["5"] == 1 and sum(int(size) * count for size, count in sizes.items()) == len(finding.hits)


def test_the_page_draws_the_groups_by_size(tmp_path: Path) -> None:
    """Three copies of one row, two of another, and a near copy: 2 groups of 2 and 1 of 3 are 7 rows."""
    texts = [*TEXTS[:40], TEXTS[0], TEXTS[0], TEXTS[1], f"{max(TEXTS[2:40], key=len)} truly"]
    rows = [{"text": text, "label": "yes" if len(text) % 2 else "no"} for text in texts]
    rows[-1]["label"] = next(row["label"] for row in rows if rows[-1]["text"].startswith(row["text"]))
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    data = {"train": str(file), "validation": 0, "test": 0}
    report = checked(Task.model_validate({"data": data}), tmp_path / "run")
    assert report.page is not None
    page = report.page.read_text()
    assert re.findall(r'<div class="copy"><b>([^<]+)</b>', page) == ["3 times", "2 times", "2 rows"]


@pytest.mark.full
def test_views_share_nothing_with_each_other() -> None:
    """A view of other rows, even one made from the first, is looked at anew; equal views stay equal."""
    first = view([*CLEAN[:50], planted.row("c", TEXTS[0] + " now", CLEAN[0].target)])
    second = replace(first, sides={"train": CLEAN[:50]})
    assert find_near_duplicates(first) is find_near_duplicates(first)
    assert [len(find_near_duplicates(one).pairs) for one in (first, second)] == [1, 0]
    labels = {"train": CLEAN[:300]}
    assert isinstance(audit_labels(first), str) and not isinstance(
        audit_labels(replace(first, sides=labels)), str
    )
    assert first == replace(first)


def test_near_copies_with_other_answers_are_other_questions() -> None:
    near = planted.row("n", planted.edit(TEXTS[0], 0.1, random.Random(1)), CLEAN[1].target)
    found = {hit.id for finding in near_duplicates(view([*CLEAN, near])) for hit in finding.hits}
    assert "n" not in found


def test_problems_that_differ_in_their_numbers_are_no_mistake() -> None:
    """The form is told, as info; with a number in the question alone the answer is the same: review."""
    form = (
        "The old baker on Mill Street sold {} loaves and {} rolls before breakfast; how many pieces is that?"
    )
    answer = "The baker sold {} + {} = {} pieces."
    numbers = [(10 + 7 * k, 3 + 11 * k) for k in range(6)]
    rows = [
        planted.row(f"n{k}", form.format(a, b), answer.format(a, b, a + b))
        for k, (a, b) in enumerate(numbers)
    ]
    clean = planted.rows(TEXTS, labels=tuple(TEXTS[:7]))
    (finding,) = near_duplicates(view([*clean, *rows], "qa"))
    assert (finding.severity, {hit.id for hit in finding.hits}) == ("info", {f"n{k}" for k in range(6)})
    assert "only in the numbers" in finding.summary and finding.facts["sizes"] == {"6": 1}
    same = [replace(row, answers=(Answer("They counted it in the evening."),)) for row in rows]
    (finding,) = near_duplicates(view([*clean, *same], "qa"))
    assert (finding.severity, len(finding.hits)) == ("review", 6)


def test_labels_that_contradict_are_for_review_with_their_counts() -> None:
    rows = [planted.row(f"a{k}", "is it open", "yes") for k in range(4)] + [
        planted.row("b", "Is it OPEN?", "no")
    ]
    (finding,) = conflicting_answers(view([*CLEAN, *rows]))
    assert finding.severity == "review"
    assert finding.hits[0].id == "b", "the rare answer comes first"
    assert "“yes” ×4, “no” ×1" in finding.hits[0].evidence
    assert finding.facts == {"questions": 1, "rows": 5}


def test_several_free_texts_are_normal_and_several_short_answers_are_not() -> None:
    clean = planted.rows(TEXTS, labels=tuple(TEXTS[:7]))
    free = [planted.row(f"f{k}", "describe the van", f"{TEXTS[k]} It is a van.") for k in range(2)]
    short = [planted.row(f"s{k}", "how many wheels", answer) for k, answer in enumerate(("4", "6 wheels"))]
    review, info = conflicting_answers(view([*clean, *free, *short], "qa"))
    assert (review.severity, {hit.id for hit in review.hits}) == ("review", {"s0", "s1"})
    assert (info.severity, {hit.id for hit in info.hits}) == ("info", {"f0", "f1"})


def test_many_references_to_each_question_are_how_the_data_is_made() -> None:
    rows = [planted.row(f"r{k}", TEXTS[k // 2], f"{k} wheels") for k in range(200)]
    (finding,) = conflicting_answers(view(rows, "qa"))
    assert finding.severity == "info"


def test_another_system_message_is_another_question() -> None:
    rows = [
        Example(f"r{k}", (Message("system", system), Message("user", "hello there")), (Answer(answer),))
        for k, (system, answer) in enumerate((("translate", "bonjour"), ("count the words", "2")))
    ]
    assert not list(conflicting_answers(view(rows, "qa")))


def test_plain_texts_have_copies_and_no_conflicts() -> None:
    rows = [Example(f"r{k}", (), (Answer(text),)) for k, text in enumerate([*TEXTS[:50], TEXTS[0]])]
    (finding,) = duplicates(view(rows, "text"))
    assert pairs([finding]) == {("r50", "r0")}
    assert not list(conflicting_answers(view(rows, "text")))


def test_the_difference_is_what_lies_between() -> None:
    assert (
        difference("a visa to Spain, please", "A visa to Tibet please!")
        == "only here: “Spain,”; only there: “Tibet”"
    )
    assert difference("Read this: go home", "go home") == "only here: “Read this:”"
    assert difference("go  home.", "go home") == "differs only in spaces and punctuation"


def test_evidence_of_copies_and_conflicts_holds_no_half_of_a_value() -> None:
    """A value where a text is cut, in the words that differ, and in an answer that is folded."""
    key, card = "AKIA" + "A1B2" * 4, "4111 1111 1111 1111"
    asked = ["Charge the card that I gave you: {} please", "Which of the two keys is it, old or new: {} then"]
    rows = [
        *(planted.row(f"d{k}", asked[0].format(card), "yes") for k in range(2)),
        *(planted.row(f"k{k}", asked[1].format("this"), answer) for k, answer in enumerate((key, "none"))),
        *(
            planted.row(f"n{k}", f"{TEXTS[0]} {number}", "")
            for k, number in enumerate((card, card[:-4] + "1129"))
        ),
    ]
    said = [*duplicates(view([*CLEAN, *rows])), *conflicting_answers(view([*CLEAN, *rows]))]
    told = " ".join(hit.evidence for finding in said for hit in finding.hits)
    assert "41***11" in told and "AKIA***" in told and "4111" not in told
    assert "a1b2" not in told.casefold()
    assert "1111" not in difference(f"card {card}", "card 4242 4242 4242 4242")


def test_the_row_of_a_conflict_says_its_own_answer() -> None:
    rows = [planted.row(f"c{k}", "is it open", answer) for k, answer in enumerate(("Yes", "yes", "No"))]
    (finding,) = conflicting_answers(view(rows))
    assert finding.hits[0].evidence == "“No” to is it open (in all: “Yes” ×2, “No” ×1)"
    assert [(hit.id, hit.other) for hit in finding.hits] == [("c2", "c0"), ("c0", "c2"), ("c1", "c2")]


def test_one_question_in_all_rows_is_told_in_linear_time() -> None:
    """A column that was lost: 20,000 rows ask the same, sorted by label; two rows of each would be 10^8."""
    rows = [planted.row(f"r{k}", "", "ab"[k // 10_000]) for k in range(20_000)]
    start = time.process_time()
    (finding,) = conflicting_answers(view(rows))
    assert len(finding.hits) == 20_000 and time.process_time() - start < 20


def test_short_replies_of_a_conversation_do_not_exclude_each_other() -> None:
    clean = planted.rows(TEXTS, labels=tuple(TEXTS[:700]))
    greeted = [planted.row(f"h{k}", "Hello", reply) for k, reply in enumerate(("Hi!", "Good day.", "Yes?"))]
    (finding,) = conflicting_answers(view([*clean, *greeted], "qa"))
    assert finding.severity == "info" and "At most one" not in finding.summary
    assert "1 question has several answers (3 rows)" in finding.summary


def test_short_answers_of_a_small_set_exclude_each_other() -> None:
    clean = planted.rows(TEXTS, labels=("yes", "no"))
    asked = [planted.row(f"v{k}", "is the van blue", answer) for k, answer in enumerate(("yes", "no"))]
    (finding,) = conflicting_answers(view([*clean, *asked], "qa"))
    assert finding.severity == "review" and "At most one" in finding.summary


def test_plain_texts_are_told_of_texts() -> None:
    rows = [Example(f"t{k}", (), (Answer(text),), {}) for k, text in enumerate([*TEXTS[:60], *TEXTS[:9]])]
    rows += [replace(rows[k], id=f"n{k}", answers=(Answer(rows[k].target + " Indeed."),)) for k in range(5)]
    for finding in (*duplicates(view(rows, "text")), *near_duplicates(view(rows, "text"))):
        assert "question" not in finding.message() and "answer" not in finding.message(), finding.summary


def test_the_pairs_of_the_split_are_those_that_the_rules_would_find(tmp_path: Path) -> None:
    generator = random.Random(5)
    texts = [*TEXTS[:400], *(planted.edit(text, 0.1, generator) for text in TEXTS[:60]), *TEXTS[:20]]
    lines = [{"question": text, "answer": f"it is {k % 400}"} for k, text in enumerate(texts)]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    data = assemble(Task.model_validate({"data": {"train": str(file)}}))
    anew, given = (View(data.sides, data.format, DataConfig(train=str(file))) for _ in range(2))
    assert data.pairs
    reuse_near_duplicates(given, data.pairs)
    close = [
        {(pair.one, pair.other, pair.tier) for pair in find_near_duplicates(one).pairs if pair.close}
        for one in (anew, given)
    ]
    assert close[0] == close[1] and len(close[0]) >= 75
