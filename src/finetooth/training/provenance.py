"""What a run's numbers follow from, so that a checkpoint never continues another run, or silently differs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from finetooth.config.task import TrainConfig
from finetooth.errors import TrainError
from finetooth.model.api import Model
from finetooth.tree import Row

MUST = ("settings", "rows", "seeds", "weights")  # another one is another run
SHOULD = ("torch", "attention", "dtype", "device")  # another one is the same run, not bit for bit


def run_fingerprint(
    model: Model,
    train_rows: Sequence[Row],
    validation_rows: Sequence[Row],
    config: TrainConfig,
    seed: int,
) -> dict[str, Any]:
    """Digests of the settings and rows, the shapes of what is trained, and what rounding depends on."""
    rows = hashlib.sha256()
    for row in (*train_rows, *validation_rows):
        rows.update(f"{row.id}/{len(row)}/".encode() + row.tokens.tobytes() + row.weight.tobytes())
    shapes = {name: list(weight.shape) for name, weight in model.named_trainable().items()}
    return {
        "settings": _digest(config.model_dump(exclude={"save_every", "log_every", "preflight", "track"})),
        "rows": f"{len(train_rows)} + {len(validation_rows)} {rows.hexdigest()}",
        "seeds": seed,
        "weights": _digest([model.hf.config.model_type, shapes]),
        "torch": torch.__version__,
        "attention": model.attention,
        "dtype": f"{model.dtype}{' over wider weights' if model.master_weights else ''}",
        "device": str(model.device),
        "threads": torch.get_num_threads(),
    }


def require_same(
    former: Mapping[str, Any], now: Mapping[str, Any], folder: Path, report: Callable[[str], None]
) -> None:
    """Raises TrainError, naming what differs, when checkpoints in `folder` belong to another run.

    The number of threads is set to what it was, since the order of sums depends on it; what cannot be
    restored is reported.
    """
    for key in MUST:
        if former[key] != now[key]:
            raise TrainError(f"{folder}: the checkpoints there are of other {key}. Start a new --out.")
    if former["threads"] != now["threads"]:
        torch.set_num_threads(former["threads"])
    for key in SHOULD:
        if former[key] != now[key]:
            report(
                f"warning: {key} was {former[key]} when the checkpoint was made and is {now[key]} now: going "
                "on is sound, but will not repeat bit for bit what an uninterrupted run gives."
            )


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
