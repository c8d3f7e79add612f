"""Reference log-probabilities of preference tuning: those of the initial model, before the first step.

They are computed once and kept in train/reference.safetensors, so that a resumed run uses the same numbers.
"""

from __future__ import annotations

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
from finetooth.rundir import atomic_file
from finetooth.training.preferences import beta, needs_reference, objective, start_loss, with_signals
from finetooth.training.provenance import rows_digest
from finetooth.training.schedule import group_by_unit
from finetooth.training.step import evaluate_rows
from finetooth.tree import Row
from finetooth.types import Example

FILE = "reference.safetensors"
TRIED = 16  # pairs of each side on which the start is checked
TOLERANCE = 1e-4  # nats per token, float32: what a different batch or thread count changes at most
NARROW = 2e-2  # the same for bfloat16


def with_reference(  # long: compute or read the numbers, attach them, check them
    model: Model,
    sides: Sequence[Sequence[Row]],
    config: TrainConfig,
    run_path: Path,
    report: Callable[[str], None],
) -> list[list[Row]]:
    """The rows of each side as the method trains on them: with the signal reference_logp if it needs that.

    model: as the run starts, adapter included. sides: training and validation rows. For kto, rows marked
    `mismatched` are added. Raises TrainError when the stored file belongs to other rows or another model.
    """
    if not needs_reference(config.method):
        return [list(rows) for rows in sides]
    if config.method == "kto":
        sides = [with_mismatched(rows, model.max_tokens) for rows in sides]
    rows = [row for side in sides for row in side]
    assert isinstance(config.micro_tokens, int), "the configuration is resolved"
    path = run_path / "train" / FILE
    if not path.is_file():
        report(f"reference: computing log-probabilities of {len(rows)} answers with the initial model")
        logp = row_logprobs(model, rows, config.micro_tokens)
        flat = torch.from_numpy(np.concatenate([*logp, np.empty(0)]))
        with atomic_file(path) as temporary:
            save_file({"logp": flat}, temporary, {"rows": rows_digest(rows)})
    hint = "Start a new run with --out, or delete the file before the first checkpoint is written."
    try:
        with safe_open(path, "pt") as file:
            digest, stored = (file.metadata() or {}).get("rows"), file.get_tensor("logp").numpy()
    except SafetensorError as error:
        raise TrainError(f"{path}: damaged or truncated ({error}). {hint}") from None
    counts = [int((row.weight > 0).sum()) for row in rows]
    if digest != rows_digest(rows) or stored.size != sum(counts):
        raise TrainError(f"{path}: these log-probabilities belong to other rows. {hint}")
    referenced = iter(add_reference(rows, np.split(stored, np.cumsum(counts)[:-1])))
    result = [[next(referenced) for _ in side] for side in sides]
    for side in result:
        require_own_reference(model, side, config)
    return result


def add_reference(rows: Sequence[Row], logp: Sequence[np.ndarray]) -> list[Row]:
    """The rows with the signal reference_logp. logp: of each row's scored tokens; other tokens get 0."""
    found = []
    for row, logp_M in zip(rows, logp, strict=True):
        logp_T = np.zeros(len(row))
        logp_T[row.weight > 0] = logp_M
        found.append(with_signals(row, {"reference_logp": logp_T}))
    return found


def with_mismatched(rows: Sequence[Row], limit: int) -> list[Row]:
    """After the rows of each unit, as many that pair their context with the answer of another unit.

    The answer is taken from the next unit with one of the same kind (chosen or rejected) that fits into
    `limit` tokens; a row for which there is none gets no mismatched row.
    """
    units = group_by_unit(rows)
    found = []
    for number, unit in enumerate(units):
        found += [with_signals(row, {"mismatched": 0.0}) for row in unit]
        for row in unit:
            start = int(np.flatnonzero(row.weight)[0])
            others = (other for step in range(1, len(units)) for other in units[(number + step) % len(units)])
            for other in others:
                other_start = int(np.flatnonzero(other.weight)[0])
                fits = start + len(other) - other_start <= limit
                if other.signals["chosen"] == row.signals["chosen"] and fits:
                    tokens = np.concatenate([row.tokens[:start], other.tokens[other_start:]])
                    weight = np.concatenate([row.weight[:start], other.weight[other_start:]])
                    signals = {**row.signals, "mismatched": 1.0}
                    found.append(replace(row, tokens=tokens, weight=weight, signals=signals))
                    break
    return found


def require_own_reference(model: Model, rows: Sequence[Row], config: TrainConfig) -> None:
    """Check that the model is its own reference before the first step: margins are 0, the DPO loss is log 2.

    Checked on some pairs, up to rounding. Raises TrainError when the reference belongs to another model.
    """
    units = group_by_unit(rows)
    tried = [row for unit in units[:: max(1, len(units) // TRIED)][:TRIED] for row in unit]
    if not tried:
        return
    tolerance = TOLERANCE if model.dtype in (torch.float32, torch.float64) else NARROW
    worst, longest = 0.0, 0
    for row, logp_M in zip(tried, row_logprobs(model, tried), strict=True):
        gap = np.abs(logp_M - row.signals["reference_logp"][row.weight > 0]).mean()
        worst, longest = max(worst, float(gap)), max(longest, logp_M.size)
    budget, strength = config.micro_tokens, beta(config)
    assert isinstance(budget, int), "the configuration is resolved"
    loss, metrics = evaluate_rows(model, tried, budget=budget, objective=objective(config))
    expected = start_loss(config)
    weights = [unit[0].weight.max() for unit in group_by_unit(tried)]
    off = 0.0 if expected is None else abs(loss / float(np.mean(weights)) - expected)
    near = 2 * tolerance * longest * max(strength, 1 / strength)
    if not (worst <= tolerance and abs(metrics["margin"]) <= near and off <= near):
        raise TrainError(
            "Before the first step the model must be its own reference, and it is not: log-probabilities "
            f"differ by {worst:.1e} nats per token, the mean margin is {metrics['margin']:.1e} and the loss "
            f"{loss:.4f}{'' if expected is None else f', expected {expected:.4f}'}. {FILE} belongs to "
            "another model or was changed. Start a new run with --out."
        )


def require_pairs(rows: Sequence[Row], examples: Sequence[Example], renderer: Renderer) -> None:
    """Check that each unit is one chosen and one rejected row, and that chosen rows hold the chosen answers.

    The latter is checked on some pairs. Raises TrainError.
    """
    units = group_by_unit(rows)
    for unit in units:
        if sorted(float(row.signals["chosen"]) for row in unit) != [0.0, 1.0]:
            raise TrainError(f"Row {unit[0].id}: expected a pair of one chosen and one rejected answer.")
    by_id = {example.id: example for example in examples}
    for unit in units[:: max(1, len(units) // TRIED)][:TRIED]:
        chosen = next(row for row in unit if row.signals["chosen"])
        example = by_id[chosen.id]
        answer = renderer.answer_ids(example.context, answer_turn(example), example.tools)
        if tuple(chosen.tokens[-len(answer) :].tolist()) != answer:
            raise TrainError(
                f"Row {chosen.id}: the row marked as chosen does not hold the chosen answer; the two may be "
                "swapped. Nothing was trained. Please report this."
            )
