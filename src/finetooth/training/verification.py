"""Saving the trained weights, and proof that the saved model loads and equals the trained one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError

from finetooth.errors import TrainError
from finetooth.model import reward_head
from finetooth.model.api import Model
from finetooth.model.inference import row_logprobs, row_scores
from finetooth.rundir import atomic_directory, fsync_path
from finetooth.tree import Row

TOLERANCE = 1e-4  # nats; saving and loading in one dtype is exact, but another thread count may round


def save_model(model: Model, run_path: Path, chat_template: str | None) -> Path:
    """Write train/adapter or train/model atomically; returns its path. run_path: of the run.

    Raises TrainError when it cannot be written; the trained weights are still in the last checkpoint.
    """
    target = run_path / "train" / ("adapter" if model.peft is not None else "model")
    try:
        with atomic_directory(target) as temporary:
            model.save(temporary, chat_template)
            for file in temporary.iterdir():
                # safetensors creates files that only their owner can read
                shutil.copymode(temporary / "generation_config.json", file)
                fsync_path(file)
            fsync_path(temporary)
    except (OSError, SafetensorError) as error:
        raise TrainError(
            f"{target}: the trained weights cannot be written ({error}). They are in the last checkpoint. "
            f"Free some space, then continue with: finetooth train {run_path}"
        ) from error
    return target


def verify_saved(
    model: Model, saved: Path, load: Callable[[Path], Model], rows: Sequence[Row], untrained_M: torch.Tensor
) -> Model:
    """Load the saved model, compare its outputs on real rows with the trained model's, and return it.

    The trained model is freed before the saved one is loaded and must not be used afterwards. load: as
    evaluation loads. untrained_M: outputs on these rows before the first step. Raises TrainError when the
    outputs differ from the trained model's, or equal the untrained model's exactly (an adapter that was saved
    inert or has no effect once loaded).
    """
    trained_M = outputs(model, rows)
    model.hf = model.peft = None
    loaded = load(saved)
    loaded_M = outputs(loaded, rows)
    gap = float((loaded_M - trained_M).abs().max())
    if not gap <= TOLERANCE:
        raise TrainError(f"{saved}: the saved model differs from the trained one by {gap:.1e} nats.")
    if torch.equal(loaded_M, untrained_M):
        raise TrainError(
            f"{saved}: the saved {saved.name} gives exactly the outputs of its base; training had no effect."
        )
    return loaded


def outputs(model: Model, rows: Sequence[Row]) -> torch.Tensor:
    """Log-probabilities of the rows' scored tokens, nats; for a reward model the rows' scores."""
    if reward_head.is_reward(model.hf):
        return torch.from_numpy(row_scores(model, rows))
    return torch.from_numpy(np.concatenate(row_logprobs(model, rows)))
