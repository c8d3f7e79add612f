"""RolloutTrainer: what is sampled is trained, groups that say nothing are replaced, nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gate import gate
from rollouts_for_tests import (
    LONGEST,
    fit_rewards,
    low_letters,
    prepared,
    questions,
    ready,
    reward_settings,
    rollouts,
)
from training_for_tests import load

from finetooth.config.method_keys import RewardKeys
from finetooth.errors import ModelError, TrainError
from finetooth.evaluation import graders
from finetooth.model.api import Model
from finetooth.training.rl import advantages
from finetooth.training.rl.batch import RolloutBatch
from finetooth.tree import PrefixTree, microtrees
from finetooth.types import Completion, Example, Sampling, Score


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("model"))


def lines(run: Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "train" / name).read_text().splitlines()]


def batch(made: Any, step: int = 0, count: int = 4) -> RolloutBatch:
    return made.collect(step, np.arange(count))


@pytest.mark.parametrize("attention", gate(["auto", "rows"], ["auto"]))
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_tokens_in_are_tokens_out(models: Path, tmp_path: Path, attention: str, temperature: float) -> None:
    """Training sees the sampled ids, at the log-probabilities that they were sampled with."""
    model = Model.load(models, attention=attention)
    model.add_lora(4, 0)
    made = rollouts(model, tmp_path, reward_settings(temperature=temperature))
    found = batch(made)
    rows = made.to_rows(found, advantages.grpo(found.reward_R, found.group_R))
    assert len(rows) == 16
    for row, rollout in zip(rows, found.rollouts, strict=True):
        context = made.prompts[rollout.prompt].row.tokens.tolist()
        assert row.tokens.tolist() == [*context, *rollout.completion.tokens]
        assert (row.weight > 0).tolist() == [False] * len(context) + [True] * len(rollout.completion.tokens)
    tree = PrefixTree.build(rows)
    with torch.no_grad():
        trained_M = model.logprobs(tree, temperature).numpy()
    sampled_M = np.concatenate([rollout.completion.logprobs for rollout in found.rollouts])
    assert np.abs(trained_M - sampled_M).max() < 1e-4
    assert sampled_M.max() < 0 and len({*found.group_R.tolist()}) == 4


def test_a_group_shares_its_prompt(models: Path, tmp_path: Path) -> None:
    made = rollouts(ready(models), tmp_path)
    found = batch(made)
    rows = made.to_rows(found, advantages.grpo(found.reward_R, found.group_R))
    contexts = len(PrefixTree.build([made.prompts[number].row for number in set(found.group_R.tolist())]))
    answers = sum(len(rollout.completion.tokens) for rollout in found.rollouts)
    assert sum(len(tree) for tree in microtrees(rows, 10**6)) <= contexts + answers < sum(map(len, rows))


def test_samples_are_a_function_of_seed_and_step(models: Path, tmp_path: Path) -> None:
    made, again = rollouts(ready(models), tmp_path), rollouts(ready(models), tmp_path)
    other = rollouts(ready(models), tmp_path, seed=2)

    def tokens(one: Any, step: int, count: int = 4) -> list[Any]:
        return [rollout.completion.tokens for rollout in batch(one, step, count).rollouts]

    config = {"resample": 0}
    for one in (made, again, other):
        one.config = reward_settings(**config)
    first = tokens(made, 3)
    assert tokens(again, 3) == first
    assert tokens(made, 3, count=2) == first[:8]  # what else is sampled changes nothing
    assert tokens(made, 4) != first
    assert tokens(other, 3) != first


def test_a_log_probability_that_is_missing_or_no_number_is_an_error(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ready(models)
    real = model.generate
    for broken in ((), (float("nan"),) * LONGEST, (float("-inf"),)):

        def generate(contexts: Any, sampling: Sampling, broken: Any = broken) -> Iterator[Completion]:
            for completion in real(contexts, sampling):
                yield replace(completion, logprobs=broken)

        monkeypatch.setattr(model, "generate", generate)
        with pytest.raises(ModelError, match="no log-probability"):
            batch(rollouts(model, tmp_path))


def crashes_on_two(example: Example, text: str) -> float:
    if example.id == "q2":
        raise ZeroDivisionError("planted")
    return low_letters(example, text)


def test_a_graders_crash_gives_no_gradient_and_is_counted(models: Path, tmp_path: Path) -> None:
    """The step is the one that is taken when the rollouts of that question do not exist."""
    config = reward_settings(batch_size=8, epochs=1, resample=0, method="rloo")
    crashed, without = ready(models), ready(models)
    fit_rewards(crashed, tmp_path / "a", config, crashes_on_two, validation=[])
    few = [question for question in questions() if question.example.id != "q2"]
    fit_rewards(without, tmp_path / "b", config, validation=[], asked=few)
    (line,), (other,) = lines(tmp_path / "a"), lines(tmp_path / "b")
    assert (line["grader_errors"], line["rollouts"], line["rows"]) == (4, 32, 28)
    assert line["rewarded"] == 28
    assert line["reward"] == pytest.approx(other["reward"])
    assert line["loss"] == pytest.approx(other["loss"], abs=1e-6)
    told = [entry for entry in lines(tmp_path / "a", "rollouts.jsonl") if entry["id"] == "q2"]
    assert {(entry["reward"], entry["advantage"]) for entry in told} == {(None, None)}
    assert told[0]["error"] == "ZeroDivisionError: planted"


def test_a_step_without_any_reward_stops_with_the_first_error(models: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r"None of the 16 answers .* failed on 16\. The first error: Zero"):
        fit_rewards(ready(models), tmp_path, reward=lambda example, text: 1 / 0)


def test_a_step_in_which_most_answers_have_no_reward_stops(models: Path, tmp_path: Path) -> None:
    def signed(example: Example, text: str) -> Score:
        return graders.guard(lambda row, answer: 1.0 if low_letters(row, answer) > 0.9 else -1.0)(
            example, text
        )

    with pytest.raises(
        TrainError, match=r"(Most|None) of the 16 answers .* returned -1\.0, expected a number"
    ):
        fit_rewards(ready(models), tmp_path, reward=signed)


@pytest.mark.parametrize("choice", gate(["keep", "mask", "penalise", "soft"], ["mask", "soft"]))
def test_cut_answers_are_counted_and_treated_as_chosen(models: Path, tmp_path: Path, choice: str) -> None:
    """A random model hardly ever stops within six tokens, so nearly all answers are cut."""
    config = reward_settings(truncated=choice, resample=0)
    found = batch(rollouts(load(models), tmp_path, config))
    for rollout, reward in zip(found.rollouts, found.reward_R.tolist(), strict=True):
        if rollout.completion.stop == "length":
            want = {"keep": rollout.score.value, "mask": None, "penalise": 0.0}
            want["soft"] = rollout.score.value - 1.0  # type: ignore[operator]
            assert (None if np.isnan(reward) else reward) == want[choice]
    if choice == "mask":
        with pytest.raises(TrainError, match=r"cut at evaluate\.max_tokens, and train\.truncated is mask"):
            fit_rewards(load(models), tmp_path, config)
    else:
        fit_rewards(load(models), tmp_path, config)
        assert lines(tmp_path)[1]["truncated"] > 0.9
        assert any(finding["name"] == "truncation" for finding in lines(tmp_path, "findings.jsonl"))


def right_for_odd(example: Example, text: str) -> float:
    return sum(map(ord, text)) % 11 / 10 if int(example.id[1:]) % 2 else 0.5


@pytest.mark.parametrize("resample", [0, 1, 2])
def test_groups_worth_the_same_are_replaced_as_often_as_allowed(
    models: Path, tmp_path: Path, resample: int
) -> None:
    """Of 16 questions every second one is worth 0.5 whatever is answered."""
    config = reward_settings(resample=resample)
    made = rollouts(ready(models), tmp_path, config, right_for_odd, asked=questions(16))
    found = batch(made, count=6)
    asked = list(dict.fromkeys(found.group_R.tolist()))
    useful = [number for number in asked if number % 2]
    assert len(asked) == 6 and len(found.rollouts) == 24
    assert (len(useful) > 3) == (resample > 0)
    assert found.groups - found.same >= len(useful)
    assert found.groups == 6 + (0 if not resample else found.groups - 6)
    if resample == 0:
        assert (asked, found.groups, found.same) == ([0, 1, 2, 3, 4, 5], 6, 3)
    else:
        assert {1, 3, 5} <= set(asked) and found.groups >= 9
    again = batch(rollouts(ready(models), tmp_path, config, right_for_odd, asked=questions(16)), count=6)
    assert again.group_R.tolist() == found.group_R.tolist()


def test_reinforce_compares_over_the_step_and_replaces_nothing(models: Path, tmp_path: Path) -> None:
    config = reward_settings(method="reinforce", resample=2)
    found = batch(rollouts(ready(models), tmp_path, config, right_for_odd, asked=questions(16)), count=6)
    assert found.group_R.tolist() == np.repeat(np.arange(6), 4).tolist()
    assert np.abs(advantages.reinforce(found.reward_R, found.group_R)[found.group_R % 2 == 0]).min() > 0


def test_the_reference_is_the_start_and_measuring_it_changes_no_weight(models: Path, tmp_path: Path) -> None:
    model = ready(models)
    made = rollouts(model, tmp_path, reward_settings(kl=0.1))
    found = batch(made)
    rows = made.to_rows(found, advantages.grpo(found.reward_R, found.group_R))
    with torch.no_grad():
        for weight in model.trainable():
            weight.add_(0.05)
    before = model.digest()
    measured = made._with_reference(rows)
    assert model.digest() == before
    for row, rollout in zip(measured, found.rollouts, strict=True):
        scored = row.weight > 0
        np.testing.assert_allclose(
            row.signals["reference_logp"][scored], rollout.completion.logprobs, atol=1e-4
        )
        assert not row.signals["reference_logp"][~scored].any()


def test_what_metrics_tell(models: Path, tmp_path: Path) -> None:
    fit_rewards(ready(models), tmp_path, reward_settings(kl=0.05, epochs=3))
    told = [line for line in lines(tmp_path) if "loss" in line]
    assert [line["step"] for line in told] == [1, 2, 3, 4, 5, 6]
    assert told[0]["kl"] == pytest.approx(0.0, abs=1e-8) and told[-1]["kl"] > 1e-5
    for line in told:
        assert line["reward_low"] <= line["reward_middle"] <= line["reward_high"]
        assert 0 <= line["gap"] <= line["gap_max"] < 1e-4
        assert 4 < line["entropy"] < 6.2 and 1 <= line["answer_tokens"] <= LONGEST
    entries = lines(tmp_path, "rollouts.jsonl")
    assert len(entries) == 6 * 16
    assert all(len(entry["text"]) >= 0 and entry["stop"] in ("stop", "length") for entry in entries)


def stops_at_once(example: Example, text: str) -> bool:
    return not text


@pytest.mark.full
@pytest.mark.parametrize("method", ["grpo", "rloo", "reinforce"])
def test_the_reward_rises(models: Path, tmp_path: Path, method: str) -> None:
    config = reward_settings(
        method=method, adapter="none", group_size=8, epochs=20, max_steps=25, schedule="constant"
    )
    fit_rewards(ready(models, "none"), tmp_path, config, stops_at_once, validation=[])
    reward = [line["reward"] for line in lines(tmp_path)]
    assert sum(reward[:4]) / 4 < 0.45 and sum(reward[-4:]) / 4 > 0.8


CHANGES: dict[str, dict[str, object]] = {
    "group_size": {"group_size": 5},
    "temperature": {"temperature": 0.7},
    "scale": {"scale": "none"},
    "average": {"average": "row"},
    "clip": {"clip": 0.01, "updates": 3},
    "clip_high": {"clip_high": 0.01, "updates": 3},
    "updates": {"updates": 2},
    "kl": {"kl": 5.0},
    "truncated": {"truncated": "soft"},
    "resample": {"resample": 0},
    "method": {"method": "rloo"},
}
ELSEWHERE = {"reward", "reward_check"}  # what they change: tests/commands/test_rewards.py


def test_every_key_is_covered() -> None:
    assert {*CHANGES} - {"method"} | ELSEWHERE == set(RewardKeys.model_fields)


BASES = {"plain": {}, "clip": {"updates": 3}}


def trained(models: Path, run: Path, **values: object) -> str:
    """The digest of the weights that these settings give."""
    model = ready(models)
    fit_rewards(
        model, run, reward_settings(learning_rate=0.05, **{"average": "length", **values}), right_for_odd
    )
    return model.digest()


@pytest.fixture(scope="module")
def unchanged(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The weights of a base, which two runs give alike, trained when they are first asked for."""

    @cache
    def weights(name: str) -> str:
        found, again = (trained(models, tmp_path_factory.mktemp(name), **BASES[name]) for _ in range(2))
        assert found == again
        return found

    return weights


@pytest.mark.parametrize("key", gate(CHANGES, ["group_size", "temperature", "kl"]))
def test_changing_a_key_changes_the_weights(
    models: Path, tmp_path: Path, unchanged: Callable[[str], str], key: str
) -> None:
    base = "clip" if key.startswith("clip") else "plain"
    assert trained(models, tmp_path, **BASES[base] | CHANGES[key]) != unchanged(base)
