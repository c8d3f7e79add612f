"""A small run of labels, made of a sheet in Windows-1252, and the verb `predict` on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from command_line import finetooth
from models_for_tests import tiny_model_dir

from finetooth.rundir import write_json

COLORS = {"apple": "red", "banana": "yellow", "plum": "deep blue"}
ROWS = [(f"{n} of {fruit}?", color) for n in range(12) for fruit, color in COLORS.items()]
TASK = {
    "model": "model",
    "data": {"train": "sheet.csv", "encoding": "cp1252", "columns": {"Frage": "text", "Farbe": "label"}},
    "train": {"preflight": "off", "max_steps": 12, "batch_size": 12, "learning_rate": 0.02, "select": "loss"},
    "evaluate": {"shots": []},
}
SHEET = "Nr;Frage;Größe\r\n" + "".join(f"{n};{n} of {f}?;groß\r\n" for n in range(50, 53) for f in COLORS)


def fruit_run(folder: Path) -> Path:
    """The folder with the run runs/fruit, its model, and tomorrow.csv, a sheet without labels."""
    tiny_model_dir(folder / "model")
    lines = [f"{text};{label};süß" for text, label in ROWS]
    (folder / "sheet.csv").write_text("\r\n".join(["Frage;Farbe;Rest", *lines]), "cp1252", newline="")
    write_json(folder / "task.yaml", TASK)
    done = finetooth(folder, "train", "task.yaml", "--out", "runs/fruit", "--quiet")
    assert done.returncode == 0, done.stderr
    (folder / "tomorrow.csv").write_text(SHEET, "cp1252", newline="")
    return folder


def predict(place: Path, *words: Any, given: str | bytes = "") -> Any:
    return finetooth(place, "predict", "runs/fruit", *words, given=given)
