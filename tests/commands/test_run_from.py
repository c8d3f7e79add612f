"""A run that goes on from another: the same adapter, the same sealed rows, one report."""

from __future__ import annotations

import math
import os
import shlex
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from contexts_for_tests import checked, of_run
from models_for_tests import tiny_model_dir
from processes import FORK
from rich.console import Console
from safetensors.torch import load_file

from finetooth.cli.app import invoke
from finetooth.commands import evaluate, run, train
from finetooth.config.load import load_task
from finetooth.config.task import Task
from finetooth.data.examples import from_json
from finetooth.errors import ConfigError, DataError, TrainError
from finetooth.evaluation import ledger
from finetooth.evaluation.prompts import Prompt
from finetooth.model.api import Model
from finetooth.rundir import read_json, read_jsonl, write_jsonl
from finetooth.runs import next_steps, parent, parent_records, workspace
from finetooth.runs.result_digest import result_digest
from finetooth.training import loop, reference
from finetooth.tree import PrefixTree, Row

QUIET = Console(quiet=True)
ROWS = [{"input": f"{n} and {n % 7} of fruit", "output": "yes" if n % 3 else "no"} for n in range(100)]
OFF = {"train.preflight": "off", "evaluate.shots": [0]}


def task(model: Path, **changes: Any) -> Task:
    values = {
        "model": str(model),
        "data": {"train": ROWS},
        "train": {"batch_size": 16, "learning_rate": 0.01},
    }
    return load_task(values, {**OFF, "train.learning_rate": 0.01, **changes})


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
    renderer = of_run(path).renderer
    rows = [row for line in list(read_jsonl(path / "data" / "train.jsonl"))[:6]
            for row in renderer.rows(from_json(line))]  # fmt: skip
    with torch.no_grad():
        return model.logprobs(PrefixTree.build(rows))


@pytest.fixture(scope="module")
def second(place: Path) -> Path:
    """A run that goes on from the first by rewards, with a learning rate so small that the start shows."""
    reward = {
        "train.method": "grpo",
        "train.group_size": 4,
        "train.max_steps": 2,
        "train.learning_rate": 1e-9,
    }
    chosen = task(place / "model", start=str(place / "first"), seed=5, **{"train.kl": 0.1, **reward})
    return run.run_task(chosen, place / "second", QUIET, sealed=True).path


def test_the_second_run_goes_on_with_the_adapter_and_is_compared_with_the_first(
    place: Path, second: Path
) -> None:
    """Another seed alone would split otherwise."""
    first, summary = place / "first", read_json(second / "evaluate" / "summary.json")
    stored = workspace.load_config(second)
    assert (stored.train.rank, stored.instruction) == (4, "Say yes or no.")
    assert sides(second) == sides(first)
    old, new = (load_file(path / "train/adapter/adapter_model.safetensors") for path in (first, second))
    assert old.keys() == new.keys() and all(torch.allclose(old[name], new[name], atol=1e-6) for name in old)
    tuned = of_run(second).tuned()
    assert torch.allclose(said(tuned, second), said(of_run(first).tuned(), second))
    names = [entry["name"] for entry in summary["candidates"]]
    assert names == ["zero-shot", "start", "tuned"]
    before = read_json(first / "evaluate" / "summary.json")
    scores = {entry["name"]: entry["score"] for entry in summary["candidates"]}
    assert scores["start"] == {entry["name"]: entry["score"] for entry in before["candidates"]}["tuned"]
    notes = {entry["name"]: entry["notes"] for entry in summary["candidates"]}["start"]
    assert notes == [f"answers recorded by {first} on the same test"]
    assert summary["start"]["baseline"] == "start" and summary["start"]["run"] == str(first)
    assert summary["start"]["digest"] == parent.digest(first / "train" / "adapter")
    assert summary["look"] == 2 and "look 2 at the sealed test" in summary["words"]
    assert "not proven better than the run that it continues from" in summary["words"]
    assert str(first) in (second / "report.html").read_text()
    sealed = next(read_jsonl(second / "ledger.jsonl"))
    assert sealed["start"]["run"] == str(first) and sealed["start"]["looks"] == 1
    assert read_json(second / "environment.json")["start"]["digest"] == summary["start"]["digest"]


