"""Law 6 for learning from rewards: killed between sampling and update, the run samples the same answers again
and ends with the same weights and logs, bit for bit.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import FORK
from rollouts_for_tests import fit_rewards, prepared, ready, reward_settings
from safetensors.torch import save_file

from finetooth.errors import Interrupted
from finetooth.training.rl import rollout

METHOD = {"kl": 0.1, "updates": 2, "method": "grpo", "resample": 1}


def some(example: Any, text: str) -> float:
    return sum(map(ord, text)) % 3 / 2


def child(models: Path, run: Path, at_update: int) -> None:
    """Train to the end and write the final weights; or die when this many updates are about to be made: the
    answers of that step are sampled and written to its log by then.
    """
    torch.set_num_threads(1)
    calls = 0
    real = rollout.RolloutTrainer.step

    def step(self: Any, number: int, indices: Any, update: Any) -> Any:
        def dies(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == at_update:
                os.kill(os.getpid(), signal.SIGKILL)
            return update(*arguments)

        return real(self, number, indices, dies)

    rollout.RolloutTrainer.step = step  # type: ignore[method-assign]
    model = ready(models)
    fit_rewards(model, run, reward_settings(**METHOD, epochs=3), some)
    save_file(model.state(), run / "final.safetensors")


def outcome(run: Path) -> tuple[bytes, list[dict[str, Any]], str]:
    told = [json.loads(line) for line in (run / "train" / "metrics.jsonl").read_text().splitlines()]
    for line in told:
        line.pop("seconds", None)
    rollouts = (run / "train" / "rollouts.jsonl").read_text()
    return (run / "final.safetensors").read_bytes(), told, rollouts


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("model"))


def test_killed_between_sampling_and_update(models: Path, tmp_path: Path) -> None:
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    for run, kills in ((straight, [0]), (broken, [1, 3, 0])):
        for at in kills:
            process = FORK.Process(target=child, args=(models, run, at))
            process.start()
            process.join()
            assert process.exitcode == (-signal.SIGKILL if at else 0)
    assert outcome(broken) == outcome(straight)
    assert [line["step"] for line in outcome(broken)[1] if "loss" in line] == [1, 2, 3, 4, 5, 6]


def test_a_stop_after_a_step_changes_nothing(models: Path, tmp_path: Path) -> None:
    config = reward_settings(**METHOD, epochs=2)
    straight = ready(models)
    fit_rewards(straight, tmp_path / "straight", config, some)
    broken, run = ready(models), tmp_path / "broken"
    calls = iter(range(1, 100))
    with pytest.raises(Interrupted):
        fit_rewards(broken, run, config, some, stop=lambda: next(calls) == 3)
    again = ready(models)
    fit_rewards(again, run, config, some)
    assert again.digest() == straight.digest()


@pytest.mark.full
def test_the_law_catches_samples_that_are_not_keyed_by_the_step(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted bug: a random stream that begins anew with the process."""
    config = reward_settings(**METHOD, epochs=2)
    straight, broken = ready(models), ready(models)
    fit_rewards(straight, tmp_path / "straight", config, some)
    calls = iter(range(1, 100))
    with pytest.raises(Interrupted):
        fit_rewards(broken, tmp_path / "broken", config, some, stop=lambda: next(calls) == 2)
    real = rollout._key
    started = iter(range(1000))
    monkeypatch.setattr(rollout, "_key", lambda text: real(str(next(started))))
    again = ready(models)
    fit_rewards(again, tmp_path / "broken", config, some)
    assert again.digest() != straight.digest()
