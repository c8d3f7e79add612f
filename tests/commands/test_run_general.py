"""Neighbouring tasks (evaluate.general): what is asked of both models, and what never is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import finetooth
from gate import gate
from html_for_tests import Page, harmless
from models_for_tests import tiny_model_dir

from finetooth.evaluation.candidates import ModelCandidate
from finetooth.evaluation.general import FILE, task_result
from finetooth.rundir import read_json, read_jsonl, write_json, write_jsonl

COLORS = {"apple": "red", "banana": "yellow", "plum": "blue"}
ROWS = [{"text": f"{n} of {f}", "label": c} for n in range(14) for f, c in COLORS.items()]
SUMS = [{"question": f"{a} plus {b}?", "answer": str(a + b)} for a in range(9) for b in range(9)]
SHARED = [{"text": row["text"], "label": "fruit"} for row in ROWS]
MORE = [{"text": f"{n} {word}", "label": "tool"} for n in range(20) for word in ("saw", "hammer")]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A task with two neighbours: sums, and words, of which half are rows of the task itself."""
    monkeypatch.setenv("FINETOOTH_CACHE", str(tmp_path / "cache"))
    tiny_model_dir(tmp_path / "base")
    (tmp_path / "near").mkdir()
    write_jsonl(tmp_path / "fruit.jsonl", ROWS)
    write_jsonl(tmp_path / "near" / "sums.jsonl", SUMS)
    write_jsonl(tmp_path / "near" / "words.jsonl", [*SHARED, *MORE])
    sums = {"model": "none", "instruction": "Add the two numbers.", "data": {"train": "sums.jsonl"}}
    write_json(tmp_path / "near" / "sums.yaml", {**sums, "evaluate": {"grader": "number"}})
    words = {"name": "words", "model": "none", "data": {"train": "words.jsonl", "test": 0.3}}
    write_json(tmp_path / "near" / "words.yaml", words)
    task = {
        "model": "base",
        "data": {"train": "fruit.jsonl", "validation": 0.3, "test": 0.2},
        "train": {"preflight": "off", "max_steps": 2, "select": "loss"},
        "evaluate": {"shots": [0], "general": ["near/sums.yaml", "near/words.yaml"]},
    }
    write_json(tmp_path / "task.yaml", task)
    return tmp_path


def test_both_models_answer_the_same_rows_with_the_other_tasks_prompt(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[tuple[str, str], list[Any]] = {}
    real = ModelCandidate.answers

    def answers(self: ModelCandidate, contexts: Any, *given: Any, **more: Any) -> Any:
        asked.setdefault((self.renderer.instruction, self.name), []).extend(contexts)
        return real(self, contexts, *given, **more)

    monkeypatch.setattr(ModelCandidate, "answers", answers)
    done = finetooth(place, "run", "task.yaml", "--out", "run", "--quiet")
    assert done.returncode == 0, done.stderr
    base, tuned = (asked["Add the two numbers.", name] for name in ("base", "tuned"))
    assert [row.tokens.tolist() for _, row in base] == [row.tokens.tolist() for _, row in tuned]

    found = read_json(place / "run" / FILE)
    sums, words = found["tasks"]
    assert (sums["task"], sums["grader"]) == ("sums", "number")
    assert (words["task"], words["grader"]) == ("words", "label")
    assert sums["n"] == len(base) and 40 < sums["n"] <= len(SUMS)
    assert 10 < words["n"] < len(MORE), "its own sealed rows, and those of the run, are left out"
    asked_of_base = [contexts for (_, name), contexts in asked.items() if name == "base"]
    texts = {messages[-1].content for contexts in asked_of_base for messages, _ in contexts}
    assert len(texts) == sums["n"] + words["n"] and not texts & {row["text"] for row in ROWS}
    for one in found["tasks"]:
        assert one["tuned"] - one["base"] == pytest.approx(one["difference"])

    page = Page((place / "run" / "report.html").read_text("utf-8"))
    harmless(page)
    assert "Neighbouring tasks" in page.words and "general ability was not measured" not in page.words
    sealed = {row["id"] for row in read_jsonl(place / "run" / "data" / "sealed.jsonl")}
    assert not any(id in str(found) for id in sealed)


@pytest.mark.parametrize(
    ("file", "said"), [("near/none.yaml", "none.yaml"), ("near/text.yaml", "no grader of answers")]
)
def test_a_neighbour_that_cannot_be_used_ends_the_command_before_the_training(
    place: Path, file: str, said: str
) -> None:
    text = {"name": "text", "model": "none", "data": {"train": "sums.jsonl"}, "evaluate": {"grader": []}}
    write_json(place / "near" / "text.yaml", text)
    done = finetooth(place, "run", "task.yaml", "--out", "run", "--evaluate.general", file, "--quiet")
    assert done.returncode == 2 and said in done.stderr
    assert not (place / "run" / "train" / "result.json").is_file()


def test_a_neighbour_without_rows_of_its_own_is_left_out_and_named(place: Path) -> None:
    """Its rows are those of the run, the sealed ones included."""
    write_json(place / "near" / "same.yaml", {"name": "same", "data": {"train": "../fruit.jsonl"}})
    both = "[near/same.yaml, near/words.yaml]"
    done = finetooth(place, "run", "task.yaml", "--out", "run", "--evaluate.general", both, "--quiet")
    assert done.returncode == 0, done.stderr
    found = read_json(place / "run" / FILE)
    assert [one["task"] for one in found["tasks"]] == ["words"]
    reason = "it has no row with an answer that this run does not have."
    assert [(Path(one["file"]).name, one["reason"]) for one in found["missing"]] == [("same.yaml", reason)]
    words = Page((place / "run" / "report.html").read_text("utf-8")).words
    assert f"same.yaml was not measured: {reason}" in words


@pytest.mark.parametrize("runs", gate([500, 4_000], [500]))
def test_a_loss_of_the_margin_is_seldom_called_kept(runs: int) -> None:
    """At a true loss of the margin: nominal is 2.5%, the limit 3.5% plus two standard errors."""
    random, kept = np.random.default_rng(runs), 0
    for _ in range(runs):
        change = random.choice([1, -1, 0], 200, p=[0.05, 0.15, 0.8])  # ten points are lost
        base = np.where(change == 0, random.random(200) < 0.6, change < 0)
        kept += (
            task_result("x", "label", base.tolist(), (base + change).tolist(), None, 0.1)["verdict"] == "kept"
        )
    assert kept <= runs * 0.035 + 2 * (runs * 0.035 * 0.965) ** 0.5, kept


def test_verdicts_are_those_of_the_interval() -> None:
    def verdict(base: list[float], tuned: list[float]) -> str:
        return str(task_result("x", "label", base, tuned, None, 0.1)["verdict"])

    assert verdict([1.0] * 200, [1.0] * 200) == "kept"
    assert verdict([1.0] * 200, [0.0] * 100 + [1.0] * 100) == "forgotten"
    assert verdict([1.0] * 200, [0.0] * 18 + [1.0] * 182) == "not proven"
    assert verdict([1.0] * 20, [1.0] * 20) == "not proven", "20 rows prove nothing"