def test_pairs_of_its_own_answers_are_learned_and_tested_on_the_rows_that_were_sealed(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the command that `pairs` names."""
    first, third = place / "first", place / "first-dpo"
    monkeypatch.chdir(place)
    train_ids = sides(first)["train"]
    lines = [
        {"id": id, "text": text, "score": score, "stop": "stop"}
        for id in train_ids
        for text, score in (("yes", 1.0), ("no fruit", 0.0))
    ]
    write_jsonl(first / "train" / "rollouts.jsonl", lines)
    assert invoke(["pairs", "first", "--out", "pairs.jsonl"]) == 0
    words = shlex.split(capsys.readouterr().out.split("Next: finetooth ")[1])
    (first / "train" / "rollouts.jsonl").unlink()
    assert sum(1 for _ in read_jsonl(place / "pairs.jsonl")) >= len(train_ids)
    flags = {**OFF, "train.max_steps": 6, "train.batch_size": 16, "train.learning_rate": 0.01}
    assert invoke([*words, *next_steps.flag_words(flags), "--sealed", "--quiet"]) == 0
    summary = read_json(third / "evaluate" / "summary.json")
    assert sides(third)["sealed"] == sides(first)["sealed"]
    assert not set(sides(third)["train"]) & set(sides(third)["validation"])
    before = read_json(first / "evaluate" / "summary.json")
    assert (summary["grader"], summary["split"], summary["n"]) == (before["grader"], "test", before["n"])
    assert [entry["name"] for entry in summary["candidates"]] == ["zero-shot", "start", "tuned"]
    assert workspace.load_config(third).train.rank == 4
    metrics = [line for line in read_jsonl(third / "train" / "metrics.jsonl") if "loss" in line]
    assert metrics[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)  # the start is its own reference
    assert metrics[-1]["margin"] > metrics[0]["margin"]


def test_answers_are_written_again_where_they_would_be_others(place: Path, second: Path) -> None:
    """Known answers are those of the same rows, asked alike, by the weights that the first run has now."""
    first = place / "first"
    context, longer = of_run(second), of_run(second)
    assert parent_records.recorded(context, result_digest) is not None
    assert parent_records.recorded(context, lambda context, model: "other weights") is None
    limited = longer.task.evaluate.model_copy(update={"max_tokens": 3})
    longer.task = longer.task.model_copy(update={"evaluate": limited})
    assert parent_records.recorded(longer, result_digest) is None
    known = parent_records.recorded(context, result_digest)
    again = evaluate.candidate(context, "exact", context.parent_model(), Prompt("start"))
    rows = ledger.read_sealed(first)
    text = {answer.index: answer.text for answer in again.predict(rows)}
    assert known is not None and text == {answer.index: answer.text for answer in known.predict(rows)}


def test_the_reference_is_not_the_bare_base(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted, known failure 12: the log-probabilities of the reference are measured without the adapter."""
    real = reference.row_logprobs

    def bare(model: Model, rows: list[Row], budget: int = 64) -> Any:
        with model.peft.disable_adapter():
            return real(model, rows, budget)

    rows = [{"prompt": row["input"], "chosen": "yes", "rejected": "no"} for row in ROWS]
    settings = {"train.method": "dpo", "train.max_steps": 2, "data.train": rows, "train.epochs": 1}
    chosen = task(place / "model", start=str(place / "first"), **settings)
    calls = iter([bare] + [real] * 9)
    monkeypatch.setattr(reference, "row_logprobs", lambda *given: next(calls)(*given))
    with pytest.raises(TrainError, match="must be its own reference"):
        train.run(chosen, place / "planted", QUIET)


@pytest.mark.full
def test_a_continued_run_has_the_same_start(place: Path, tmp_path: Path) -> None:
    """Stopped after two of four steps and taken up again by its directory: the weights are the same."""
    first, whole, broken = place / "first", tmp_path / "whole", tmp_path / "broken"
    steps = {"train.max_steps": 4, "train.save_every": 1, "train.epochs": 1, "train.select": "loss"}
    chosen = task(place / "model", start=str(first), **steps)
    train.run(chosen, whole, QUIET)
    process = FORK.Process(target=dies, args=(chosen, broken))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL and not (broken / "train" / "result.json").exists()
    train.run(broken, None, QUIET)
    one, other = (load_file(run / "train/adapter/adapter_model.safetensors") for run in (whole, broken))
    assert all(torch.equal(one[name], other[name]) for name in one)


def dies(chosen: Task, out: Path) -> None:
    """Train until the third step, and be killed there."""
    real, calls = loop.train_step, iter(range(9))

    def step(*given: Any, **named: Any) -> Any:
        if next(calls) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*given, **named)

    loop.train_step = step
    train.run(chosen, out, QUIET)


