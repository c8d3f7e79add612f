"""`predict --candidate bag-of-words`: the word counts of a run answer rows as they were measured."""

from __future__ import annotations

import json
from pathlib import Path

from command_line import finetooth
from models_for_tests import tiny_model_dir

import finetooth as ft
from finetooth.rundir import read_jsonl, write_json

COLORS = {"apple": "red", "banana": "yellow", "plum": "deep blue"}
TASK = {
    "model": "model",
    "data": {"train": "sheet.csv", "columns": {"Frage": "text", "Farbe": "label"}},
    "train": {"preflight": "off", "max_steps": 2, "batch_size": 12, "learning_rate": 0.02, "select": "loss"},
    "evaluate": {"shots": []},
}


def test_the_bag_of_words_answers_as_it_was_measured(tmp_path: Path) -> None:
    """Through the command line, on the rows of the validation split; every answer is that of the records."""
    tiny_model_dir(tmp_path / "model")
    lines = [f"{n} of {fruit}?,{color}" for n in range(12) for fruit, color in COLORS.items()]
    (tmp_path / "sheet.csv").write_text("\n".join(["Frage,Farbe", *lines]))
    asked = [f"{n} of {fruit}?" for n in range(50, 53) for fruit in COLORS]
    (tmp_path / "tomorrow.csv").write_text("\n".join(["Frage", *asked]))
    write_json(tmp_path / "task.yaml", TASK)
    trained = finetooth(tmp_path, "train", "task.yaml", "--out", "runs/fruit", "--quiet")
    assert trained.returncode == 0, trained.stderr
    missing = finetooth(tmp_path, "predict", "runs/fruit", "tomorrow.csv", "--candidate", "bag-of-words")
    assert missing.returncode == 2 and "finetooth evaluate runs/fruit" in missing.stderr
    done = finetooth(tmp_path, "evaluate", "runs/fruit", "--quiet")
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs" / "fruit"
    rows = {
        line["id"]: line["context"][-1]["content"] for line in read_jsonl(run / "data" / "validation.jsonl")
    }
    measured = {
        rows[line["id"]]: line["text"]
        for line in read_jsonl(run / "evaluate" / "validation" / "records.jsonl")
        if line["candidate"] == "bag-of-words"
    }
    assert len(measured) == len(rows) > 3
    found = ft.predict(run, [{"Frage": text} for text in measured], candidate="bag-of-words")
    assert [row["answer"] for row in found] == list(measured.values())
    assert all(1 / 3 <= row["confidence"] <= 1 for row in found)
    words = [
        "predict",
        "runs/fruit",
        "tomorrow.csv",
        "--candidate",
        "bag-of-words",
        "--out",
        "bag.csv",
        "--json",
    ]
    told = json.loads(finetooth(tmp_path, *words).stdout)
    assert (told["rows"], told["answered"], told["asked"]["candidate"]) == (9, 9, "bag-of-words")
    assert sum(told["answers"].values()) == 9
