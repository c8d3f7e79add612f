"""A run whose reward is a reward model: found beside the task, tried, kept, and refused when it is none."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from models_for_tests import tiny_model_dir
from preferences_for_tests import moved, scoring
from reward_models_for_tests import examples, expected, question, sound, trained
from rich.console import Console
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForSequenceClassification

from finetooth.cli.app import invoke
from finetooth.commands import train
from finetooth.config.load import load_task
from finetooth.data.examples import from_json
from finetooth.errors import GradeError, ModelError
from finetooth.evaluation import graders
from finetooth.evaluation.answer_text import identity
from finetooth.model.api import Model
from finetooth.model.inference import row_scores
from finetooth.rundir import read_json, read_jsonl
from finetooth.runs import rewards
from finetooth.training.rl.reward_model import RewardModelScorer
from finetooth.training.rl.rollout import RolloutTrainer
from finetooth.tree import Row
from finetooth.types import Sampling

ROWS = examples()


def judge(model: Path | str = "judge") -> dict[str, str]:
    return {"name": "reward_model", "model": str(model)}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task's data, a policy, and a reward model with another network, tokenizer and template."""
    folder = tmp_path_factory.mktemp("place")
    tiny_model_dir(folder / "policy", "gpt2", tokenizer="llama2")
    tiny_model_dir(folder / "base")
    rows = [{"input": question(n), "output": expected(n)} for n in range(200, 280)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    trained(folder / "base", folder / "judge", sound)
    return folder


def task(place: Path, reward: Any, grader: Any = "exact") -> Path:
    keys = {"method": "grpo", "group_size": 3, "batch_size": 4, "max_steps": 3, "reward": reward}
    values = {
        "model": "./policy",
        "data": {"train": "rows.jsonl"},
        "train": {**keys, "truncated": "keep", "save_every": 1, "preflight": "off"},
        "evaluate": {"grader": grader, "shots": [0], "max_tokens": 5, "limit": 4},
    }
    (place / "task.yaml").write_text(json.dumps(values))
    return place / "task.yaml"


def scorer(path: Path) -> RewardModelScorer:
    return rewards.load_reward_model(judge(path), ROWS, identity)[1]


def rollouts(run: Path) -> list[dict[str, Any]]:
    return list(read_jsonl(run / "train" / "rollouts.jsonl"))


def told(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.full
def test_a_run_from_the_task_to_the_report(place: Path, tmp_path: Path) -> None:
    file, out = task(place, [{"grader": judge(), "weight": 3}, "chrf"]), tmp_path / "run"
    assert invoke(["run", str(file), "--out", str(out), "--quiet"]) == 0
    ((path, scale),) = read_json(out / "train" / "reward_models.json").items()
    assert path == str(place / "judge")  # found beside the task file
    one = replace(scorer(Path(path)), middle=scale["middle"], spread=scale["spread"])
    asked = {row.id: row for row in map(from_json, read_jsonl(out / "data" / "train.jsonl"))}
    lines = rollouts(out)
    assert len(lines) >= 36 and all(line["error"] is None for line in lines)
    values = [one(asked[line["id"]], line["text"]).value or 0.0 for line in lines]
    assert len(set(values)) > 5
    for line, value in zip(lines, values, strict=True):
        assert line["reason"].startswith("reward_model judge 0") and ", chrf 0" in line["reason"]
        assert 0.75 * value - 1e-5 <= line["score"] <= 0.75 * value + 0.25
        assert float(line["reason"].split()[2].rstrip(",")) == pytest.approx(value, rel=6e-3)


@pytest.mark.full  # tests/laws/test_resume_rewards.py has it for a grader
def test_a_killed_run_goes_on_exactly_and_with_no_other_reward_model(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(place / "judge", tmp_path / "judge")
    made = load_task(task(place, judge(tmp_path / "judge")))
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    train.run(made, straight, Console(quiet=True))
    real = RolloutTrainer.step

    def dies(self: RolloutTrainer, step: int, *rest: Any) -> Any:
        if step == 2:
            raise KeyboardInterrupt
        return real(self, step, *rest)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(RolloutTrainer, "step", dies)
        train.run(made, broken, Console(quiet=True))
    saved = tmp_path / "judge" / "train" / "adapter" / "adapter_model.safetensors"
    whole = saved.read_bytes()
    save_file({name: weight * 1.001 for name, weight in load_file(saved).items()}, saved)
    assert invoke(["train", str(broken), "--quiet"]) == 2
    said = told(capsys)
    assert f"train.reward: {tmp_path / 'judge'} is not the reward model that" in said
    assert "its digest differs" in said
    saved.write_bytes(whole)
    assert invoke(["train", str(broken), "--quiet"]) == 0
    weights = [run / "train" / "adapter" / "adapter_model.safetensors" for run in (straight, broken)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert rollouts(straight) == rollouts(broken) and len(rollouts(broken)) >= 36


def test_one_that_can_be_fooled_stops_the_run(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved(scoring(place / "base", "none")).save(tmp_path / "random")
    file, out = task(place, judge(tmp_path / "random")), tmp_path / "run"
    assert invoke(["train", str(file), "--out", str(out), "--quiet"]) == 2
    said = told(capsys)
    assert "the reward can be gamed" in said
    assert "gets at least the reward of the expected answer in" in said
    assert not (out / "config.yaml").exists()


@pytest.mark.full
def test_a_run_and_the_directory_of_its_weights_are_one_reward_model(place: Path, tmp_path: Path) -> None:
    whole = trained(place / "base", tmp_path / "whole", sound, **{"train.adapter": "none", "train.epochs": 1})
    for run, weights in ((place / "judge", "train/adapter"), (whole, "train/model")):
        one, other = scorer(run), scorer(run / weights)
        rows = [one._row(row, text) for row in ROWS[:4] for text in ("yes", "no fig", row.target)]
        want = row_scores(one.model, rows)  # type: ignore[arg-type]
        assert want.std() > 1e-3
        assert row_scores(other.model, rows) == pytest.approx(want, abs=1e-5)  # type: ignore[arg-type]
        text = other.renderer.tokenizer.decode(other._row(ROWS[0], "yes").tokens)  # type: ignore[union-attr]
        assert text.endswith("300 of apple?<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>")
        assert "Say what it is." not in text  # the instruction is known of a run alone
    stock = AutoModelForSequenceClassification.from_pretrained(whole / "train" / "model")
    with torch.no_grad():
        found = [float(stock(input_ids=torch.from_numpy(row.tokens)[None]).logits[0, 0]) for row in rows]
    assert found == pytest.approx(want.tolist(), abs=1e-4)


@pytest.mark.full
def test_what_is_no_reward_model_is_one_message(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = AutoConfig.from_pretrained(place / "base", num_labels=3)
    shutil.copytree(place / "base", tmp_path / "three")
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "three")
    shutil.copytree(place / "judge", tmp_path / "begun", ignore=shutil.ignore_patterns("result.json"))
    shutil.copytree(place / "judge", tmp_path / "sft")
    text = (tmp_path / "sft" / "config.yaml").read_text()
    (tmp_path / "sft" / "config.yaml").write_text(text.replace("method: reward_model", "method: sft"))
    (tmp_path / "folder").mkdir()
    cases: list[tuple[Any, str]] = [
        (judge(place / "nowhere"), "nowhere: no such directory. Expected the directory of a run of"),
        (judge(place / "task.yaml"), "task.yaml: a file"),
        (judge(tmp_path / "folder"), "is neither a run nor a model"),
        (judge(place / "base"), "is a language model, not a reward model"),
        (judge(tmp_path / "three"), "found score.weight [3, 32]"),
        (judge(tmp_path / "begun"), "has no reward model yet. First: finetooth train"),
        (judge(tmp_path / "sft"), "is a run of train.method sft, not a reward model"),
        ("reward_model", "a reward model is {name: reward_model, model: DIRECTORY}, found reward_model"),
        ({"reward_model": 2, "exact": 1}, "a reward model is {name: reward_model, model: DIRECTORY}"),
        (judge() | {"weight": 2}, "'weight': 2}. Expected"),
    ]
    for reward, words in cases:
        assert invoke(["train", str(task(place, reward)), "--out", str(tmp_path / "run"), "--quiet"]) == 2
        said = told(capsys)
        assert "train.reward: " in said and words in said and "Traceback" not in said, said
        assert said.count("train.reward:") == 1


def test_it_is_no_grader_of_answers(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb, reward, grader in (("run", "exact", "reward_model"), ("train", None, judge())):
        file = task(place, reward, grader)
        assert invoke([verb, str(file), "--out", str(tmp_path / "run"), "--quiet"]) == 2
        assert "evaluate.grader: reward_model is a reward (train.reward), not a grader" in told(capsys)
    with pytest.raises(GradeError, match="not a grader"):
        graders.resolve_all(["exact", judge()], "qa")


def test_a_reward_model_writes_nothing(place: Path, tmp_path: Path) -> None:
    scoring(place / "base", "none").save(tmp_path / "saved")
    for attention in ("auto", "rows"):
        model = Model.load(tmp_path / "saved", attention=attention)
        with pytest.raises(ModelError, match="scores answers and cannot generate text"):
            list(model.generate([Row([5, 6], [0.0, 0.0])], Sampling(max_tokens=2)))
