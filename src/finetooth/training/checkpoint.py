"""Crash-safe checkpoints: safetensors and JSON, with a manifest of hashes.

    train/checkpoints/step-000120/
        weights.safetensors     the trained weights, by parameter name
        optimizer.safetensors   the optimizer's tensors, NAME/exp_avg and so on
        state.json              position, best results, patience, monitor state, fingerprint of the run
        manifest.json           size and sha256 of the three

A checkpoint is written to a temporary directory beside its final place: files are fsynced, the manifest is
written last, then the directory is renamed and its parent fsynced. A directory without a matching manifest is
reported and skipped, so a partial, truncated or bit-flipped checkpoint is never loaded.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from finetooth.errors import DataError, TrainError
from finetooth.rundir import atomic_directory, claim, fsync_path, read_json, sha256_file, write_json

WEIGHTS, OPTIMIZER, STATE, MANIFEST = (
    "weights.safetensors",
    "optimizer.safetensors",
    "state.json",
    "manifest.json",
)
_NAME = re.compile(r"step-(\d{6,})")


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """Everything that determines the numbers after `step` steps. state: plain JSON values."""

    step: int
    weights: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    state: Mapping[str, Any]


def checkpoint_path(directory: Path, step: int) -> Path:
    """The directory of this step's checkpoint, such as train/checkpoints/step-000120."""
    return directory / f"step-{step:06d}"


def save(directory: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint atomically and durably; returns its path.

    Raises TrainError when it cannot be written (a full disk); existing checkpoints stay intact.
    """
    target = checkpoint_path(directory, checkpoint.step)
    claim(directory)  # once, for all checkpoints
    try:
        with atomic_directory(target) as temporary:  # replaces what an earlier attempt at this step has left
            temporary.mkdir()
            for name, tensors in ((WEIGHTS, checkpoint.weights), (OPTIMIZER, checkpoint.optimizer)):
                on_cpu = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
                save_file(on_cpu, temporary / name)
                fsync_path(temporary / name)
            write_json(temporary / STATE, {"step": checkpoint.step, **checkpoint.state})
            files = {
                name: {"bytes": (temporary / name).stat().st_size, "sha256": sha256_file(temporary / name)}
                for name in (WEIGHTS, OPTIMIZER, STATE)
            }
            write_json(temporary / MANIFEST, files)
    except (OSError, SafetensorError) as error:
        raise TrainError(
            f"{target}: the checkpoint cannot be written ({error}). Earlier checkpoints are intact. "
            f"Free some space, then continue with: finetooth train {directory.parent.parent}"
        ) from error
    return target


def integrity_error(path: Path) -> str | None:
    """Why this checkpoint must not be used, as text; None when it is intact."""
    try:
        files = read_json(path / MANIFEST)
        for name in (WEIGHTS, OPTIMIZER, STATE):
            size = (path / name).stat().st_size
            if size != files[name]["bytes"]:
                return f"{name} has {size} bytes, the manifest says {files[name]['bytes']}"
            if sha256_file(path / name) != files[name]["sha256"]:
                return f"{name} has changed since it was written (its hash differs)"
    except FileNotFoundError as error:
        return f"{Path(str(error.filename)).name} is missing"
    except (OSError, DataError, KeyError, TypeError) as error:
        return f"{MANIFEST} cannot be read ({error})"
    return None


def load(path: Path) -> Checkpoint:
    """Load a checkpoint onto the CPU. Raises TrainError when it is damaged."""
    damage = integrity_error(path)
    if damage:
        raise TrainError(f"{path}: this checkpoint is damaged: {damage}.")
    state = read_json(path / STATE)
    return Checkpoint(int(state["step"]), load_file(path / WEIGHTS), load_file(path / OPTIMIZER), state)


def steps(directory: Path) -> list[int]:
    """The steps of all checkpoints, intact or not, oldest first."""
    names = (_NAME.fullmatch(path.name) for path in directory.glob("step-*"))
    return sorted(int(name.group(1)) for name in names if name)


def latest(directory: Path, report: Callable[[str], None]) -> Checkpoint | None:
    """The newest intact checkpoint; None when there is none.

    Newer damaged ones are reported and deleted, as are the leftovers of interrupted saves.
    """
    for leftover in directory.glob(".step-*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)
    for step in reversed(steps(directory)):
        path = checkpoint_path(directory, step)
        damage = integrity_error(path)
        if damage is None:
            return load(path)
        report(f"{path}: this checkpoint is damaged and will be skipped: {damage}.")
        shutil.rmtree(path, ignore_errors=True)
    return None


def prune(directory: Path, keep: set[int]) -> None:
    """Delete all but the last two checkpoints and those of the steps in `keep`."""
    existing = steps(directory)
    for step in set(existing) - set(existing[-2:]) - keep:
        shutil.rmtree(checkpoint_path(directory, step), ignore_errors=True)
