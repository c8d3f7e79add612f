"""What must be true of a training and its saved weights: they learn, load, and are what was trained."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError

from finetooth.errors import TrainError
from finetooth.evaluation.candidates import evaluating
from finetooth.model import reward_head
from finetooth.model.api import Model
from finetooth.rundir import fsync_directory
from finetooth.training.checkpoint import fsync_file
from finetooth.training.step import StepResult
from finetooth.tree import PrefixTree, Row

TOLERANCE = 1e-4  # nats; saving and loading in the same type changes nothing, threads may


def require_gradient(first: StepResult) -> None:
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
    model: Model,
    path: Path,
    base: str,
    rows: Sequence[Row],
    seed: int,
    release: bool = False,
    start: Path | None = None,
) -> None:
    """Load what was saved as evaluation will, and compare log-probabilities on real rows.

    seed: of a base without weights. release: give the model's memory back before another is loaded; it
    cannot be used any more. start: the adapter or model that training went on from. Raises TrainError when
    they are not the trained model's, or when they are exactly the base's, or the start's (an adapter that is
    saved inert, or reloads without effect).
    """
    tree = PrefixTree.build(rows)
    load = partial(
        Model.load,
        device=str(model.device),
        dtype=str(model.dtype).removeprefix("torch."),
        attention=model.attention,
        seed=seed,
        masters=model.masters,
    )
    adapter = path if model.peft is not None else None
    want_M = _logprobs(model, tree)
    scores = reward_head.is_reward(model.hf)
    if release:
        model.hf = model.peft = None
    again = load(base if adapter else path, adapter)
    saved_M = _logprobs(again, tree)
    del again
    gap = float((saved_M - want_M).abs().max())
    if not gap <= TOLERANCE:
        raise TrainError(f"{path}: the saved model differs from the trained one by {gap:.1e} nats.")
    before = partial(load, base, start) if adapter else partial(load, start or base)
    base_M = torch.zeros_like(saved_M) if scores else _logprobs(before(), tree)
    if torch.equal(saved_M, base_M):
        what = "adapter" if adapter else "model"
        raise TrainError(f"{path}: the saved {what} answers exactly as its base; training had no effect.")


def _logprobs(model: Model, tree: PrefixTree) -> torch.Tensor:
    """What the model says of the rows; of a reward model its scores."""
    with evaluating(model), torch.no_grad():
        return (
            reward_head.scores(model, tree) if reward_head.is_reward(model.hf) else model.logprobs(tree)
        ).cpu()
