"""A run that learns from rewards, from its task file to its report; and a reward that is not trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from models_for_tests import tiny_model_dir

from finetooth.cli.app import invoke
from finetooth.config.load import load_task
from finetooth.rundir import read_json

REWARD = """
def brief(example, text):
    return text == example.target or 1 / (2 + len(text)) if text else 0.0

def long(example, text):
    return min(1.0, len(text) / 7)

def exact(example, text):
    return text == example.target
"""
FEW = ["--train.preflight", "off", "--evaluate.limit", "4", "--evaluate.max_tokens", "5", "--quiet"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task file, its data, its rewards, and a tiny model."""
    folder = tmp_path_factory.mktemp("place")
    tiny_model_dir(folder / "model")
    rows = [{"input": f"{n} and {n % 7}", "output": f"{n + n % 7} in all"} for n in range(80)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "mine.py").write_text(REWARD)
    return folder


def task(place: Path, **train: Any) -> Path:
    values = {
        "model": str(place / "model"),
        "data": {"train": "rows.jsonl"},
        "train": {"method": "grpo", "group_size": 3, "batch_size": 4, "max_steps": 2, **train},
        "evaluate": {"grader": "mine.py:exact", "shots": [0]},
    }
    (place / "task.yaml").write_text(json.dumps(values))
    return place / "task.yaml"


def test_a_run_from_the_task_to_the_report(place: Path, tmp_path: Path) -> None:
    file = task(place, reward={"mine.py:brief": 3, "chrf": 1}, truncated="keep")
    out = tmp_path / "run"
    assert invoke(["run", str(file), "--out", str(out), *FEW]) == 0
    told = [json.loads(line) for line in (out / "train" / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in told if "loss" in line]
    assert [line["rollouts"] for line in steps] == [12, 12]
    assert all(0 < line["reward"] < 1 for line in steps)
    written = [json.loads(line) for line in (out / "train" / "rollouts.jsonl").read_text().splitlines()]
    assert len(written) == 24 and "mine.py:brief" in written[0]["reason"] and "chrf" in written[0]["reason"]
    result = read_json(out / "train" / "result.json")
    assert (result["method"], result["selected_by"]) == ("grpo", "score")
    assert read_json(out / "evaluate" / "summary.json")["split"] == "test"
    assert invoke(["train", str(out), "--quiet"]) == 0  # trained already


def test_the_files_of_rewards_are_found_beside_the_task(place: Path) -> None:
    found = load_task(task(place, reward={"mine.py:brief": 3, "chrf": 1})).train.reward
    assert found == {f"{place / 'mine.py'}:brief": 3, "chrf": 1}
    found = load_task(
        task(place, reward=[{"grader": "mine.py:brief", "weight": 2}, "mine.py:exact"])
    ).train.reward
    assert found == [{"grader": f"{place / 'mine.py'}:brief", "weight": 2}, f"{place / 'mine.py'}:exact"]


def test_a_hackable_reward_stops_the_run_before_its_first_step(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = task(place, reward="mine.py:long", truncated="keep"), tmp_path / "run"
    assert invoke(["train", str(file), "--out", str(out), *FEW]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "train.reward: the reward can be gamed" in said
    assert "one repeated word gets the full reward in" in said and "a copy of the question" in said
    assert "--train.reward_check off" in said
    assert not (out / "train" / "metrics.jsonl").exists()
    assert invoke(["train", str(file), "--out", str(out), "--train.reward_check", "off", *FEW[:-1]]) == 0
    assert "warning: train.reward: one repeated word" in " ".join(capsys.readouterr().err.split())
    assert (out / "train" / "rollouts.jsonl").exists()


def test_without_a_reward_the_grader_is_the_reward(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert invoke(["train", str(task(place)), "--out", str(out), *FEW]) == 1  # nothing was learned
    steps = [json.loads(line) for line in (out / "train" / "metrics.jsonl").read_text().splitlines()]
    assert {line["reward"] for line in steps if "reward" in line} == {0.0}  # a random model is never right


def test_a_reward_that_cannot_be_used_is_one_message(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for reward, words in (("mine.py:absent", "no such name"), ({"exact": 0}, "the weight 0")):
        assert invoke(["train", str(task(place, reward=reward)), "--out", str(tmp_path / "run"), *FEW]) == 2
        assert words in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(("method", "batch_size"), [("grpo", 4), ("rloo", 4), ("reinforce", 1)])
def test_an_answer_that_is_compared_with_no_other_is_refused(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str, batch_size: int
) -> None:
    file = task(place, method=method, batch_size=batch_size, group_size=1)
    assert invoke(["train", str(file), "--out", str(tmp_path / "run"), *FEW]) == 2
    assert "train.group_size is 1, so a completion has no other" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run" / "train").exists()
