"""The fingerprint of a run, so that a checkpoint never continues another run or deviates silently."""

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

MUST = ("settings", "rows", "seeds", "weights")  # if different, it is a different run
SHOULD = ("torch", "attention", "dtype", "device")  # if different, the run is not reproduced bit for bit


def run_fingerprint(
    model: Model,
    train_rows: Sequence[Row],
    validation_rows: Sequence[Row],
    config: TrainConfig,
    seed: int,
) -> dict[str, Any]:
    """Digests of the settings and rows, the shapes of the trained weights, and what rounding depends on."""
    shapes = {name: list(weight.shape) for name, weight in model.named_trainable().items()}
    return {
        "settings": _digest(
            config.model_dump(
                exclude={"save_every", "log_every", "preflight", "track", "interpolate", "seed", "seeds"}
            )
        ),
        "rows": f"{len(train_rows)} + {len(validation_rows)} {rows_digest([*train_rows, *validation_rows])}",
        "seeds": seed,
        "weights": _digest([model.hf.config.model_type, shapes]),
        "torch": torch.__version__,
        "attention": model.attention,
        "dtype": f"{model.dtype}{' over wider weights' if model.master_weights else ''}",
        "device": str(model.device),
        "threads": torch.get_num_threads(),
    }


def require_same(
    saved: Mapping[str, Any], current: Mapping[str, Any], folder: Path, report: Callable[[str], None]
) -> None:
    """Raises TrainError, naming what differs, when the checkpoints in `folder` belong to another run.

    The thread count of the checkpoint is restored, since the order of summation depends on it; differences
    that cannot be restored are reported.
    """
    for key in MUST:
        if saved[key] != current[key]:
            raise TrainError(
                f"{folder}: these checkpoints belong to a run with different {key}. Use another --out."
            )
    if saved["threads"] != current["threads"]:
        torch.set_num_threads(saved["threads"])
    for key in SHOULD:
        if saved[key] != current[key]:
            report(
                f"warning: {key} was {saved[key]} when the checkpoint was saved and is {current[key]} now: "
                "training can continue, but will not match an uninterrupted run bit for bit."
            )


def rows_digest(rows: Sequence[Row]) -> str:
    """Hex digest of the rows' ids, tokens and loss weights."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(f"{row.id}/{len(row)}/".encode() + row.tokens.tobytes() + row.weight.tobytes())
    return digest.hexdigest()


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
