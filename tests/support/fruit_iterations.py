"""A finished run of a small task in a folder, from which tests train the next iteration."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import planted
import pytest
from command_line import finetooth
from fruit_run import COLORS
from models_for_tests import tiny_model_dir
from rich.console import Console

from finetooth.rundir import read_jsonl, write_json

Row = dict[str, Any]
TASK = {
    "model": "model",
    "data": {
        "train": "sheet.csv",
        "validation": 0.3,
        "encoding": "cp1252",
        "columns": {"Nr": "id", "Frage": "text", "Farbe": "label"},
    },
    "train": {"preflight": "off", "max_steps": 6, "batch_size": 12, "learning_rate": 0.02, "select": "loss"},
    "evaluate": {"shots": []},
}
FRUIT = list(COLORS.items())
ASKED = [*(f"{n} of {FRUIT[n % 3][0]}?" for n in range(120)), *planted.texts(30, seed=2, most=1)]
ROWS = [(f"T{n}", text, FRUIT[n % 3][1]) for n, text in enumerate(ASKED)]
NEW = [
    {"finetooth_change": "add", "Frage": text, "Farbe": "deep blue"}
    for text in ("a crate full of sweet damsons from the hill", "who picked the sloes behind the old mill?")
]
QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def fruit_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a task and its evaluated run runs/fruit, which has opened its test."""
    folder = tmp_path_factory.mktemp("iterations")
    tiny_model_dir(folder / "model")
    text = "\r\n".join(["Nr;Frage;Farbe", *(";".join(row) for row in ROWS)])
    (folder / "sheet.csv").write_text(text, "cp1252", newline="")
    write_json(folder / "fruit.json", TASK)
    done = finetooth(folder, "run", "fruit.json", "--out", "runs/fruit", "--quiet")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def fruit(fruit_runs: Path) -> Iterator[Path]:
    """That folder with that run alone; what a test adds is removed."""
    kept = {path.name for path in fruit_runs.iterdir()}
    yield fruit_runs
    for path in [*(fruit_runs / "runs").glob("fruit-*"), *(fruit_runs / "runs/fruit").glob("errors")]:
        shutil.rmtree(path)
    for path in fruit_runs.iterdir():
        if path.name not in kept:
            path.unlink()


def write(path: Path, rows: list[Row]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def side(path: Path, name: str) -> dict[str, Row]:
    return {row["id"]: row for row in read_jsonl(path / "data" / f"{name}.jsonl")}


def again(place: Path, *words: Any) -> Any:
    return finetooth(place, "run", *words, "--from", "runs/fruit")


def contents(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
