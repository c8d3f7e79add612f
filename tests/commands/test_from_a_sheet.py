"""The newcomer's way through the command line: from a sheet, without a task file, to runs side by side."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from mails_for_tests import HEADER, mails, untidy_mails, write_sheet
from models_for_tests import tiny_model_dir

from finetooth.cli import task_files
from finetooth.cli.app import invoke
from finetooth.rundir import read_json, read_jsonl
from finetooth.runs import sheet_task

QUICK = ["--train.preflight", "off", "--train.rank", "4", "--train.max_steps", "2", "--train.select", "loss"]
QUICK += ["--evaluate.shots", "[0]", "--evaluate.limit", "12", "--model", "./model"]
CP1252 = ["--data.encoding", "cp1252"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    tiny_model_dir(tmp_path / "model")
    write_sheet(tmp_path / "mails.csv", untidy_mails())
    return tmp_path


def one_line(text: str) -> str:
    return " ".join(text.split())


def test_from_a_sheet_to_two_runs_side_by_side(place: Path, capsys) -> None:
    assert invoke(["check", "mails.csv"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1, "one sentence"
    assert "cp1252 (Windows-1252): “Rückerstattung”" in told
    assert told.endswith("If that is right: `finetooth check mails.csv --data.encoding cp1252`\n")

    assert invoke(["check", "mails.csv", *CP1252]) == 2  # nobody to ask
    told = capsys.readouterr().err
    assert "'Nr' is the id" in told and "'Team' is the answer: one of 4 labels" in told
    assert "Betreff: " in told and told.count("→") == 3
    assert "finetooth check mails.csv --data.encoding cp1252 --yes\n" in told
    assert not (place / "task.yaml").exists()

    assert invoke(["check", "mails.csv", *CP1252, *QUICK, "--yes"]) == 0
    shown = capsys.readouterr().out
    assert "6 of 400 rows have an empty cell" not in shown  # an empty subject leaves the other text
    assert "4 of 400 rows have an empty cell" in one_line(shown)
    assert "'technik' (9) for 'Technik'" in one_line(shown) and "Copies of an earlier row" in one_line(shown)
    assert shlex.split(shown.split("Next: ")[1]) == ["finetooth", "run", "task.yaml", *CP1252, *QUICK]
    task = yaml.safe_load((place / "task.yaml").read_text())
    columns = {"Nr": "id", "Betreff": "text", "Text": "text", "Team": "label"}
    assert task["data"] == {"train": "mails.csv", "encoding": "cp1252", "columns": columns}
    written = (place / "task.yaml").read_bytes()

    assert invoke(["run", "mails.csv", "--quiet"]) == 0
    assert (place / "task.yaml").read_bytes() == written
    first = read_json(Path("runs/mails/evaluate/summary.json"))
    assert (first["split"], first["grader"]) == ("test", "label")
    (row, *_) = read_jsonl(Path("runs/mails/data/train.jsonl"))
    assert row["id"].startswith("M-")
    assert re.fullmatch(r"Betreff: .+\nText: Guten Tag,\n.+", row["context"][-1]["content"])

    tomorrow = [row[:3] for row in mails(30, seed=7, first=900)]  # nobody has routed these
    shown = [line["want"] for line in read_jsonl(Path("runs/mails/train/samples.jsonl"))][:3]
    assert len(set(shown)) == 3
    write_sheet(place / "tomorrow.csv", tomorrow, HEADER[:3])
    assert invoke(["predict", "runs/mails", "tomorrow.csv", "--quiet"]) == 0
    routed = (place / "tomorrow.predicted.csv").read_text("cp1252")
    assert routed.startswith("Nr;Betreff;Text;answer;confidence;error")
    assert routed.count(";0.") + routed.count(";1.") == 30

    write_sheet(place / "mails.csv", [*untidy_mails(), *mails(50, seed=5, first=400)])
    capsys.readouterr()
    assert invoke(["run", "mails.csv"]) == 2
    told = capsys.readouterr().err
    assert "mails.csv has changed since" in told and "50 rows added;" in told
    anew = next(line for line in told.splitlines() if "--data.split_from" in line)
    words = shlex.split(re.split(r" {4}", anew.strip())[0])
    assert words[:3] == ["finetooth", "run", "mails.csv"] and words[-1] == "runs/mails-2"
    assert invoke([*words[1:], "--quiet"]) == 0
    capsys.readouterr()
    assert invoke(["compare", "runs/mails", "runs/mails-2", "--json"]) == 0
    compared = json.loads(capsys.readouterr().out)
    assert "mails-2" in json.dumps(compared)
    before, after = (
        {row["id"] for row in read_jsonl(Path(run) / "data/sealed.jsonl")}
        for run in ("runs/mails", "runs/mails-2")
    )
    assert before < after


def test_somebody_at_the_terminal_is_asked(place: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(yes: bool):
        return lambda: lambda text: asked.append(text) or yes

    monkeypatch.setattr(task_files, "asking", answer(False))
    assert invoke(["check", "mails.csv", *CP1252]) == 2
    assert "Nothing was written" in capsys.readouterr().err and not (place / "task.yaml").exists()
    monkeypatch.setattr(task_files, "asking", answer(True))
    assert invoke(["check", "mails.csv", *CP1252, "--quiet"]) == 0
    assert len(asked) == 2 and asked[0].endswith("Is this right?") and (place / "task.yaml").exists()


def test_flags_and_plain_names_need_no_confirmation(place: Path, capsys) -> None:
    columns = ["--data.columns", "{Text: text, Team: label}"]
    found = sheet_task.sheet_task(
        Path("mails.csv"), {"data.encoding": "cp1252", "data.columns": {"Text": "text", "Team": "label"}}
    )
    assert found.roles is None
    assert invoke(["check", "mails.csv", *CP1252, *columns]) == 0
    next_line = capsys.readouterr().out.split("Next: ")[1]
    assert shlex.split(next_line) == ["finetooth", "run", "mails.csv", *CP1252, *columns]
    assert not (place / "task.yaml").exists()


def test_a_subject_is_text_however_few_there_are_and_unused_columns_are_named(place: Path) -> None:
    sheet = [[row[0], f"Frage {n % 5}", row[2], row[3], f"Chef {n % 3}"] for n, row in enumerate(mails(60))]
    write_sheet(place / "few.csv", sheet, [*HEADER, "Bearbeiter"])
    found = sheet_task.sheet_task(Path("few.csv"), {"data.encoding": "cp1252"})
    assert found.roles is not None
    assert found.roles.columns == {"Nr": "id", "Betreff": "text", "Text": "text", "Team": "label"}
    assert "'Bearbeiter' is not used" in found.shown()


def test_a_rejected_row_has_the_row_of_the_sheet_and_its_id(place: Path, capsys) -> None:
    rows = mails(60)
    rows[30][2] = rows[30][1] = ""
    write_sheet(place / "mails.csv", rows)  # the texts have line breaks
    assert invoke(["check", "mails.csv", *CP1252, "--yes"]) == 0
    where = f"{rows[30][0]} (mails.csv, row 32)"
    assert f"{where}: text is empty" in one_line(capsys.readouterr().out)
    (rejected,) = read_jsonl(Path("runs/mails/data/rejected.jsonl"))
    assert rejected["place"] == where and rejected["line"] > 32
    assert where in Path("runs/mails/data/report.html").read_text()


def test_an_existing_task_file_is_never_replaced(place: Path, capsys) -> None:
    (place / "task.yaml").write_text("data: {train: other.csv}\n")
    assert invoke(["check", "mails.csv", *CP1252, "--yes", "--quiet"]) == 0
    assert (place / "task.yaml").read_text() == "data: {train: other.csv}\n"
    assert yaml.safe_load((place / "mails.yaml").read_text())["data"]["train"] == "mails.csv"
    (place / "mails.yaml").write_text("data: {train: other.csv}\n")
    capsys.readouterr()
    assert invoke(["run", "mails.csv", *CP1252, "--yes"]) == 2
    assert "never overwritten" in capsys.readouterr().err
    assert (place / "mails.yaml").read_text() == "data: {train: other.csv}\n"


def test_bad_sheets_and_folders_have_one_message(
    place: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(*words: str) -> str:
        assert invoke([*words]) == 2
        return capsys.readouterr().err

    (place / "empty.csv").write_bytes(b"")
    assert "the file is empty" in told("run", "empty.csv")
    write_sheet(place / "header.csv", [])
    assert "no rows" in told("run", "header.csv")
    assert "no such file" in told("run", "missing.csv")
    write_sheet(place / "amounts.csv", [[str(k), f"{k}.5", "", ""] for k in range(40)])
    assert "no column" in told("run", "amounts.csv")
    twice = [[*row, row[3]] for row in mails(60)]
    write_sheet(place / "twice.csv", twice, [*HEADER, "Thema"])
    message = told("run", "twice.csv", *CP1252)
    assert message.count("  finetooth check twice.csv --data.encoding cp1252 --data.columns") == 2

    def refused(path: Path, text: str) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(sheet_task, "write_text", refused)
    message = told("run", "mails.csv", *CP1252, "--yes")
    assert "task.yaml cannot be written (Permission denied)" in message and "Team: label" in message
    assert not (place / "runs").exists()


def test_a_broken_row_is_set_aside_with_its_row(place: Path, capsys) -> None:
    write_sheet(place / "mails.csv", [[*row[:2], row[2].replace("\n", " "), row[3]] for row in mails(200)])
    lines = (place / "mails.csv").read_bytes().split(b"\r\n")
    lines[40] = b"M-0039;only two fields"
    (place / "mails.csv").write_bytes(b"\r\n".join(lines))
    assert invoke(["check", "mails.csv", *CP1252, "--yes"]) == 0
    assert "mails.csv, row 41: 2 fields where the header has 4" in one_line(capsys.readouterr().out)


def test_a_workbook_is_proposed_like_a_sheet(place: Path, capsys) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    for row in [HEADER, *mails(60)]:
        book.active.append(row)
    book.save(place / "mails.xlsx")
    found = sheet_task.sheet_task(Path("mails.xlsx"), {})
    assert found.roles is not None
    assert found.roles.columns == {"Nr": "id", "Betreff": "text", "Text": "text", "Team": "label"}
    assert invoke(["check", "mails.xlsx", "--yes", "--quiet"]) == 0
    assert yaml.safe_load((place / "task.yaml").read_text())["data"]["train"] == "mails.xlsx"
