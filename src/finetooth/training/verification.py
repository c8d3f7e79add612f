"""What must be true of a training and its saved weights: they learn, load, and are what was trained."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError

from finetooth.errors import TrainError
from finetooth.model import reward_head
from finetooth.model.api import Model
from finetooth.rundir import fsync_directory
from finetooth.training.checkpoint import fsync_file
from finetooth.training.step import StepResult
from finetooth.tree import PrefixTree, Row

TOLERANCE = 1e-4  # nats; saving and loading in the same type changes nothing, threads may


def require_nonzero_gradient(first: StepResult) -> None:
    """Raises TrainError when the first step's gradient is zero: no weight would ever learn anything."""
    if first.grad_norm == 0:
        raise TrainError(
            "The gradient of the first step is zero, so nothing is learned: what is scored does not depend "
            "on the trainable weights, or the model answers these rows perfectly already."
        )


def save_model(model: Model, run_path: Path, chat_template: str | None) -> Path:
    """Write train/adapter or train/model, whole or not at all; returns its path.

    Raises TrainError when it cannot be written; the trained weights are still in the last checkpoint.
    """
    target = run_path / "train" / ("adapter" if model.peft is not None else "model")
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        for leftover in target.parent.glob(f".{target.name}.*.tmp"):
            shutil.rmtree(leftover)
        model.save(temporary, chat_template)
        for file in temporary.iterdir():
            shutil.copymode(temporary / "generation_config.json", file)  # safetensors makes private files
            fsync_file(file)
        fsync_directory(temporary)
        if target.exists():
            shutil.rmtree(target)
        temporary.rename(target)
        fsync_directory(target.parent)
    except (OSError, SafetensorError) as error:
        raise TrainError(
            f"{target}: the trained weights cannot be written ({error}). They are in the last checkpoint. "
            f"Make room, then continue with: finetooth train {run_path}"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def verify_saved(
    model: Model, saved: Path, load: Callable[[Path], Model], rows: Sequence[Row], untrained_M: torch.Tensor
) -> Model:
    """Load what was saved, compare its outputs on real rows with the trained model's, and return it.

    The trained model's memory is given back before the saved one is loaded: it cannot be used any more. load:
    as evaluation loads. untrained_M: the model's outputs on these rows before its first step. Raises
    TrainError when the saved model's are not the trained one's, or are exactly the untrained one's (an
    adapter that is saved inert, or reloads without effect).
    """
    want_M = outputs(model, rows)
    model.hf = model.peft = None
    again = load(saved)
    saved_M = outputs(again, rows)
    gap = float((saved_M - want_M).abs().max())
    if not gap <= TOLERANCE:
        raise TrainError(f"{saved}: the saved model differs from the trained one by {gap:.1e} nats.")
    if torch.equal(saved_M, untrained_M):
        raise TrainError(
            f"{saved}: the saved {saved.name} answers exactly as its base; training had no effect."
        )
    return again


def outputs(model: Model, rows: Sequence[Row]) -> torch.Tensor:
    """The log-probabilities of the rows' scored tokens, nats; of a reward model the rows' scores."""
    tree = PrefixTree.build(rows)
    with model.eval_mode(), torch.no_grad():
        return (model.scores(tree) if reward_head.is_reward(model.hf) else model.logprobs(tree)).cpu()
