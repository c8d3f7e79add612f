"""The confusion matrix counts every record once, and leads to the rows behind its cells."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from gate import gate
from html_for_tests import page_of
from made_up_run import made_up_run
from sklearn.metrics import f1_score

from finetooth.analysis.confusions import OTHER_ANSWER, confusion
from finetooth.quality.intervals import wilson
from finetooth.report.answers import answers
from finetooth.report.confusion import SHOWN_LABELS, grid, label_table
from finetooth.rundir import read_json, read_jsonl


def record(id: str, want: str, got: str, score: float | None = None) -> dict[str, object]:
    return {"id": id, "want": want, "got": got, "score": float(want == got) if score is None else score}


@pytest.mark.parametrize("labels", [3, SHOWN_LABELS, SHOWN_LABELS + 1, 40])
def test_cells_sum_to_the_rows_that_have_a_score(labels: int) -> None:
    draw = random.Random(labels)
    names = [f"label {number}" for number in range(labels)]
    lines = [record(str(i), draw.choice(names), draw.choice([*names, "nonsense"])) for i in range(500)]
    lines += [{**record("x", names[0], ""), "score": None}] * 3
    matrix = confusion(lines, [*names, "never seen"])
    shown = grid(matrix)
    counts = [[cell["count"] for cell in line["cells"]] for line in shown["rows"]]
    assert sum(map(sum, counts)) == 500 and matrix.failed == 3
    assert [sum(line) for line in counts] == [line["total"] for line in shown["rows"]]
    assert sum(cell["right"] for line in shown["rows"] for cell in line["cells"]) == sum(
        line["score"] == 1 for line in lines
    )
    assert len(shown["rows"]) == min(labels, SHOWN_LABELS)
    assert shown["columns"][-1] == OTHER_ANSWER


def test_recall_and_precision_are_those_of_the_counts() -> None:
    lines = [record("1", "a", "a"), record("2", "a", "A", 1.0), record("3", "a", "b"), record("4", "b", "a")]
    a, b, c = label_table(confusion([*lines, record("5", "b", "c")], ["a", "b", "c"]))
    assert (a["recall"]["right"], a["recall"]["of"], a["precision"]["right"], a["precision"]["of"]) == (
        2,
        3,
        2,
        3,
    )
    assert a["mistaken"] == ("b", 1)
    assert (b["recall"]["share"], b["precision"]["share"]) == (0, 0)
    assert (c["label"], c["recall"], c["precision"]["of"]) == ("c", None, 1)
    assert a["recall"]["low"] < 2 / 3 < a["recall"]["high"]


def test_f1_is_that_of_a_reference() -> None:
    """Label by label, and its mean; labels that are answered and never expected have none right."""
    draw = random.Random(3)
    want, got = (draw.choices(names, k=300) for names in ("aabbc", "aabcd"))
    lines = [record(str(i), one, other) for i, (one, other) in enumerate(zip(want, got, strict=True))]
    table = label_table(confusion(lines, ["a", "b", "c", "d", "never seen"]))
    found = {line["label"]: line["f1"]["share"] for line in table if line["f1"]}
    expected = f1_score(want, got, labels=[*"abcd"], average=None, zero_division=0)
    assert found == pytest.approx(dict(zip("abcd", expected, strict=True)))


@pytest.mark.parametrize("n", gate([60, 250, 1_000], [250]))
def test_the_interval_of_f1_covers_it(n: int) -> None:
    """95% intervals of the rarer of two labels, found in four of five and given wrongly in one of ten."""
    random, covered, trials = np.random.default_rng(n), 0, 1_000
    true = 2 * (0.3 * 0.8) / (0.3 + 0.3 * 0.8 + 0.7 * 0.1)
    for _ in range(trials):
        want = random.random(n) < 0.3
        got = random.random(n) < np.where(want, 0.8, 0.1)
        right, union = int((want & got).sum()), int((want | got).sum())
        low, high = (2 * bound / (1 + bound) for bound in wilson(right, union))
        covered += low <= true <= high
    assert 0.925 * trials <= covered <= 0.975 * trials, covered


def test_the_page_shows_the_records_of_the_tuned_model(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, tuned=0.6)
    lines = [
        line
        for line in read_jsonl(run / "evaluate" / "validation" / "records.jsonl")
        if line["candidate"] == "tuned"
    ]
    found = answers(run, read_json(run / "evaluate" / "validation" / "summary.json"))
    assert found is not None
    labels = found["labels"]
    assert labels["n"] == len(lines) == 240
    for cell in labels["cells"]["wrong"]:
        behind = {line["id"] for line in lines if (line["want"], line["got"]) == (cell["want"], cell["got"])}
        assert cell["count"] == len(behind) and {id for id, _ in cell["rows"]} <= behind
    page = page_of(run)
    targets = {attributes.get("id") for _, attributes in page.seen} - {None}
    links = {(attributes["href"] or "")[1:] for tag, attributes in page.seen if tag == "a"}
    assert links and links <= targets
    right = sum(line["score"] == 1 for line in lines if line["want"] == "wrong_amount")
    of = sum(line["want"] == "wrong_amount" for line in lines)
    assert f"{right} of {of}" in page.words
    assert "no row" not in page.words
