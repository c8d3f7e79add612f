"""`finetooth check` and graders: what `run` would refuse is refused here, before any model is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finetooth.cli.app import invoke


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)  # check writes to runs/ here
    rows = [{"text": f"{word} number {n}", "label": word} for n in range(20) for word in ("apple", "pear")]
    (tmp_path / "fruit.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "task.yaml"
    path.write_text("data: {train: fruit.jsonl}\n")
    return path


@pytest.mark.parametrize(
    ("grader", "words"),
    [
        ('{name: regex, pattern: "("}', "is not a regular expression"),
        ("{name: number, tolerence: 1}", "number, tolerance: ..., decimal: ...}, found tolerence"),
        ("{name: json, schema: nowhere.json}", "nowhere.json cannot be read as a JSON Schema"),
        ("{name: json, schema: {type: objekt}}", "this is not a JSON Schema"),
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
    assert "review grader: evaluate.grader: number gives full marks to none of" in shown
    assert "the expected answer has no number" in shown
    assert invoke(["check", str(task), "--evaluate.grader", "number"]) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "NO grader: evaluate.grader: number gives full marks to none of" in shown
    assert "--evaluate.grader label" in shown and "OK" not in shown
    out = task.with_name("out")
    assert invoke(["run", str(task), "--evaluate.grader", "number", "--out", str(out)]) == 2
    assert "number gives full marks to none of" in capsys.readouterr().err
    files = (path for path in out.rglob("*") if path.is_file() and path.parent.name != ".finetooth")
    assert sorted(path.name for path in files) == [
        "check.json",
        "findings.jsonl",
        "report.html",
    ]  # nothing of a run
    (task.with_name("plain.txt")).write_text("".join(f"{n} words of plain text.\n\n" for n in range(40)))
    assert invoke(["check", str(task.with_name("plain.txt"))]) == 0  # trained on without a grader


BROKEN = {
    "crash": ("    return 1 / 0", "ZeroDivisionError: division by zero"),
    "words": ("    return 'yes'", "returned str, expected a Score, a bool or a number from 0 to 1"),
    "range": ("    return 7", "returned 7.0, expected a number from 0 to 1"),
    "quits": ("    raise SystemExit(3)", "SystemExit: 3"),
}


@pytest.mark.parametrize("what", [*BROKEN, "signature"])
def test_check_and_run_refuse_an_own_grader_that_always_fails(
    task: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    body, said = BROKEN.get(what, ("    return 1.0", "TypeError: grade() takes 1 positional argument"))
    given = "text" if what == "signature" else "example, text"
    file = task.with_name("mine.py")
    file.write_text(f"def grade({given}):\n{body}\n")
    for command, code in (("check", 1), ("run", 2)):
        out = ["--out", str(task.with_name("out"))] if command == "run" else []
        assert invoke([command, str(task), "--evaluate.grader", f"{file}:grade", *out]) == code
        printed = capsys.readouterr()
        shown = "".join((printed.out if command == "check" else printed.err).split())  # long paths are folded
        for words in (
            said,
            "mine.py:grade fails on all",
            "Fix it, then run the same command",
        ):
            assert words.replace(" ", "") in shown
    assert not (task.with_name("out") / "data" / "train.jsonl").exists()


def test_an_own_grader_that_works_is_tried_once_and_may_print(
    task: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = task.with_name("mine.py")
    file.write_text(
        "print('loading')\ndef grade(example, text):\n    print('graded', text)\n    return 0.25\n"
    )
    assert invoke(["check", str(task), "--evaluate.grader", f"{file}:grade", "--json"]) == 0
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert report["ok"] and any(one["says"].endswith(" only 0.25.") for one in report["findings"])
    assert printed.err.count("graded") == printed.err.count("loading") == 1
    file.write_text("def grade(example, text):\n    return 1 / (text != 'apple')\n")
    assert invoke(["check", str(task), "--evaluate.grader", f"{file}:grade", "--json"]) == 0  # on some rows
    assert json.loads(capsys.readouterr().out)["ok"]
