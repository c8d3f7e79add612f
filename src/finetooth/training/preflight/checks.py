"""The named errors of the preflight check, and the checks that need no training step of their own.

Axes: M scored tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from pathlib import Path

import numpy as np
import torch

from finetooth.config.task import TrainConfig
from finetooth.data.render.renderer import Renderer
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.data.render.turns import answer_turn
from finetooth.errors import DataError, FinetoothError, TrainError
from finetooth.model.api import Model
from finetooth.training import optimizer as optimizers
from finetooth.training.preflight.rows import PreflightRow
from finetooth.training.verification import TOLERANCE
from finetooth.tree import PrefixTree, Row


class PreflightError(TrainError):
    """The preflight check found a fault. name: its kind, such as stop-token."""

    def __init__(self, name: str, what: str, hint: str) -> None:
        self.name = name
        super().__init__(
            f"preflight:{name}: {what}. Nothing was trained. {hint}".rstrip()
            + "\nTo train without the preflight check, use `--train.preflight off` with a new --out; "
            "the result will record it."
        )


def require_weights(model: Model, config: TrainConfig) -> None:
    """Every weight to be trained is trainable, in a dtype that can hold small updates."""
    for name, weight in model.hf.named_parameters():
        wanted = config.adapter == "none" or ".lora_" in name
        if wanted and not weight.requires_grad:
            raise PreflightError(
                "no-gradient",
                f"{name} should be trained but is frozen",
                "Reload the model; only finetooth may change requires_grad.",
            )
        if weight.requires_grad and weight.dtype not in (torch.float32, torch.float64):
            raise PreflightError(
                "dtype",
                f"{name} is trained in {weight.dtype}, in which small updates are rounded away",
                "Load the model in float32, or with master_weights=True.",
            )


def require_masks(rows: Sequence[Row], stop_ids: Set[int]) -> None:
    """Every training row has scored tokens and ends with a scored stop token. Raises PreflightError."""
    empty = [row.id for row in rows if not row.weight.any()]
    if empty:
        raise PreflightError(
            "mask",
            f"{len(empty)} of {len(rows)} rows have no scored token, such as {empty[0]}",
            "Check the scored tokens: finetooth check TASK",
        )
    open_ended = [row.id for row in rows if not row.weight[-1] or int(row.tokens[-1]) not in stop_ids]
    if open_ended:
        raise PreflightError(
            "stop-token",
            f"{len(open_ended)} of {len(rows)} rows do not end with a scored stop token, such as "
            f"{open_ended[0]}; the model would not learn to stop",
            "Check the template: finetooth check TASK",
        )


def require_rendering(
    selected: Sequence[PreflightRow], renderer: Renderer, where: str = "evaluation"
) -> None:
    """The rows equal what `renderer` renders, and exactly the answer is scored. Raises PreflightError."""
    for one in selected:
        if one.example is None:
            continue
        row = one.row
        try:
            thinks = renderer.thinks(one.example)
            context = renderer.context_row(one.messages, one.example.tools, thinks).tokens
            answer = renderer.answer_ids(one.messages, answer_turn(one.example), one.example.tools)
        except DataError as error:
            message = f"row {row.id}: {where} cannot render it ({error})"
            raise PreflightError("template", message, "") from error
        if row.tokens.tolist() != [*context.tolist(), *answer]:
            text = renderer.tokenizer.decode
            raise PreflightError(
                "template",
                f"row {row.id} is rendered differently by {where}.\n"
                f"  training:   {text(row.tokens.tolist())[-200:]!r}\n"
                f"  {where}: {text([*context.tolist(), *answer])[-200:]!r}\n",
                "Both must use the same template: set it with `template: file.jinja`.",
            )
        wrong = np.flatnonzero((row.weight > 0) != (np.arange(len(row)) >= len(context)))
        if wrong.size:
            stop = wrong.tolist() == [len(row) - 1]
            text_of = renderer.tokenizer.text_of
            at = int(wrong[0])
            verb = "not scored" if at >= len(context) else "scored, although it is context"
            raise PreflightError(
                "stop-token" if stop else "mask",
                f"row {row.id}: token {at} of {len(row)}, {text_of(int(row.tokens[at]))!r}, is {verb}",
                "Check the scored tokens: finetooth check TASK",
            )


def eval_logprobs(model: Model, tree: PrefixTree) -> torch.Tensor:
    """The log-probabilities in evaluation mode, without gradient: [M], on the CPU."""
    with model.eval_mode(), torch.no_grad():
        return model.logprobs(tree).cpu()


def require_deterministic(model: Model, tree: PrefixTree) -> torch.Tensor:
    """The log-probabilities in evaluation mode, if two passes agree. Raises PreflightError otherwise."""
    first_M, second_M = eval_logprobs(model, tree), eval_logprobs(model, tree)
    gap = float((first_M - second_M).abs().max())
    if not gap <= TOLERANCE:
        raise PreflightError(
            "dropout",
            f"in evaluation mode two passes over the same rows differ by {gap:.1e} nats",
            "Something random is active in the model, such as dropout: set it to 0 in config.json.",
        )
    return first_M


def require_gradients(model: Model, optimizer: torch.optim.Optimizer) -> None:
    """Every trained tensor has a gradient, unless a few rows may miss it: biases, experts, routers."""
    missing = [
        name
        for name, weight in model.named_trainable().items()
        if not bool(optimizers.mean_gradient(optimizer, weight).any())
        and not name.endswith(".bias")
        and not any(part in name for part in ("expert", "router", "mlp.gate."))
    ]
    if missing:
        raise without_gradient(missing)


def without_gradient(names: list[str]) -> PreflightError:
    """The error that names weights without a gradient."""
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return PreflightError(
        "no-gradient",
        f"{names[0]}{more} got no gradient and would not be trained",
        "The loss does not depend on these weights: please report this model.",
    )


def require_stop(renderer: Renderer, loaded: Model) -> None:
    """The saved model knows the token that ends its answers. Raises PreflightError."""
    if renderer.stop_id not in loaded.stop_ids:
        stop = renderer.tokenizer.text_of(renderer.stop_id)
        raise PreflightError(
            "stop-token",
            f"the saved model does not know that {stop!r} ends an answer",
            "A server would generate past the end of the answer. Please report this.",
        )


def require_template(selected: Sequence[PreflightRow], saved: Path, instruction: str) -> None:
    """The chat template saved with the weights renders what was trained on. Raises PreflightError."""
    try:
        renderer = Renderer(Tokenizer.load(saved), "chat", instruction)
    except DataError as error:
        raise PreflightError("template", f"the saved chat template cannot be used ({error})", "") from error
    require_rendering(selected, renderer, "the saved chat template")


def expected_loss(rows: Sequence[Row], logp_M: torch.Tensor) -> tuple[float, float]:
    """The loss of these rows, and the loss if the last token of each row did not count; nats per token.

    logp_M: of all their tokens but the first ones.
    """
    weight_M = np.concatenate([row.weight[1:] for row in rows])
    loss_M = -logp_M.double().numpy() * weight_M
    last_R = np.cumsum([len(row) - 1 for row in rows]) - 1
    total = float(loss_M.sum())
    return total / float(weight_M.sum()), (total - float(loss_M[last_R].sum())) / float(weight_M.sum())


def require_loss(model: Model, expected: tuple[float, float], loss: float) -> None:
    """The loss of a step is that of the scored tokens, each with its weight. Raises PreflightError."""
    near = max(1.0, expected[0]) * (2e-2 if model.dtype == torch.bfloat16 else 1e-3)
    if abs(loss - expected[0]) <= near:
        return
    stop = abs(loss - expected[1]) <= near
    raise PreflightError(
        "stop-token" if stop else "mask",
        f"the loss of a step is {loss:.4f}, but {expected[0]:.4f} over the scored tokens of its rows"
        + (": the stop token is left out" if stop else ""),
        "The trainer does not score what the rows mark as scored. Please report this.",
    )


def require_saved(
    load: Callable[[Path], Model],
    saved: Path,
    tree: PrefixTree,
    base_M: torch.Tensor,
    trained_M: torch.Tensor,
) -> Model:
    """Load the saved model, which must equal the trained one and not its base. Raises PreflightError."""
    hint = "Do not train: the evaluated model would not be the trained one. Please report this."
    try:
        loaded = load(saved)
        loaded_M = eval_logprobs(loaded, tree)
    except FinetoothError as error:
        raise PreflightError("saved-differs", f"the saved model cannot be loaded ({error})", hint) from error
    if float((loaded_M - base_M).abs().max()) <= TOLERANCE:
        raise PreflightError("adapter-inert", f"the saved {saved.name} gives the outputs of its base", hint)
    gap = float((loaded_M - trained_M).abs().max())
    if not gap <= TOLERANCE:
        message = f"the saved {saved.name} differs from the trained model by {gap:.1e} nats"
        raise PreflightError("saved-differs", message, hint)
    return loaded
