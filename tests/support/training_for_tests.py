"""Rows, models and settings of the training tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from models_for_tests import tiny_model_dir
from rich.console import Console

from finetooth.config.task import TrainConfig
from finetooth.model.api import Model
from finetooth.training.loop import Trainer, TrainingResult
from finetooth.tree import Row

VOCABULARY = 448


def rows(count: int, seed: int = 0) -> list[Row]:
    """Rows behind one of two shared prefixes, 4 to 15 tokens of their own, the last ones scored."""
    draw = np.random.default_rng(seed)
    prefixes = [draw.integers(10, VOCABULARY, 6).tolist() for _ in range(2)]
    made = []
    for index in range(count):
        own = draw.integers(10, VOCABULARY, int(draw.integers(4, 16))).tolist()
        tokens = prefixes[index % 2] + own
        weight = [0.0] * len(tokens)
        weight[-3:] = [1.0, 0.5, 1.0]
        made.append(Row(tokens, weight, id=f"row-{index}"))
    return made


def load(directory: Path, adapter: str = "lora", family: str = "llama", rank: int = 4) -> Model:
    """A tiny random model, made in `directory` unless it is there; with a fresh adapter for lora."""
    if not (directory / "config.json").exists():
        tiny_model_dir(directory, family)
    model = Model.load(directory)
    if adapter == "lora":
        model.add_lora(rank, 0)
    return model


def settings(**changes: object) -> TrainConfig:
    """A short training without any auto."""
    values = {
        "adapter": "lora",
        "rank": 4,
        "learning_rate": 0.01,
        "batch_size": 4,
        "epochs": 2,
        "micro_tokens": 64,
        "validate_every": 3,
        "save_every": 2,
        "patience": None,
    }
    return TrainConfig.model_validate(values | changes)


def fit(
    model: Model,
    run: Path,
    config: TrainConfig | None = None,
    train: list[Row] | None = None,
    validation: list[Row] | None = None,
    seed: int = 1,
    **options: object,
) -> TrainingResult:
    """One training of 13 rows, 6 of them for validation, where nothing else is said."""
    return Trainer(
        model,
        rows(13) if train is None else train,
        rows(6, 1) if validation is None else validation,
        config or settings(),
        run,
        seed,
        options.pop("console", Console(quiet=True)),  # type: ignore[arg-type]
        **options,  # type: ignore[arg-type]
    ).run()
