"""A run that goes on from another: the same adapter, the same sealed rows, one report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from models_for_tests import tiny_model_dir
from rich.console import Console
from safetensors.torch import load_file

from finetooth.commands import lineage, run, workspace
from finetooth.commands.evaluate import load_tuned, run_renderer
from finetooth.config import Task
from finetooth.model.api import Model
from finetooth.rundir import read_json, read_jsonl
from finetooth.taskfile import load_task
from finetooth.tree import PrefixTree

QUIET = Console(quiet=True)
ROWS = [{"input": f"{n} and {n % 7} of fruit", "output": "yes" if n % 3 else "no"} for n in range(150)]
OFF = {"train.sentinel": "off", "evaluate.shots": [0]}


def task(model: Path, **changes: Any) -> Task:
    values = {
        "model": str(model),
        "data": {"train": ROWS},
        "train": {"batch_size": 16, "learning_rate": 0.01},
    }
    return load_task(values, {**OFF, **changes})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, and a run that has learned a little, with its test opened once."""
    folder = tmp_path_factory.mktemp("place")
    tiny_model_dir(folder / "model")
    first = task(folder / "model", **{"train.rank": 4, "train.epochs": 3, "instruction": "Say yes or no."})
    run.run_task(first, folder / "first", QUIET)
    return folder


def sides(path: Path) -> dict[str, list[str]]:
    names = ("train", "validation", "sealed")
    return {name: [row["id"] for row in read_jsonl(path / "data" / f"{name}.jsonl")] for name in names}


def said(model: Model, path: Path) -> torch.Tensor:
    """Log-probabilities of what some rows of the run hold, rendered as this run renders them."""
    renderer = run_renderer(workspace.load_config(path), path)
    from finetooth.data.examples import from_json

    rows = [row for line in list(read_jsonl(path / "data" / "train.jsonl"))[:6]
            for row in renderer.rows(from_json(line))]  # fmt: skip
    with torch.no_grad():
        return model.logprobs(PrefixTree.build(rows))


def test_the_second_run_goes_on_with_the_adapter_and_is_compared_with_the_first(place: Path) -> None:
    """Another seed alone would split otherwise; and the learning rate is so small that the start shows."""
    first, second = place / "first", place / "second"
    reward = {
        "train.method": "grpo",
        "train.group_size": 4,
        "train.max_steps": 2,
        "train.learning_rate": 1e-9,
    }
    chosen = task(place / "model", start=str(first), seed=5, **{"train.kl": 0.1, **reward})
    summary = run.run_task(chosen, second, QUIET).summary
    stored = workspace.load_config(second)
    assert (stored.train.rank, stored.instruction) == (4, "Say yes or no.")
    assert sides(second) == sides(first)
    old, new = (load_file(path / "train/adapter/adapter_model.safetensors") for path in (first, second))
    assert old.keys() == new.keys() and all(torch.allclose(old[name], new[name], atol=1e-6) for name in old)
    tuned = load_tuned(stored, second)
    assert torch.allclose(said(tuned, second), said(load_tuned(workspace.load_config(first), first), second))
    names = [entry["name"] for entry in summary["candidates"]]
    assert names == ["zero-shot", "start", "tuned"]
    before = read_json(first / "evaluate" / "summary.json")
    scores = {entry["name"]: entry["score"] for entry in summary["candidates"]}
    assert scores["start"] == {entry["name"]: entry["score"] for entry in before["candidates"]}["tuned"]
    assert summary["start"]["baseline"] == "start" and summary["start"]["run"] == str(first)
    assert summary["start"]["digest"] == lineage.digest(first / "train" / "adapter")
    assert summary["look"] == 2 and "look 2 at the sealed test" in summary["words"]
    assert "not proven better than the run that it went on from" in summary["words"]
    assert str(first) in (second / "report.html").read_text()
    sealed = next(read_jsonl(second / "ledger.jsonl"))
    assert sealed["start"]["run"] == str(first) and sealed["start"]["looks"] == 1
    assert read_json(second / "environment.json")["start"]["digest"] == summary["start"]["digest"]
