"""Questions, rewards and runs of the tests about learning from rewards, on tiny random models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from training_for_tests import VOCABULARY, load, rows, settings

from finetooth.config.task import TrainConfig
from finetooth.evaluation import graders
from finetooth.model.api import Model
from finetooth.training.loop import Trainer, TrainingResult
from finetooth.training.rl.batch import RolloutPrompt
from finetooth.training.rl.rollout import RolloutTrainer
from finetooth.tree import Row
from finetooth.types import Answer, Example, Message

LONGEST = 6


def questions(count: int = 8, seed: int = 0) -> list[RolloutPrompt]:
    """Contexts of 5 to 9 tokens that share their first three."""
    draw = np.random.default_rng(seed)
    made = []
    for number in range(count):
        tokens = [20, 21, 22, *draw.integers(10, VOCABULARY, int(draw.integers(2, 7))).tolist()]
        example = Example(f"q{number}", (Message("user", f"question {number}"),), (Answer("yes"),))
        made.append(RolloutPrompt(example, Row(tokens, [0.0] * len(tokens), id=example.id)))
    return made


def reward_settings(**changes: Any) -> TrainConfig:
    """A short training from rewards without any auto: two epochs of two steps of four questions."""
    values = {"method": "grpo", "group_size": 4, "patience": None, "validate_every": 2, "micro_tokens": 40}
    values["truncated"] = "keep"  # a random model hardly ever stops
    return settings(**values | changes)


def low_letters(example: Example, text: str) -> float:
    """A reward that a random model gets some of: the share of characters from the first half of ASCII."""
    return sum(ord(character) < 64 for character in text) / len(text) if text else 0.0


def rollouts(
    model: Model,
    run: Path,
    config: TrainConfig | None = None,
    reward: Callable[[Example, str], Any] = low_letters,
    seed: int = 1,
    asked: list[RolloutPrompt] | None = None,
) -> RolloutTrainer:
    (run / "train").mkdir(parents=True, exist_ok=True)
    made = asked or questions()
    return RolloutTrainer(model, made, graders.guard(reward), config or reward_settings(), seed, LONGEST, run)


def fit_rewards(
    model: Model,
    run: Path,
    config: TrainConfig | None = None,
    reward: Callable[[Example, str], Any] = low_letters,
    seed: int = 1,
    **options: Any,
) -> TrainingResult:
    """One training from rewards."""
    config = config or reward_settings()
    made = rollouts(model, run, config, reward, seed, options.pop("asked", None))
    console = options.pop("console", Console(quiet=True))
    return Trainer(
        model,
        made.rows,
        options.pop("validation", rows(6, 1)),
        config,
        run,
        seed,
        console,
        rollouts=made,
        **options,
    ).run()


def ready(directory: Path, adapter: str = "lora") -> Model:
    """The tiny model in this directory, to which a quarter of all tokens end an answer."""
    model = load(directory, adapter)
    model.stop_ids = frozenset(range(10, VOCABULARY, 4))
    return model


def prepared(directory: Path, adapter: str = "lora") -> Path:
    """A directory with a tiny model in it."""
    load(directory, adapter)
    return directory
