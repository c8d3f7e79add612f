"""Counts as text: one format everywhere, with the singular for one."""

from __future__ import annotations

import re

import planted

from finetooth.config.task import DataConfig
from finetooth.config.values import format_count, format_count_of, plural
from finetooth.quality.findings import View
from finetooth.quality.gate import inspect

WRONG = re.compile(r"\b1 (?:rows|questions|answers|labels|texts|have|are|hold|groups)\b|(?<!U\+)\b\d{4,}\b")


def test_one_and_many() -> None:
    assert format_count(1, "row") == "1 row" and format_count(0, "row") == "0 rows"
    assert format_count(12_345, "row") == "12,345 rows" and format_count(2, "reply", "replies") == "2 replies"
    assert (
        format_count_of(1, 12_345, "row") == "1 of 12,345 rows"
        and format_count_of(1, 1, "row") == "1 of 1 row"
    )
    assert plural(1, "has", "have") == "has" and plural(1_000, "has", "have") == "have"


def test_findings_of_one_row_and_of_many() -> None:
    texts = planted.texts(400, seed=3)
    rows = planted.rows(texts, labels=("yes", "no"))
    broken = ("<p>x</p> it is", "Ã© it is", "a\u200bb\x07 it is", "ann@mail.org", "...")
    odd = [
        *(planted.row(f"x{number}", text, "yes") for number, text in enumerate(broken)),
        planted.row("y", texts[0], "no"),
        planted.row("z", "a b c", "ye"),
    ]
    for kind, more in (("labels", odd), ("qa", odd), ("labels", odd * 2)):
        for finding in inspect(View({"train": [*rows, *more]}, kind, DataConfig(train="r.jsonl"))):
            assert not WRONG.search(finding.summary), finding.summary
