"""What preference tuning starts from: the log-probabilities by the model as it is before the first step.

They are measured once and kept in train/reference.safetensors, so that a continued run has the same numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from finetooth.config.task import TrainConfig
from finetooth.data.render.renderer import Renderer
from finetooth.data.render.turns import answer_turn
from finetooth.errors import TrainError
from finetooth.model.api import Model
from finetooth.model.inference import row_logprobs
from finetooth.rundir import fsync_directory
from finetooth.training.checkpoint import fsync_file
from finetooth.training.order import group_by_unit
from finetooth.training.preferences import beta, needs_reference, objective, start_loss, with_signals
from finetooth.training.step import evaluate_rows
from finetooth.tree import Row
from finetooth.types import Example

FILE = "reference.safetensors"
TRIED = 16  # pairs of each side on which the start is looked at
TOLERANCE = 1e-4  # nats a token, float32: other rows beside it and other threads change a row that little
NARROW = 2e-2  # of bfloat16 products


def with_reference(
    model: Model,
    sides: Sequence[Sequence[Row]],
    config: TrainConfig,
    run_path: Path,
    say: Callable[[str], None],
) -> list[list[Row]]:
    """The rows of each side as the method takes them: with the signal reference_logp where it needs that.

    model: as the run starts, its adapter included. For kto each row gets a companion, marked `mismatched`.
    Raises TrainError when what is kept belongs to other rows, or is not of this model.
    """
    if not needs_reference(config.method):
        return [list(rows) for rows in sides]
    if config.method == "kto":
        sides = [with_mismatched(rows, model.max_tokens) for rows in sides]
    rows = [row for side in sides for row in side]
    assert isinstance(config.micro_tokens, int), "the configuration is resolved"
    path = run_path / "train" / FILE
    if not path.is_file():
        say(f"reference: {len(rows)} answers are scored by the model as it starts")
        _write(path, rows, row_logprobs(model, rows, config.micro_tokens))
    logp = _read(path, rows)
    made = [
        with_signals(row, {"reference_logp": scatter_to_tokens(row, own)})
        for row, own in zip(rows, logp, strict=True)
    ]
    found, start = [], 0
    for side in sides:
        found.append(made[start : start + len(side)])
        start += len(side)
        require_start(model, found[-1], config)
    return found


def with_mismatched(rows: Sequence[Row], limit: int) -> list[Row]:
    """Each row, and behind the rows of its unit as many that have its context and another unit's answer.

    The next unit in turn whose answer of the same kind fits into `limit` tokens; none where none does.
    """
    units = group_by_unit(rows)
    found = []
    for number, unit in enumerate(units):
        found += [with_signals(row, {"mismatched": 0.0}) for row in unit]
        for row in unit:
            at = int(np.flatnonzero(row.weight)[0])
            others = (other for step in range(1, len(units)) for other in units[(number + step) % len(units)])
            for other in others:
                begins = int(np.flatnonzero(other.weight)[0])
                if other.signals["chosen"] == row.signals["chosen"] and at + len(other) - begins <= limit:
                    tokens = np.concatenate([row.tokens[:at], other.tokens[begins:]])
                    weight = np.concatenate([row.weight[:at], other.weight[begins:]])
                    signals = {**row.signals, "mismatched": 1.0}
                    found.append(replace(row, tokens=tokens, weight=weight, signals=signals))
                    break
    return found


def require_start(model: Model, rows: Sequence[Row], config: TrainConfig) -> None:
    """Before the first step a model is its own reference: rewards and margins are 0, DPO's loss is log 2.

    Looked at on some pairs, up to rounding. Raises TrainError: the reference is of another model.
    """
    units = group_by_unit(rows)
    tried = [row for unit in units[:: max(1, len(units) // TRIED)][:TRIED] for row in unit]
    if not tried:
        return
    most = TOLERANCE if model.dtype in (torch.float32, torch.float64) else NARROW
    worst, longest = 0.0, 0
    for row, logp_M in zip(tried, row_logprobs(model, tried), strict=True):
        gap = np.abs(logp_M - row.signals["reference_logp"][row.weight > 0]).mean()
        worst, longest = max(worst, float(gap)), max(longest, logp_M.size)
    budget, strength = config.micro_tokens, beta(config)
    assert isinstance(budget, int), "the configuration is resolved"
    loss, said = evaluate_rows(model, tried, budget=budget, objective=objective(config))
    wanted = start_loss(config)
    weights = [unit[0].weight.max() for unit in group_by_unit(tried)]
    off = 0.0 if wanted is None else abs(loss / float(np.mean(weights)) - wanted)
    near = 2 * most * longest * max(strength, 1 / strength)
    if not (worst <= most and abs(said["margin"]) <= near and off <= near):
        raise TrainError(
            "Before the first step the model must be its own reference, and it is not: log-probabilities "
            f"differ by {worst:.1e} nats a token, the mean margin is {said['margin']:.1e} and the loss "
            f"{loss:.4f}{'' if wanted is None else f', expected {wanted:.4f}'}. {FILE} is of another model "
            "or was changed. Start a new --out."
        )


def require_pairs(rows: Sequence[Row], examples: Sequence[Example], renderer: Renderer) -> None:
    """Each unit is one chosen and one rejected row, and the chosen one holds the example's chosen answer.

    The second is looked at on some pairs. Raises TrainError.
    """
    units = group_by_unit(rows)
    for unit in units:
        if sorted(float(row.signals["chosen"]) for row in unit) != [0.0, 1.0]:
            raise TrainError(f"Row {unit[0].id}: a pair is one chosen and one rejected answer.")
    by_id = {example.id: example for example in examples}
    for unit in units[:: max(1, len(units) // TRIED)][:TRIED]:
        chosen = next(row for row in unit if row.signals["chosen"])
        example = by_id[chosen.id]
        answer = renderer.answer_ids(example.context, answer_turn(example), example.tools)
        if tuple(chosen.tokens[-len(answer) :].tolist()) != answer:
            raise TrainError(
                f"Row {chosen.id}: what stands as chosen is not the chosen answer; the two may be swapped. "
                "Nothing was trained. Please report this."
            )


def scatter_to_tokens(row: Row, logp_M: np.ndarray) -> np.ndarray:
    """The log-probabilities at the row's scored tokens, 0 elsewhere."""
    logp_T = np.zeros(len(row))
    logp_T[row.weight > 0] = logp_M
    return logp_T


def _digest(rows: Sequence[Row]) -> str:
    result = hashlib.sha256()
    for row in rows:
        result.update(f"{row.id}/{len(row)}/".encode() + row.tokens.tobytes() + row.weight.tobytes())
    return result.hexdigest()


def _write(path: Path, rows: Sequence[Row], logp: Sequence[np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    flat = torch.from_numpy(np.concatenate([*logp, np.empty(0)]))
    save_file({"logp": flat}, temporary, {"rows": _digest(rows)})
    fsync_file(temporary)
    temporary.replace(path)
    fsync_directory(path.parent)


def _read(path: Path, rows: Sequence[Row]) -> list[np.ndarray]:
    again = "Start a new --out, or delete the file before the first checkpoint is written."
    try:
        with safe_open(path, "pt") as file:
            digest, flat = (file.metadata() or {}).get("rows"), file.get_tensor("logp").numpy()
    except SafetensorError as error:
        raise TrainError(f"{path}: damaged or cut off ({error}). {again}") from None
    counts = [int((row.weight > 0).sum()) for row in rows]
    if digest != _digest(rows) or flat.size != sum(counts):
        raise TrainError(f"{path}: the log-probabilities there are of other rows. {again}")
    return np.split(flat, np.cumsum(counts)[:-1])
