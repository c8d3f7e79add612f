"""Law 13, measured = used: `chat` and `predict` answer a row as its record in the evaluation says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import finetooth
from models_for_tests import tiny_model_dir
from trained_elsewhere import merged, train_adapter

import finetooth as ft
from finetooth.data.render.renderer import Renderer
from finetooth.rundir import read_jsonl, write_json, write_jsonl
from finetooth.runs import asking as asks
from finetooth.runs.asking import Asking
from finetooth.runs.context import RunContext

COLORS = {"apple": "red", "banana": "yellow", "plum": "blue"}
SYSTEM = "Say the color of the fruit."
ROWS = [
    (f"r{n}{fruit}", f"<b>{n}</b> of {fruit}?", color) for n in range(8) for fruit, color in COLORS.items()
]
TRAIN = {"preflight": "off", "max_steps": 3, "batch_size": 4, "learning_rate": 0.03, "select": "loss"}
KINDS: dict[str, dict[str, Any]] = {
    "labels": {
        "rows": [{"id": i, "text": q, "label": a, "system": SYSTEM} for i, q, a in ROWS],
        "instruction": "Answer.",
        "evaluate": {"grader": "label"},
    },
    "free": {
        "rows": [{"id": i, "instruction": SYSTEM, "input": q, "output": a} for i, q, a in ROWS],
        "clean": ["strip_html"],
        "evaluate": {"grader": "exact"},
    },
    "json": {
        "rows": [{"id": i, "prompt": q, "completion": json.dumps({"color": a})} for i, q, a in ROWS],
        "evaluate": {"grader": "json", "temperature": 0.7},
    },
    "preference": {
        "rows": [{"id": i, "prompt": q, "chosen": a, "rejected": "no"} for i, q, a in ROWS],
        "train": {"method": "dpo"},
        "evaluate": {"grader": "chrf"},
    },
    "reward": {
        "rows": [{"id": i, "text": q, "label": a} for i, q, a in ROWS],
        "train": {"method": "grpo", "reward": "chrf", "group_size": 4, "truncated": "keep"},
        "evaluate": {"grader": "label"},
    },
    "adapter": {
        "rows": [{"id": i, "prompt": q, "completion": a} for i, q, a in ROWS],
        "instruction": "Answer.",
        "evaluate": {"grader": "chrf"},
        "elsewhere": True,
    },
    "merged": {
        "rows": [{"id": i, "text": q, "label": a, "system": SYSTEM} for i, q, a in ROWS],
        "evaluate": {"grader": "label"},
        "elsewhere": True,
    },
}  # fmt: skip
ANSWERS = ("label", "output", "completion", "chosen", "rejected")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A model, and room for the runs; the architecture is proven once for all of them."""
    folder = tmp_path_factory.mktemp("place")
    tiny_model_dir(folder / "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINETOOTH_CACHE", str(folder / "cache"))
        yield folder


@pytest.fixture(scope="module")
def run_of(place: Path) -> Callable[[str], Path]:
    """The evaluated run of each kind, made when it is first asked for."""

    def made(kind: str) -> Path:
        path, about = place / kind, KINDS[kind]
        if not path.exists():
            write_jsonl(place / f"{kind}.jsonl", about["rows"])
            task = {
                "model": "model",
                "instruction": about.get("instruction", ""),
                "data": {
                    "train": f"{kind}.jsonl",
                    "validation": 0.4,
                    "test": 0,
                    "clean": about.get("clean", []),
                },
                "train": TRAIN | about.get("train", {}),
                "evaluate": {"shots": [], "max_tokens": 8, **about["evaluate"]},
            }
            write_json(place / f"{kind}.yaml", task)
            steps: list[tuple[Any, ...]] = [("train", f"{kind}.yaml", "--out", path), ("evaluate", path)]
            if about.get("elsewhere"):  # trained by transformers and PEFT alone
                adapter = train_adapter(place / "model", [(q, a) for _, q, a in ROWS[:6]], place / "lora", 6)
                merged(place / "model", adapter, place / "whole")
                name = "lora" if kind == "adapter" else "whole"
                steps = [("evaluate", name, f"{kind}.yaml", "--out", path)]
            for words in steps:
                done = finetooth(place, *words, "--quiet")
                assert done.returncode == 0, done.stderr
        return path

    return made


