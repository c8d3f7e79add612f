"""What must be true of saved weights: they load, they change the model, and they are what was trained."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from finetooth.errors import TrainError
from finetooth.model.api import Model
from finetooth.rundir import fsync_directory
from finetooth.training.checkpoint import fsync_file
from finetooth.tree import PrefixTree, Row

TOLERANCE = 1e-4  # nats; saving and loading in the same type changes nothing, threads may


def save_model(model: Model, run_path: Path, chat_template: str | None) -> Path:
    """Write train/adapter or train/model, whole or not at all; returns its path."""
    target = run_path / "train" / ("adapter" if model.peft is not None else "model")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
    try:
        model.save(temporary, chat_template)
        for file in temporary.iterdir():
            fsync_file(file)
        temporary.chmod(0o755)  # mkdtemp makes directories private
        if target.exists():
            shutil.rmtree(target)
        temporary.rename(target)
        fsync_directory(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def verify_saved(model: Model, path: Path, base: str, rows: Sequence[Row], seed: int) -> None:
    """Load what was saved as evaluation will, and compare log-probabilities on real rows.

    Raises TrainError when they are not the trained model's, or when the adapter changes nothing (an adapter
    that is saved inert, or reloads without effect).
    """
    tree = PrefixTree.build(rows)
    with torch.no_grad():
        want_M = model.logprobs(tree)
        adapter = path if model.peft is not None else None
        again = Model.load(base if adapter else path, adapter=adapter, attention=model.attention, seed=seed)
        gap = float((again.logprobs(tree) - want_M).abs().max())
        if not gap <= TOLERANCE:
            raise TrainError(f"{path}: the saved model differs from the trained one by {gap:.1e} nats.")
        if adapter is not None:
            untouched_M = Model.load(base, attention=model.attention, seed=seed).logprobs(tree)
            if torch.equal(again.logprobs(tree), untouched_M):
                raise TrainError(f"{path}: the adapter changes nothing; training had no effect.")
