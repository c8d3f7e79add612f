"""The page of the data check: lengths, labels by split, copies and near-copies are those of the rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from contexts_for_tests import checked as checked_task
from html_for_tests import NASTY, Page, harmless
from tokenizers_for_tests import save_tokenizer

from finetooth.config.task import build_task
from finetooth.report import data_page
from finetooth.report.check_report import CheckReport
from finetooth.report.copies import word_difference

LONG = (
    "Hello, I was charged twice for the blue lamp that I ordered last week and nobody answers my calls about "
    "it, so please send the money back to my account"
)
ROWS = [{"text": f"message number {k} says {k * k}", "label": ("ham", "spam")[k % 3 == 0]} for k in range(60)]


def checked(rows: list[dict[str, Any]], tokenizer: Path | None = None, **data: Any) -> CheckReport:
    return checked_task(build_task({"data": {"train": rows, **data}}), tokenizer_dir=tokenizer)


def page_of(report: CheckReport) -> Page:
    page = Page(data_page.render(report))
    assert page.open == []
    harmless(page)
    return page


@pytest.mark.parametrize("counted", [True, False])
def test_questions_and_answers_have_a_panel_each_with_words_beside_tokens(
    counted: bool, tmp_path: Path
) -> None:
    report = checked(ROWS, save_tokenizer(tmp_path))
    report = report if counted else replace(report, tokens=None)
    context = data_page.page_context(report)
    questions, answers = context["lengths"]["panels"]
    assert (questions["name"], questions["words"].p50, questions["words"].max) == ("Questions", 5, 5)
    assert (answers["name"], answers["words"].max) == ("Answers", 1)
    if report.tokens is not None:
        assert (questions["tokens"], answers["tokens"]) == (report.tokens.context, report.tokens.scored)
    words = page_of(report).words
    assert ("tokens" in words.partition("Lengths")[2].partition("Labels")[0]) == counted
    assert "Questions" in words and "Answers" in words


def test_label_bars_are_the_rows_of_each_split_and_misspellings_are_marked(tmp_path: Path) -> None:
    rows = [*ROWS, {"text": "one more", "label": "Ham"}, {"text": "and one", "label": "hamm"}]
    report = checked(rows)
    labels = data_page.page_context(report)["labels"]
    for row in labels["rows"]:
        assert {side: count for side, count, _ in row["sides"]} == {
            side: count for side, count in report.labels[row["label"]].items() if count
        }
        assert sum(width for _, _, width in row["sides"]) == pytest.approx(100 * row["total"] / 40, abs=0.1)
    assert {row["label"]: row["like"] for row in labels["rows"]}["Ham"] == "ham"
    assert "Ham another spelling of ham?" in page_of(report).words


def test_copies_are_shown_as_examples_with_their_number() -> None:
    report = checked([*ROWS, *[{"text": NASTY, "label": "ham"}] * 4], validation=0, test=0)
    copies = data_page.page_context(report)["copies"]
    assert [(one["count"], one["question"], one["answer"]) for one in copies["shown"]] == [(4, NASTY, "ham")]
    assert (copies["clusters"], copies["rows"]) == (1, 3)
    assert "4 times" in page_of(report).words


def test_near_copies_show_what_differs() -> None:
    rows = [{"text": LONG, "label": "ham"}, {"text": LONG.replace("blue", "<b>green</b>"), "label": "ham"}]
    report = checked([*ROWS, *rows], validation=0, test=0)
    (one,) = data_page.page_context(report)["near"]["shown"]
    assert one["count"] == 2
    kinds = {kind: words.strip() for kind, words in one["others"][0]["parts"] if kind != "same"}
    assert sorted(kinds.values()) == ["<b>green</b>", "blue"]
    page = page_of(report)
    assert {"ins", "del"} <= {tag for tag, _ in page.seen}


def test_no_row_of_the_test_is_an_example(tmp_path: Path) -> None:
    told = [{"text": LONG, "label": "ham"}, {"text": LONG, "label": "ham"}]
    report = checked(ROWS, validation=ROWS[:2], test=told, allow=["leak"])
    assert [finding.rule for finding in report.findings if finding.rule == "duplicate"]
    assert data_page.page_context(report)["copies"] is None


def test_a_difference_gives_both_texts_back() -> None:
    one, other = "a b c d e f", "a x c d f g"
    parts = word_difference(one, other)
    assert "".join(words for kind, words in parts if kind != "only there").split() == other.split()
    assert "".join(words for kind, words in parts if kind != "only here").split() == one.split()
    long = " ".join(map(str, range(200)))
    assert "[…]" in word_difference(long, f"{long} end")[0][1]


def test_personal_data_in_copies_is_hidden() -> None:
    rows = [{"text": "write to maria.lopez@corp.com about it", "label": "ham"}] * 3
    near = [{"text": LONG.replace("lamp", word), "label": "ham"} for word in ("maria.lopez@corp.com", "lamp")]
    html = data_page.render(checked([*ROWS, *rows, *near], validation=0, test=0))
    assert "3 times" in html and "maria" not in html
