"""A run whose inputs change: it says what changed and what to type, and no row changes its side."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from mails_for_tests import mails, write_sheet
from models_for_tests import tiny_model_dir

from finetooth.cli.app import invoke
from finetooth.rundir import read_json, read_jsonl

TASK = """\
name: mails
model: ./model
data:
  train: mails.csv
  encoding: cp1252
  columns: {Nr: id, Text: text, Team: label}
train: {preflight: "off", rank: 4, max_steps: 2, select: loss}
evaluate: {shots: [0], limit: 10}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sheet of 120 mails, and the run that was made of it."""
    folder = tmp_path_factory.mktemp("mails")
    tiny_model_dir(folder / "model")
    write_sheet(folder / "mails.csv", mails(120))
    (folder / "task.yaml").write_text(TASK)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert invoke(["run", "task.yaml", "--quiet"]) == 0
    return folder


@pytest.fixture
def place(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That folder, its sheet, task and model as they were."""
    monkeypatch.chdir(made)
    write_sheet(made / "mails.csv", mails(120))
    return made


def sides(run: Path) -> dict[str, str]:
    """Id -> side."""
    names = ("train", "validation", "sealed")
    return {row["id"]: name for name in names for row in read_jsonl(run / "data" / f"{name}.jsonl")}


def contents(run: Path) -> dict[Path, bytes]:
    files = (file for file in run.rglob("*") if file.is_file() and file.name != "lock")
    return {file: file.read_bytes() for file in files}


def commands(text: str) -> list[list[str]]:
    found = re.findall(r"^  (finetooth .*?)    ", text, re.MULTILINE)
    return [shlex.split(line) for line in found]


def test_changed_rows_are_counted_and_the_run_beside_keeps_every_side(place: Path, capsys) -> None:
    before = sides(Path("runs/mails"))
    rows = mails(120)
    sealed = [row for row in rows if before[row[0]] == "sealed"]
    trained = [row for row in rows if before[row[0]] == "train"]
    sealed[0][2] = (
        "Ganz neuer Text über einen Kran im Hafen, den niemand kennt"  # only its number is the same
    )
    trained[0][2] += " Danke!"
    trained[1][3] = "Versand" if trained[1][3] != "Versand" else "Technik"
    copy = ["N-1", "neu", sealed[1][2].replace("Kunde", "Kundin"), sealed[1][3]]  # nearly a sealed row
    rows.remove(trained[2])
    write_sheet(place / "mails.csv", [*rows, copy, *mails(50, seed=9, first=500)])
    before_files = contents(Path("runs/mails"))

    assert invoke(["run", "task.yaml", "--seed", "1"]) == 2
    told = capsys.readouterr().err
    assert "mails.csv has changed since" in told and "51 rows added, 3 edited, 1 removed" in told
    assert "finetooth report runs/mails" in told
    assert contents(Path("runs/mails")) == before_files
    anew, go_on = commands(told)
    assert anew == [
        *["finetooth", "run", "task.yaml", "--seed", "1", "--data.split_from", "runs/mails", "--out"],
        "runs/mails-2",
    ]
    assert go_on[4:] == ["1", "--from", "runs/mails", "--out", "runs/mails-2"]

    assert invoke([*anew[1:], "--sealed", "--quiet"]) == 0
    after = sides(Path("runs/mails-2"))
    assert {id: side for id, side in after.items() if id in before} == {
        id: side for id, side in before.items() if id != trained[2][0]
    }
    assert after["N-1"] == "sealed"
    assert len(after) == len(before) - 1 + 51
    assert {after[row[0]] for row in mails(50, seed=9, first=500)} == {"train", "validation", "sealed"}
    (opened,) = [e for e in read_jsonl(Path("runs/mails-2/ledger.jsonl")) if e["event"] == "opened"]
    assert opened["look"] == 2, "the sealed rows were looked at by the first run"

    capsys.readouterr()
    assert invoke(["compare", "runs/mails", "runs/mails-2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)
    assert invoke(["report", "runs/mails"]) == 0
    assert "mails.csv has changed since this run" in " ".join(capsys.readouterr().out.split())
    assert invoke(["train", "task.yaml"]) == 2
    assert (
        "finetooth train task.yaml --data.split_from runs/mails --out runs/mails-3" in capsys.readouterr().err
    )


@pytest.mark.full
def test_from_keeps_edited_and_similar_rows_on_their_side_too(place: Path, capsys) -> None:
    before = sides(Path("runs/mails"))
    rows = mails(120)
    edited = [row for row in rows if before[row[0]] == "sealed"]
    for row in edited[:3]:
        row[2] += " Danke!"
    write_sheet(place / "mails.csv", rows)
    assert invoke(["run", "task.yaml", "--from", "runs/mails", "--out", "runs/on", "--quiet"]) == 0
    after = sides(Path("runs/on"))
    assert {after[row[0]] for row in edited} == {"sealed"}


def test_a_saved_sheet_with_the_same_rows_says_so(place: Path, capsys) -> None:
    write_sheet(place / "mails.csv", mails(120)[::-1])
    assert invoke(["run", "task.yaml"]) == 2
    assert "Its rows say the same as before" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["run task.yaml", "evaluate runs/mails", "train runs/mails"])
def test_a_changed_model_directory_is_no_old_result(place: Path, verb: str, capsys) -> None:
    file = place / "model" / "config.json"
    content = file.read_text()
    try:
        file.write_text(content)  # touched, and the same
        assert invoke([*verb.split(), "--quiet"]) == 0
        capsys.readouterr()
        file.write_text(content.replace("{", "{ ", 1))
        assert invoke(verb.split()) == 2
    finally:
        file.write_text(content)
    told = capsys.readouterr().err
    assert "model/config.json has changed since" in told
    (anew,) = commands(told)  # its weights fit the old model: nothing to go on from
    task = "task.yaml" if verb.startswith("run") else "runs/mails/config.yaml"
    assert anew[2:] == [task, "--data.split_from", "runs/mails", "--out", anew[-1]]


def test_a_changed_grader_is_named_by_run_and_grades_again(place: Path, capsys) -> None:
    grader = place / "mine.py"
    grader.write_text("def grade(example, text):\n    return float(text == example.target)\n")
    flags = ["--evaluate.grader", "mine.py:grade", "--out", "runs/graded", "--data.test", "0"]
    assert invoke(["run", "task.yaml", *flags, "--quiet"]) == 0
    summary = read_json(Path("runs/graded/evaluate/validation/summary.json"))
    grader.write_text("def grade(example, text):\n    return 1.0\n")
    capsys.readouterr()
    assert invoke(["run", "task.yaml", *flags]) == 2
    told = capsys.readouterr().err
    assert "mine.py has changed since" in told and "--out runs/graded-2" in told
    assert "finetooth evaluate runs/graded " in told
    assert read_json(Path("runs/graded/evaluate/validation/summary.json")) == summary
    assert invoke(["evaluate", "runs/graded", "--quiet"]) == 0
    again = read_json(Path("runs/graded/evaluate/validation/summary.json"))
    assert {entry["score"] for entry in again["candidates"]} == {1.0}
    assert invoke(["run", "task.yaml", *flags, "--quiet"]) == 0
