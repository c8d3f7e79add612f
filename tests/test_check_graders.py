"""`finetooth check` and graders: what `run` would refuse is refused here, before any model is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finetooth.cli import invoke


@pytest.fixture
def task(tmp_path: Path) -> Path:
    rows = [{"text": f"{word} number {n}", "label": word} for n in range(20) for word in ("apple", "pear")]
    (tmp_path / "fruit.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "task.yaml"
    path.write_text("data: {train: fruit.jsonl}\n")
    return path


@pytest.mark.parametrize(
    ("grader", "words"),
    [
        ('{name: regex, pattern: "("}', "is no regular expression"),
        ("{name: number, tolerence: 1}", "number, tolerance: ...}, found tolerence"),
        ("{name: json, schema: nowhere.json}", "nowhere.json cannot be read as a JSON Schema"),
        ("{name: json, schema: {type: objekt}}", "this is no JSON Schema"),
        ("nowhere_at_all:grade", "there is no module 'nowhere_at_all'"),
        ("[exact, exakt]", "'exakt' is unknown"),
        ("[label, auto]", "label is given twice"),
    ],
)
def test_check_refuses_a_grader_that_run_would_refuse(
    task: Path, grader: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["check", str(task)], ["check", str(task.with_name("fruit.jsonl"))]):
        assert invoke([*arguments, "--evaluate.grader", grader]) == 2
        printed = capsys.readouterr()
        assert words in printed.err and printed.out == ""


def test_check_says_where_a_grader_will_not_accept_what_is_expected(
    task: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["check", str(task), "--evaluate.grader", "[label, number]"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "note evaluate.grader: number does not give full marks to" in shown
    assert "the expected answer holds no number" in shown
    (task.with_name("plain.txt")).write_text("".join(f"{n} words of plain text.\n\n" for n in range(40)))
    assert invoke(["check", str(task.with_name("plain.txt"))]) == 0  # trained on without a grader