def differences(run: Path, kind: str) -> list[str]:
    """Where chat or predict answer a row of the evaluation in another way, or ask it with other tokens."""
    lines = [
        line for line in read_jsonl(run / "evaluate/validation/records.jsonl") if line["candidate"] == "tuned"
    ]
    assert len(lines) > 2
    rows = {row["id"]: row for row in KINDS[kind]["rows"]}
    asked = [{key: value for key, value in rows[line["id"]].items() if key not in ANSWERS} for line in lines]
    predicted = ft.predict(run, asked)
    questions = "".join(f"{row.get('text') or row.get('input') or row['prompt']}\n" for row in asked)
    done = finetooth(run.parent, "chat", run, "--json", given=questions)
    assert done.returncode == 0, done.stderr
    turns = json.loads(done.stdout)["turns"]
    assert len(turns) == len(predicted) == len(lines)
    found = []
    for line, row, turn in zip(lines, predicted, turns, strict=True):
        (reply,) = turn["answers"]
        if row["answer"] != line["text"]:
            found.append(f"predict: {row['answer']!r} for {line['text']!r}")
        if reply["text"] != line["text"]:
            found.append(f"chat: {reply['text']!r} for {line['text']!r}")
        if reply["prompt_tokens"] != line["prompt_tokens"]:
            found.append(f"chat: {reply['prompt_tokens']} tokens for {line['prompt_tokens']}")
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_measured_is_what_is_used(kind: str, run_of: Callable[[str], Path]) -> None:
    assert differences(run_of(kind), kind) == []


def system_dropped(asking: Asking) -> Asking:
    return replace(asking, system="")


def constraint_missing(asking: Asking) -> Asking:
    return replace(asking, candidate=replace(asking.candidate, labels=None))


def template_changed(asking: Asking) -> Asking:
    renderer = Renderer(
        asking.candidate.renderer.tokenizer, "instruction", asking.candidate.renderer.instruction
    )
    return replace(asking, candidate=replace(asking.candidate, renderer=renderer))


def not_cleaned(asking: Asking) -> Asking:
    return replace(asking, clean=())


@pytest.mark.parametrize(
    ("kind", "plant"),
    [("free", system_dropped), ("labels", constraint_missing), ("reward", constraint_missing),
     ("free", template_changed), ("free", not_cleaned), ("adapter", template_changed),
     ("merged", constraint_missing)],
)  # fmt: skip
def test_planted_differences_are_found(
    kind: str,
    plant: Callable[[Asking], Asking],
    run_of: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, real = run_of(kind), asks.of_run
    monkeypatch.setattr(asks, "of_run", lambda *given: plant(real(*given)))
    found = differences(run, kind)
    assert {line.split(":")[0] for line in found} == {"chat", "predict"} or plant is system_dropped
    assert any(line.startswith("chat") for line in found)


def test_the_rows_system_message_is_sent_by_predict_too(
    run_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted: rows without the column of the system message, which the run's rows all share."""
    run = run_of("free")
    asked = [{"input": question} for _, question, _ in ROWS[:4]]
    whole = [{"instruction": SYSTEM, **row} for row in asked]
    answers = [row["answer"] for row in ft.predict(run, whole)]
    assert [row["answer"] for row in ft.predict(run, asked)] == answers
    real = asks.of_run
    monkeypatch.setattr(asks, "of_run", lambda *given: replace(system_dropped(real(*given)), always=False))
    assert [row["answer"] for row in ft.predict(run, asked)] != answers


def test_an_adapter_that_is_not_loaded_is_found(
    run_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of("free")
    monkeypatch.setattr(RunContext, "tuned", lambda context: context.load())
    assert {line.split(":")[0] for line in differences(run, "free")} == {"chat", "predict"}
