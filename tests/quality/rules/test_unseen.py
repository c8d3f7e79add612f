"""Labels and pairs that differ in what nobody can see; answers that are calls."""

from __future__ import annotations

import pytest

from finetooth.config.task import DataConfig
from finetooth.data.render.turns import answer_key, has_answer
from finetooth.evaluation.prompts import few_shot
from finetooth.quality.findings import View
from finetooth.quality.rules.labels import label_spelling, one_label
from finetooth.quality.rules.unseen import pairs_alike, unseen_in_label
from finetooth.types import Answer, Example, Message


def labelled(*labels: str) -> View:
    rows = [
        Example(f"{k}", (Message("user", f"row {k}"),), (Answer(label),), {"label": label})
        for k, label in enumerate(labels)
    ]
    return View({"train": rows}, "labels", DataConfig(train=[]))


@pytest.mark.parametrize(
    "hidden",
    ["bill\u200bing", "bill\u00ading", "billing\u200e", "\ufeffbilling", "new\u00a0bill", "bill\u2060ing"],
)
def test_a_label_with_a_character_that_cannot_be_seen(hidden: str) -> None:
    seen = " ".join(hidden.replace("\u00a0", " ").encode("ascii", "ignore").decode().split())
    view = labelled(*[seen] * 20, *["other"] * 20, hidden)
    (finding,) = unseen_in_label(view)
    assert finding.facts["twins"] == 1 and [hit.id for hit in finding.hits] == ["40"]
    assert ascii(hidden) in finding.summary and ascii(seen) in finding.summary
    assert not list(label_spelling(view)), "it is one problem"


@pytest.mark.parametrize(
    "label", ["billing", "new bill", "é", "\u0646\u0645\u06cc\u200c\u062f\u0627\u0646\u0645", "👩\u200d🚀"]
)
def test_labels_that_are_meant(label: str) -> None:
    assert not list(unseen_in_label(labelled(label, label)))


def test_pairs_that_differ_only_in_space() -> None:
    def pair(chosen: str, rejected: str) -> Example:
        answers = (Answer(chosen, "chosen"), Answer(rejected, "rejected"))
        return Example(chosen, (Message("user", "q"),), answers)

    rows = [pair("a b", "a  b\n"), pair("a b\u200b", "a b"), pair("ab", "a b")]
    (finding,) = pairs_alike(View({"train": rows}, "preference", DataConfig(train=[])))
    assert [hit.id for hit in finding.hits] == ["a b", "a b\u200b"]


def test_answers_that_are_calls_differ_by_their_arguments() -> None:
    rows = [
        Example(
            f"{k}",
            (Message("user", f"order {k}"),),
            (
                Answer(
                    "",
                    more={"tool_calls": [{"id": f"c{k}", "function": {"name": "f", "arguments": {"n": n}}}]},
                ),
            ),
        )
        for k, n in enumerate([*range(30), 29])
    ]
    assert not list(one_label(View({"train": rows}, "chat", DataConfig(train=[]))))
    assert list(one_label(View({"train": rows[29:] * 20}, "chat", DataConfig(train=[]))))
    assert answer_key(rows[29]) == answer_key(rows[30]) != answer_key(rows[0])
    assert has_answer(rows[0]) and len(few_shot(4, rows, (), 1).demos) == 4
