"""Prompt or fine-tune, on two real tasks of SmolLM2 whose right recommendation is known."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from public_data import ROOT

import finetooth as ft
from finetooth.rundir import read_jsonl
from finetooth.runs import best_prompt

pytestmark = [pytest.mark.full, pytest.mark.slow, pytest.mark.models("smollm2-135m")]

COLOURS = ("red", "blue", "green", "yellow")
THINGS = ("coat", "bicycle", "kite", "door", "lamp", "cup", "boat", "chair")
SENTENCES = ("She bought a {} {}.", "The {} {} is gone.", "Where is my {} {}?", "A {} {}, nearly new.")
CODES = {"lost": "Q7", "payment": "Z2", "repair": "K9", "fare": "M4"}  # nothing but rows tells what they mean


def recommended(
    rows: list[dict[str, str]], steps: int, out: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """What a run with the ladder recommends."""
    monkeypatch.setattr(best_prompt, "ANSWERS", 150)
    task = {
        "model": "smollm2-135m",
        "data": {"train": rows, "format": "labels", "validation": 0.15, "test": 0.4, "allow": ["leak"]},
        "train": {"batch_size": 16, "epochs": 9, "max_steps": steps, "preflight": "off"},
        "evaluate": {"ladder": True, "retention": False, "limit": 60},
        "seed": 1,
    }
    run = ft.run(task, out, quiet=True)
    names = [entry["name"] for entry in run.summary["candidates"]]
    assert run.summary["split"] == "test" and {"prompt", "tuned+prompt"} <= {*names}
    found: dict[str, Any] = run.to_json()["recommendation"]
    return found


def test_a_task_that_a_few_shots_solve_needs_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {"text": sentence.format(colour, thing), "label": colour}
        for sentence, colour, thing in itertools.product(SENTENCES, COLOURS, THINGS)
    ]
    found = recommended(rows, 4, tmp_path / "run", monkeypatch)
    assert found["outcome"] == "prompting is enough", found["words"]


def test_arbitrary_label_codes_need_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    triage = read_jsonl(ROOT / "examples" / "support-triage" / "train.jsonl")
    rows = [{**row, "label": CODES[row["label"]]} for row in triage if row["label"] in CODES]
    found = recommended(rows, 60, tmp_path / "run", monkeypatch)
    assert found["outcome"] == "fine-tune", found["words"]
