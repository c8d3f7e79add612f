"""train.seeds: the same recipe with several seeds, and what is claimed of the recipe and of the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import finetooth
from models_for_tests import tiny_model_dir
from rich.console import Console

from finetooth.commands import seeds, train
from finetooth.evaluation import ledger
from finetooth.rundir import read_json, read_jsonl, write_json, write_jsonl
from finetooth.runs.context import RunContext

COLORS = {"apple": "red", "banana": "yellow", "plum": "blue"}
ROWS = [{"text": f"{n} of {fruit}", "label": color} for n in range(40) for fruit, color in COLORS.items()]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a task of three seeds and its run, which was stopped in the second training."""
    folder = tmp_path_factory.mktemp("seeds")
    tiny_model_dir(folder / "model")
    write_jsonl(folder / "rows.jsonl", ROWS)
    settings = {"preflight": "off", "max_steps": 6, "select": "loss", "learning_rate": 0.02, "rank": 2}
    data = {"train": "rows.jsonl", "test": 0.3, "validation": 0.3}
    task = {"model": "model", "data": data, "train": {**settings, "seeds": 3}, "evaluate": {"shots": [0]}}
    write_json(folder / "task.yaml", task)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seeds.train, "train", stopping(train.train, at="3"))
        assert finetooth(folder, "run", "task.yaml", "--out", "run").returncode == 130
    assert read_json(folder / "run" / "evaluate" / "summary.json")["split"] == "validation"
    done = finetooth(folder, "run", "task.yaml", "--out", "run", "--json")
    assert done.returncode == 0, done.stderr
    write_json(folder / "said.json", json.loads(done.stdout))
    return folder


def stopping(real: Any, at: str) -> Any:
    def stopped(context: RunContext, needs_grader: bool) -> Any:
        if context.path.name == at:
            raise KeyboardInterrupt
        return real(context, needs_grader)

    return stopped


def test_seeds_are_trainings_of_one_recipe(place: Path) -> None:
    runs = [place / "run", place / "run/seeds/2", place / "run/seeds/3"]
    contexts = [RunContext.of_run(run, Console(quiet=True)) for run in runs]
    assert len({context.tuned().digest() for context in contexts}) == 3
    assert len({context.tuned().digest(adapter=False) for context in contexts}) == 1
    first, *others = (context.task.train.model_dump() for context in contexts)
    for seed, other in enumerate(others, 2):
        differing = {key: other[key] for key in other if other[key] != first[key]}
        assert differing == {"seed": seed, "seeds": 1}
    for name in ("train", "validation"):
        assert len({(run / "data" / f"{name}.jsonl").read_bytes() for run in runs}) == 1


def test_the_recipe_is_claimed_apart_from_the_model(place: Path) -> None:
    said = read_json(place / "said.json")
    recipe = said["recipe"]
    assert said["split"] == "test" and recipe["seeds"] == [1, 2, 3]
    assert recipe["comparison"]["seeds"] == [1, 3] and recipe["comparison"]["baseline"] == "zero-shot"
    for path, score in zip(("run", "run/seeds/2", "run/seeds/3"), recipe["scores"], strict=True):
        summary = read_json(place / path / "evaluate/validation/summary.json")
        tuned = next(one for one in summary["candidates"] if one["name"] == "tuned")
        assert tuned["score"] == pytest.approx(score)
    assert read_json(place / "run/evaluate/validation/summary.json")["recipe"] == recipe
    assert said["words"].endswith(recipe["words"])
    page = (place / "run" / "report.html").read_text("utf-8")
    assert "trainings that differ in the seed" in page and "One training seed" not in page


def test_the_sealed_test_is_for_the_first_seed_alone(place: Path) -> None:
    assert ledger.look_count(place / "run") == 1
    for seed in ("2", "3"):
        assert ledger.look_count(place / "run/seeds" / seed, inherited=False) == 0
        assert ledger.sealed_count(place / "run/seeds" / seed) == ledger.sealed_count(place / "run")
        assert not (place / "run/seeds" / seed / "evaluate/test").exists()


def test_prompts_are_asked_once(place: Path) -> None:
    """The other seeds' evaluations have the prompts' answers on record, word for word."""
    answers = []
    for path in ("run", "run/seeds/2"):
        lines = read_jsonl(place / path / "evaluate/validation/records.jsonl")
        answers.append({(line["id"], line["text"]) for line in lines if line["candidate"] == "zero-shot"})
    assert answers[0] == answers[1] and answers[0]
    metrics = [len(list(read_jsonl(place / path / "train/metrics.jsonl"))) for path in ("run", "run/seeds/2")]
    assert metrics[0] == metrics[1]


def test_a_second_call_does_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {
        file: file.read_bytes() for file in (place / "run").rglob("*.json*") if ".finetooth" not in str(file)
    }
    assert finetooth(place, "run", "task.yaml", "--out", "run").returncode == 0
    assert {file: file.read_bytes() for file in before} == before
    done = finetooth(place, "evaluate", "run", "--json")
    assert (
        done.returncode == 0 and json.loads(done.stdout)["recipe"] == read_json(place / "said.json")["recipe"]
    )


@pytest.mark.full
def test_compare_says_which_claim_it_makes(place: Path) -> None:
    flags = ["--train.learning_rate", "0.001", "--train.max_steps", "1"]
    for out, number in (("other", "3"), ("single", "1")):
        words = ("train", "task.yaml", *flags, "--train.seeds", number, "--out", out)
        assert finetooth(place, *words).returncode == 0
        assert finetooth(place, "evaluate", out).returncode == 0
    done = json.loads(finetooth(place, "compare", "other", "run", "--json").stdout)
    recipe = done["comparisons"][0]["recipe"]
    assert recipe["seeds"] == [3, 3] and done["claim"] == ""
    assert "The recipes, over 3 and 3 seeds" in done["comparisons"][0]["words"]
    scores = read_json(place / "said.json")["recipe"]["scores"]
    assert recipe["scores"][1] == pytest.approx(sum(scores) / 3)
    done = json.loads(finetooth(place, "compare", "single", "run", "--json").stdout)
    assert (
        done["comparisons"][0]["recipe"] is None
        and "claims about models, not about the recipes" in done["claim"]
    )
