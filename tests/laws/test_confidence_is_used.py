"""Law 13 for confidence: records, `predict`, `chat` and Python give a row the same calibrated confidence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import finetooth
from models_for_tests import tiny_model_dir

import finetooth as ft
from finetooth.evaluation import calibration
from finetooth.rundir import read_json, read_jsonl, write_json, write_jsonl

COLORS = {"apple": "red", "banana": "yellow", "plum": "blue"}
ROWS = [
    {"id": f"r{n}{fruit}", "text": f"{n} of {fruit}?", "label": color}
    for n in range(12)
    for fruit, color in COLORS.items()
]


def test_the_confidence_that_was_measured_is_the_one_that_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINETOOTH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(calibration, "MIN_ROWS", 5)
    tiny_model_dir(tmp_path / "model")
    write_jsonl(tmp_path / "rows.jsonl", ROWS)
    train = {"preflight": "off", "max_steps": 3, "batch_size": 4, "learning_rate": 0.03, "select": "loss"}
    task = {
        "model": "model",
        "data": {"train": "rows.jsonl", "validation": 0.4, "test": 0.2},
        "train": train,
        "evaluate": {"shots": [0], "cost_wrong": 3, "cost_handover": 1},
    }
    write_json(tmp_path / "task.yaml", task)
    run = tmp_path / "run"
    done = finetooth(tmp_path, "run", "task.yaml", "--out", run, "--quiet")
    assert done.returncode == 0, done.stderr
    stored = read_json(run / "evaluate" / "calibration.json")
    assert stored["temperature"] != 1 and stored["threshold"] == pytest.approx(2 / 3)
    for split in ("validation", "test"):
        records = [*read_jsonl(run / "evaluate" / split / "records.jsonl")]
        lines = [line for line in records if line["candidate"] == "tuned"]
        assert not any("confidence" in line for line in records if line["candidate"] != "tuned")
        texts = {row["id"]: row["text"] for row in ROWS}
        asked = [{"text": texts[line["id"]]} for line in lines]
        predicted = ft.predict(run, asked)
        done = finetooth(tmp_path, "chat", run, "--json", given="".join(f"{row['text']}\n" for row in asked))
        replies = [turn["answers"][0] for turn in json.loads(done.stdout)["turns"]]
        opened = ft.Run.open(run)
        for line, row, reply in zip(lines, predicted, replies, strict=True):
            unsure = line["confidence"] < stored["threshold"]
            assert row["confidence"] == pytest.approx(line["confidence"], abs=2e-4)
            assert reply["confidence"] == pytest.approx(line["confidence"], abs=2e-4)
            assert (row["answer"], reply["unsure"]) == ("unsure" if unsure else line["text"], unsure)
            answer, confidence = opened.ask_with_confidence(texts[line["id"]])
            assert (answer, confidence) == (row["answer"], row["confidence"])
        summary = read_json(run / "evaluate" / split / "summary.json")
        measured = summary["calibration"]
        assert measured["temperature"] == stored["temperature"] and measured["decision"]["n"] == len(lines)
    everything = ft.predict(run, asked, unsure_below=0)
    assert [row["answer"] for row in everything] == [line["text"] for line in lines]
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Confidence" in page and 'class="reliability"' in page

    def forgetful(*given: object, **more: object) -> calibration.Calibration:
        return calibration.Calibration()

    monkeypatch.setattr(
        "finetooth.runs.confidence.of_run", forgetful
    )  # planted: asked without the temperature
    changed = ft.predict(run, asked)
    assert any(
        abs(row["confidence"] - line["confidence"]) > 1e-3 for row, line in zip(changed, lines, strict=True)
    )
