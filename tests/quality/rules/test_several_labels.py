"""Rows with several labels: each label is checked by itself, and combinations are not taken for labels."""

from __future__ import annotations

from label_rows import row, topics, view

from finetooth.config.task import DataConfig
from finetooth.quality.findings import View
from finetooth.quality.gate import inspect
from finetooth.quality.review_queue import label_queue
from finetooth.quality.rules.several_labels import separate_labels


def several(labels: list[str], test: list[str]) -> View:
    """A task with a label column per label; the text of each row is of no matter here."""
    columns = {"message": "text", "billing": "label", "urgent": "label"}
    sides = {
        side: [row(f"{side} {at} {'abc' * (at % 7)}", label, at) for at, label in enumerate(made)]
        for side, made in (("train", labels), ("test", test))
    }
    return View(sides, "labels", DataConfig(train="rows.jsonl", columns=columns))


def test_a_rare_combination_is_no_rare_label() -> None:
    labels = ["billing"] * 6 + ["urgent"] * 100 + ["billing, urgent"] * 2 + ["fraud, urgent"] * 3
    looked = several(labels, ["billing", "fraud, billing", "lost, urgent"])
    found = {finding.rule: finding for finding in inspect(looked)}
    assert found["rare-label"].facts["labels"] == {"fraud": 3}
    assert found["unseen-label"].facts["labels"] == {"lost": 1}
    assert found["label-imbalance"].facts["shares"].keys() == {"billing", "urgent"}


def test_label_errors_are_not_looked_for_in_combinations_and_that_is_said() -> None:
    rows = topics(300)
    looked = View({"train": rows}, "labels", several([], []).config)
    found = {finding.rule: finding for finding in inspect(looked)}
    assert "several labels" in found["labels-not-judged"].summary
    assert not {"label-errors", "bag-of-words", "length-shortcut"} & found.keys()
    assert not label_queue(looked, 10)
    assert "bag-of-words" in {finding.rule for finding in inspect(view(rows))}


def test_labels_are_separated_as_they_were_joined() -> None:
    assert separate_labels("billing, urgent") == ["billing", "urgent"]
    assert separate_labels('["billing, abroad", "urgent"]') == ["billing, abroad", "urgent"]
    assert separate_labels("none") == ["none"]
