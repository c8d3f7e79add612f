"""`finetooth predict`: tomorrow's rows in, the same rows with answers out, whatever happens in between."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import signal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from command_line import finetooth
from contexts_for_tests import of_run
from fruit_run import COLORS, ROWS, SHEET, fruit_run, predict
from processes import Launched

import finetooth as ft
from finetooth.commands.run import Run
from finetooth.evaluation.candidates import ModelCandidate
from finetooth.rundir import read_jsonl
from finetooth.runs import predictions
from finetooth.runs.predictions import PredictionLog, RowAnswer


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fruit_run(tmp_path_factory.mktemp("place"))


@pytest.fixture
def tomorrow(place: Path, tmp_path: Path) -> Path:
    """The sheet of tomorrow, without labels, in a folder of its own."""
    path = tmp_path / "tomorrow.csv"
    path.write_bytes((place / "tomorrow.csv").read_bytes())
    return path


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text), delimiter=";"))


def test_the_same_rows_come_back_with_answers(place: Path, tomorrow: Path) -> None:
    done = predict(place, tomorrow, "--json")
    assert done.returncode == 0, done.stderr
    out = tomorrow.with_name("tomorrow.predicted.csv")
    written = out.read_bytes().decode("cp1252")
    before = SHEET.splitlines()
    assert [line[: len(old)] for line, old in zip(written.splitlines(), before, strict=True)] == before
    rows = table(written)
    assert list(rows[0]) == ["Nr", "Frage", "Größe", "answer", "confidence", "error"]
    assert {row["answer"] for row in rows} <= set(COLORS.values()) and len(rows) == 9
    assert all(0 < float(row["confidence"]) <= 1 and row["error"] == "" for row in rows)
    result = json.loads(done.stdout)
    assert (result["rows"], result["answered"], result["errors"], result["resumed"]) == (9, 9, 0, 0)
    assert result["asked"]["labels"] == sorted(COLORS.values())
    assert sum(result["answers"].values()) == 9
    assert tomorrow.read_bytes() == SHEET.encode("cp1252")
    assert sorted(path.name for path in tomorrow.parent.iterdir()) == [
        "tomorrow.csv",
        "tomorrow.predicted.csv",
    ]
    again = predict(place, tomorrow)
    assert again.returncode == 2 and "--force" in again.stderr
    assert out.read_bytes().decode("cp1252") == written
    assert predict(place, tomorrow, "--force", "--quiet").returncode == 0
    assert out.read_bytes().decode("cp1252") == written


def test_confidence_is_the_probability_among_the_labels(place: Path) -> None:
    run, labels = place / "runs" / "fruit", sorted(COLORS.values())
    found = ft.predict(run, [{"Frage": text} for text, _ in ROWS[:4]])
    tuned, renderer = of_run(run).tuned(), of_run(run).renderer
    for row in found:
        messages = [ft.Message("user", row["Frage"])]
        context = renderer.context_row(messages).tokens.tolist()
        answers = [renderer.answer_ids(messages, label) for label in labels]
        rows = [ft.Row([*context, *ids], [0.0] * len(context) + [1.0] * len(ids)) for ids in answers]
        tree = ft.PrefixTree.build(rows)
        with torch.no_grad():
            logp_M = tuned.logprobs(tree).double()
        total_R = torch.zeros(len(labels), dtype=torch.float64)
        total_R.index_add_(0, torch.tensor(tree.row_M), logp_M)
        probability = dict(zip(labels, total_R.softmax(0).tolist(), strict=True))
        assert row["confidence"] == pytest.approx(probability[row["answer"]], abs=2e-4)
        assert probability[row["answer"]] == max(probability.values())


def test_answers_below_the_threshold_are_unsure(place: Path, tomorrow: Path) -> None:
    rows = table(predict(place, tomorrow, "--out", "-", "--quiet").stdout)
    middle = sorted(float(row["confidence"]) for row in rows)[4]
    unsure = table(predict(place, tomorrow, "--out", "-", "--unsure-below", middle, "--quiet").stdout)
    for old, new in zip(rows, unsure, strict=True):
        low = float(old["confidence"]) < middle
        assert new["answer"] == ("unsure" if low else old["answer"])
        assert new["confidence"] == old["confidence"]
    assert 0 < sum(row["answer"] == "unsure" for row in unsure) < 9


def test_rows_that_cannot_be_asked_are_kept_with_their_reason(place: Path, tmp_path: Path) -> None:
    rows = [{"Frage": "1 of apple?", "n": 1}, {"Frage": ""}, {"Frage": "word " * 300}, {"n": 4}]
    lines = [*map(json.dumps, rows), "{broken", json.dumps({"Frage": "1 of apple?"})]
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    done = predict(place, tmp_path / "in.jsonl", "--json")
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in (tmp_path / "in.predicted.jsonl").read_text().splitlines()]
    assert [bool(row["answer"]) for row in found] == [True, False, False, False, False, True]
    reasons = ["text is empty", "has a context of", "text is empty", "not valid JSON"]
    assert all(reason in row["error"] for reason, row in zip(reasons, found[1:5], strict=True))
    assert found[4]["row"] == "{broken" and found[0]["answer"] == found[5]["answer"]
    assert json.loads(done.stdout)["errors"] == 4
    none = predict(place, "-", given="Frage\n \n")
    assert none.returncode == 1 and "text is empty" in none.stdout


def test_a_pipe_goes_through(place: Path) -> None:
    done = predict(place, "-", "--quiet", given="Frage,id\n1 of apple?,7\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "Frage,id,answer,confidence,error"
    assert done.stdout.splitlines()[1].startswith("1 of apple?,7,")


def test_the_columns_of_another_sheet_are_named(place: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id,body,answer\n1,1 of apple?,\n")
    done = predict(place, tmp_path / "in.csv", "--quiet")
    assert done.returncode == 2
    assert "no column 'Frage'" in done.stderr and '--columns "{id: text}"' in done.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "in.csv"]
    done = predict(place, tmp_path / "in.csv", "--columns", "{body: text}")
    assert done.returncode == 0, done.stderr
    assert "answer is in predicted_answer" in done.stdout
    header, row = (tmp_path / "in.predicted.csv").read_text().splitlines()
    assert header == "id,body,answer,predicted_answer,confidence,error"
    assert row.startswith("1,1 of apple?,,")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["nothing.csv"], "no such file"),
        (["model"], "a folder"),
        (["tomorrow.csv", "--out", "tomorrow.csv", "--force"], "never overwritten"),
        (["tomorrow.csv", "--out", "answers.jsonl"], "in the format of the input, .csv"),
        (["tomorrow.csv", "--out", "model"], "is a folder"),
        (["tomorrow.csv", "--columns", "text"], "expected a mapping"),
        (["tomorrow.csv", "--columns", "{Frage: question}"], "the role must be one of"),
        (["tomorrow.csv", "--columns", "{Text: text}"], "has no column 'Text'"),
        (["tomorrow.csv", "--encoding", "cp9999"], "the name of an encoding"),
        (["tomorrow.csv", "--encoding", "utf-8"], "not UTF-8"),
        (["-", "--json"], "--out FILE"),
        (["tomorrow.csv", "--unsure-below", "2"], "--unsure-below"),
    ],
)
def test_a_mistake_is_one_message(place: Path, words: list[str], expected: str) -> None:
    before = sorted(path.name for path in place.iterdir())
    done = predict(place, *words)
    assert done.returncode == 2, done.stdout
    assert expected in done.stderr and "Traceback" not in done.stderr
    assert sorted(path.name for path in place.iterdir()) == before


def test_an_encoding_is_named_with_this_verbs_flag(place: Path, tmp_path: Path) -> None:
    text = "Frage;Ort\r\n" + "".join(f"{n} of apple für Müller?;Köln\r\n" for n in range(20))
    (tmp_path / "in.csv").write_bytes(text.encode("cp1252"))
    done = predict(place, tmp_path / "in.csv", "--encoding", "utf-8")
    assert done.returncode == 2 and "`--encoding cp1252`" in done.stderr, done.stderr
    assert "data.encoding" not in done.stderr


def test_what_is_no_run_and_no_model_is_named_as_such(place: Path, tmp_path: Path) -> None:
    for verb in (["predict", tmp_path, place / "tomorrow.csv"], ["chat", tmp_path]):
        done = finetooth(place, *verb, given="hi")
        assert done.returncode == 2
        assert "neither a run" in done.stderr and "nor a model" in done.stderr


def test_a_model_without_a_run_answers_freely(place: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("message,id\nhello,1\n")
    threshold = finetooth(place, "predict", "model", tmp_path / "in.csv", "--unsure-below", 0.5)
    assert threshold.returncode == 2 and "free text has no confidence" in threshold.stderr
    missing = finetooth(place, "predict", "model", tmp_path / "in.csv")
    assert missing.returncode == 2 and '--columns "{message: text}"' in missing.stderr
    words = ("model", tmp_path / "in.csv", "--columns", "{message: text}", "--out", "-", "--quiet")
    done = finetooth(place, "predict", *words)
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    asked = finetooth(place, "chat", "model", "--json", given="hello\n")
    assert row["answer"].encode() == json.loads(asked.stdout)["turns"][0]["answers"][0]["text"].encode()


def test_rows_in_memory_come_back_as_they_came(place: Path) -> None:
    run = Run(place / "runs" / "fruit", {})
    frame = pd.DataFrame({"Frage": ["1 of apple?", "2 of plum?"], "n": [1.5, None]}, index=[7, 3])
    found = run.predict(frame)
    assert found[["Frage", "n"]].equals(frame) and list(found.columns) == [
        "Frage",
        "n",
        "answer",
        "confidence",
        "error",
    ]
    rows = [{"Frage": "1 of apple?"}, {"Frage": None}, {"Frage": "2 of plum?"}]
    listed = run.predict(rows)
    assert [row["answer"] for row in listed] == [found["answer"][7], None, found["answer"][3]]
    assert listed[1]["error"] == "text is empty" and rows[0] == {"Frage": "1 of apple?"}
    assert [row["answer"] for row in run.predict(rows, unsure_below=1.0)][1] is None


def test_rows_with_the_same_prompt_are_asked_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real = ModelCandidate.answers

    def answers(self: ModelCandidate, contexts: Any, confidence: bool = False) -> Any:
        asked.append(len(contexts))
        return real(self, contexts, confidence)

    monkeypatch.setattr(ModelCandidate, "answers", answers)
    monkeypatch.setattr(predictions, "CHUNK", 4)
    rows = [
        {"Frage": text} for text in ("1 of apple?", "2 of plum?", "1 of apple?", "3 of plum?", "1 of apple?")
    ]
    found = ft.predict(place / "runs" / "fruit", rows)
    assert asked == [3, 1]
    assert len({row["answer"] for row in found if row["Frage"] == "1 of apple?"}) == 1


# ---- killed


def _killed(target: str, source: str, at: int) -> None:
    """`finetooth predict`, killed once this many more answers are in its log (0: never)."""
    real, done = PredictionLog.add, 0

    def add(self: PredictionLog, place: int, answer: RowAnswer) -> None:
        nonlocal done
        real(self, place, answer)
        done += 1
        if done == at:
            os.kill(os.getpid(), signal.SIGKILL)

    PredictionLog.add = add  # type: ignore[method-assign]
    from finetooth.cli.app import main

    main(["predict", target, source, "--json"])


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.full)])
def test_killed_at_random_rows_the_output_is_whole(place: Path, tmp_path: Path, kills: int) -> None:
    draw = random.Random(kills)
    rows = [f"{n} of {draw.choice([*COLORS])}?" for n in range(4 * kills)]
    source = tmp_path / "in.csv"
    source.write_text("Frage,n\n" + "".join(f"{text},{n}\n" for n, text in enumerate(rows)))
    out, log = tmp_path / "in.predicted.csv", tmp_path / ".in.predicted.csv.progress"
    run = str(place / "runs" / "fruit")
    answered: list[int] = []
    for _ in range(kills):
        assert Launched(_killed, (run, str(source), draw.randint(1, 3)), tmp_path).wait() == -signal.SIGKILL
        assert not out.exists()
        places = [line["place"] for line in read_jsonl(log) if "place" in line]
        assert places[: len(answered)] == answered and len(set(places)) == len(places) > len(answered)
        answered = places
        if draw.random() < 0.5:  # a kill may also cut a line
            with log.open("ab") as file:
                file.write(b'{"place": 99999, "answ')
    code, text, errors = Launched(_killed, (run, str(source), 0), tmp_path).end()
    assert code == 0, errors
    assert json.loads(text)["resumed"] == len(answered)
    assert not log.exists()
    written = list(csv.DictReader(io.StringIO(out.read_text())))
    straight = ft.predict(run, [{"Frage": text} for text in rows])
    assert [(row["Frage"], row["n"], row["answer"]) for row in written] == [
        (text, str(n), row["answer"]) for n, (text, row) in enumerate(zip(rows, straight, strict=True))
    ]


def test_killed_before_its_log_is_removed(
    place: Path, tomorrow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tomorrow.with_name("tomorrow.predicted.csv")
    monkeypatch.setattr(PredictionLog, "remove", lambda log: None)
    assert predict(place, tomorrow, "--quiet").returncode == 0
    written = out.read_bytes()
    monkeypatch.undo()
    done = predict(place, tomorrow, "--json")
    assert (done.returncode, json.loads(done.stdout)["resumed"], out.read_bytes()) == (0, 9, written)
    assert sorted(path.name for path in tomorrow.parent.iterdir()) == ["tomorrow.csv", out.name]
    monkeypatch.setattr(PredictionLog, "remove", lambda log: None)
    assert predict(place, tomorrow, "--force", "--quiet").returncode == 0
    out.write_bytes(b"mine")
    assert predict(place, tomorrow).returncode == 2 and out.read_bytes() == b"mine"


def test_a_row_without_an_answer_is_named_as_a_spreadsheet_shows_it(place: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text('id,Frage\nT-1,"1 of\napple?"\nT-2,\n')
    done = predict(place, tmp_path / "in.csv", "--columns", "{id: id}")
    assert done.returncode == 0, done.stderr
    assert "T-2 (row 3): text is empty" in done.stdout