def test_what_the_first_run_has_is_not_changed(place: Path, tmp_path: Path) -> None:
    first = str(place / "first")
    wrong = {
        r"train\.rank is 8, but .* was trained with 4": {"train.rank": 8},
        r"train\.adapter is none": {"train.adapter": "none"},
        "nowhere is not a run directory": {"start": str(tmp_path / "nowhere")},
    }
    for words, change in wrong.items():
        with pytest.raises(ConfigError, match=words):
            train.run(task(place / "model", **{"start": first, **change}), tmp_path / "run", QUIET)
    with pytest.raises(ConfigError, match=r"model is .*other"):
        train.run(task(tiny_model_dir(tmp_path / "other"), start=first), tmp_path / "run", QUIET)
    named = load_task({"model": "milktooth", "data": {"train": "rows.jsonl"}, "start": first})
    with pytest.raises(ConfigError, match=r"model is milktooth, but .* was trained with .*Leave model out"):
        parent.inherit_settings(named, QUIET)
    unnamed = load_task({"data": {"train": "rows.jsonl"}, "start": first})
    assert parent.inherit_settings(unnamed, QUIET).model == str(place / "model")
    with pytest.raises(ConfigError, match="--from RUN"):
        adapter = str(place / "first" / "train" / "adapter")
        train.run(task(Path(adapter)), tmp_path / "run", QUIET)


def test_a_test_row_that_the_first_run_was_trained_on_blocks(place: Path) -> None:
    """The second file asks other things, but for one row that the first run was trained on, or has sealed."""
    first = place / "first"
    old = {side: next(read_jsonl(first / "data" / f"{side}.jsonl")) for side in ("train", "sealed")}
    asked = {side: {"input": line["context"][0]["content"], "output": "yes"} for side, line in old.items()}
    fresh = [
        {"input": f"colour number {n} of {n * n}", "output": "yes" if n % 2 else "no"} for n in range(80)
    ]
    files = {"data.train": [*fresh[:50]], "data.test": [*fresh[50:], asked["train"]]}
    report = checked(task(place / "model", start=str(first), **files))
    (leak,) = (finding for finding in report.findings if finding.rule == "leak")
    assert not report.ok and leak.facts["by_side"] == {"test": 1}
    files = {
        "data.train": fresh[:50],
        "data.validation": [*fresh[50:60], asked["sealed"]],
        "data.test": fresh[60:],
    }
    report = checked(task(place / "model", start=str(first), **files))
    (leak,) = (finding for finding in report.findings if finding.rule == "leak")
    assert leak.facts["by_side"] == {"validation": 1} and asked["sealed"]["input"] not in leak.message()
    with pytest.raises(DataError, match="leak"):
        train.run(task(place / "model", start=str(first), **files), place / "leaky", QUIET)
    clean = {**files, "data.validation": fresh[50:60]}
    assert checked(task(place / "model", start=str(first), **clean)).ok


@pytest.mark.full
def test_a_full_fine_tuning_goes_on_from_its_weights(place: Path, tmp_path: Path) -> None:
    few = {"train.max_steps": 2, "train.epochs": 1, "train.learning_rate": 1e-3}
    first, second = tmp_path / "first", tmp_path / "second"
    train.run(task(place / "model", **few, **{"train.adapter": "none"}), first, QUIET)
    summary = run.run_task(task(place / "model", start=str(first), **few), second, QUIET).summary
    stored = workspace.load_config(second)
    assert (stored.train.adapter, stored.model) == ("none", str(place / "model"))
    assert [entry["name"] for entry in summary["candidates"]] == ["zero-shot", "start", "tuned"]
    start = said(of_run(second).parent_model(), second)
    assert torch.equal(start, said(of_run(first).tuned(), second))
    assert summary["look"] == 1  # the first run never opened its test
    (first / "train" / "model" / "model.safetensors").write_bytes(b"other")
    with pytest.raises(ConfigError, match="have changed since this run continued them"):
        of_run(second).parent_model()


def test_a_reward_model_grows_on_the_adapter_and_the_flag_is_from(place: Path, tmp_path: Path) -> None:
    """By the command line; beside the new layer are the first run's matrices. A third run is refused."""
    rows = [{"prompt": row["input"], "chosen": "yes", "rejected": "no"} for row in ROWS]
    write_jsonl(tmp_path / "pairs.jsonl", rows)
    (tmp_path / "task.yaml").write_text(f"model: {place / 'model'}\ndata: {{train: pairs.jsonl}}\n")
    few = ["--train.method", "reward_model", "--train.max_steps", "2", "--train.learning_rate", "1e-9"]
    words = ["train", str(tmp_path / "task.yaml"), "--out", str(tmp_path / "scores"), "--quiet"]
    assert invoke([*words, "--from", str(place / "first"), *few]) == 0
    old = load_file(place / "first" / "train" / "adapter" / "adapter_model.safetensors")
    new = load_file(tmp_path / "scores" / "train" / "adapter" / "adapter_model.safetensors")
    assert all(torch.allclose(old[name], new[name], atol=1e-6) for name in old)
    assert [name for name in new if name not in old] == ["base_model.model.score.weight"]
    with pytest.raises(ConfigError, match="a reward model, which cannot generate text"):
        parent.inherit_settings(task(place / "model", start=str(tmp_path / "scores")), QUIET)
