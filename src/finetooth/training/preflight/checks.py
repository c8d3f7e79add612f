"""What the preflight check calls by name, and the checks that need no step of their own.

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
    """The preflight check found something wrong. name: what, such as stop-token."""

    def __init__(self, name: str, what: str, hint: str) -> None:
        self.name = name
        super().__init__(
            f"preflight:{name}: {what}. Nothing was trained. {hint}".rstrip()
            + "\n`--train.preflight off`, with a new --out, trains without this check; the result says so."
        )


def require_weights(model: Model, config: TrainConfig) -> None:
    """Every weight that is to be trained is, in a type that takes small updates."""
    for name, weight in model.hf.named_parameters():
        wanted = config.adapter == "none" or ".lora_" in name
        if wanted and not weight.requires_grad:
            raise PreflightError(
                "no-gradient",
                f"{name} should be trained but is frozen",
                "Load the model again; nothing but finetooth may change requires_grad.",
            )
        if weight.requires_grad and weight.dtype not in (torch.float32, torch.float64):
            raise PreflightError(
                "dtype",
                f"{name} is trained in {weight.dtype}, in which small updates are rounded away",
                "Load the model in float32, or with master_weights=True.",
            )


def require_masks(rows: Sequence[Row], stop_ids: Set[int]) -> None:
    """Every training row scores something, and its last token, which stops. Raises PreflightError."""
    empty = [row.id for row in rows if not row.weight.any()]
    if empty:
        raise PreflightError(
            "mask",
            f"nothing is scored in {len(empty)} of {len(rows)} rows, such as {empty[0]}",
            "Look at them: finetooth check TASK",
        )
    open_ended = [row.id for row in rows if not row.weight[-1] or int(row.tokens[-1]) not in stop_ids]
    if open_ended:
        raise PreflightError(
            "stop-token",
            f"{len(open_ended)} of {len(rows)} rows do not score a stop token at their end, such as "
            f"{open_ended[0]}; the model would not learn to stop",
            "Look at the template: finetooth check TASK",
        )


def require_rendering(
    picked: Sequence[PreflightRow], evaluation_renderer: Renderer, where: str = "evaluation"
) -> None:
    """The rows are what `asks` renders, and score exactly the answer. Raises PreflightError."""
    for one in picked:
        if one.example is None:
            continue
        row = one.row
        try:
            context = evaluation_renderer.context_row(
                one.messages, one.example.tools, evaluation_renderer.thinks(one.example)
            ).tokens
            answer = evaluation_renderer.answer_ids(one.messages, answer_turn(one.example), one.example.tools)
        except DataError as error:
            raise PreflightError(
                "template", f"row {row.id}: {where} cannot render it ({error})", ""
            ) from error
        if row.tokens.tolist() != [*context.tolist(), *answer]:
            text = evaluation_renderer.tokenizer.decode
            raise PreflightError(
                "template",
                f"row {row.id} is rendered differently by {where}.\n"
                f"  trained: {text(row.tokens.tolist())[-200:]!r}\n"
                f"  asked:   {text([*context.tolist(), *answer])[-200:]!r}\n",
                "Both must come from one template: give it as `template: file.jinja`.",
            )
        wrong = np.flatnonzero((row.weight > 0) != (np.arange(len(row)) >= len(context)))
        if wrong.size:
            stop = wrong.tolist() == [len(row) - 1]
            text_of = evaluation_renderer.tokenizer.text_of
            at = int(wrong[0])
            verb = "not scored" if at >= len(context) else "scored, though it is context"
            raise PreflightError(
                "stop-token" if stop else "mask",
                f"row {row.id}: token {at} of {len(row)}, {text_of(int(row.tokens[at]))!r}, is {verb}",
                "Look at the scored tokens: finetooth check TASK",
            )


def require_still(model: Model, tree: PrefixTree) -> torch.Tensor:
    """The log-probabilities in evaluation mode, which are the same twice."""
    with model.eval_mode(), torch.no_grad():
        first_M, second_M = model.logprobs(tree).cpu(), model.logprobs(tree).cpu()
    gap = float((first_M - second_M).abs().max())
    if not gap <= TOLERANCE:
        raise PreflightError(
            "dropout",
            f"in evaluation the same rows get other log-probabilities the second time (by {gap:.1e} nats)",
            "Something random is active in the model, such as dropout: set it to 0 in its config.json.",
        )
    return first_M


def require_gradients(model: Model, optimizer: torch.optim.Optimizer) -> None:
    """Every trained tensor moved, but those that a few rows need not reach: biases, experts, routers."""
    silent = [
        name
        for name, weight in model.named_trainable().items()
        if not bool(optimizers.mean_gradient(optimizer, weight).any())
        and not name.endswith(".bias")
        and not any(part in name for part in ("expert", "router", "mlp.gate."))
    ]
    if silent:
        raise without_gradient(silent)


def without_gradient(names: list[str]) -> PreflightError:
    """The alarm that names weights which got no gradient."""
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return PreflightError(
        "no-gradient",
        f"{names[0]}{more} got no gradient, so nothing is learned there",
        "What the loss is computed from does not depend on these weights: please report this model.",
    )


def require_stop(evaluation_renderer: Renderer, again: Model) -> None:
    """The saved model knows the token that ends its answers. Raises PreflightError."""
    if evaluation_renderer.stop_id not in again.stop_ids:
        stop = evaluation_renderer.tokenizer.text_of(evaluation_renderer.stop_id)
        raise PreflightError(
            "stop-token",
            f"the saved model does not know that {stop!r} ends an answer",
            "Whoever serves it would not stop there. Please report this.",
        )


def require_template(asked: Sequence[PreflightRow], saved: Path, instruction: str) -> None:
    """The chat template that travels with the weights renders what was trained on. Raises PreflightError."""
    try:
        serves = Renderer(Tokenizer.load(saved), "chat", instruction)
    except DataError as error:
        raise PreflightError("template", f"the saved chat template cannot be used ({error})", "") from error
    require_rendering(asked, serves, "the saved chat template")


def count(model: Model, rows: Sequence[Row]) -> tuple[float, float]:
    """The loss of these rows, and what it would be if no row's last token counted; nats a token."""
    tree = PrefixTree.build(rows)
    with model.eval_mode(), torch.no_grad():
        loss_M = -model.logprobs(tree).cpu().double().numpy() * tree.weight_M
    stays_M = np.append(tree.row_M[1:] == tree.row_M[:-1], False)
    return float(loss_M.sum() / tree.weight_M.sum()), float(loss_M[stays_M].sum() / tree.weight_M.sum())


def require_counted(model: Model, counted: tuple[float, float], loss: float) -> None:
    """The trainer's loss is that of the scored tokens, each at its weight. Raises PreflightError."""
    near = max(1.0, counted[0]) * (2e-2 if model.dtype == torch.bfloat16 else 1e-3)
    if abs(loss - counted[0]) <= near:
        return
    stop = abs(loss - counted[1]) <= near
    raise PreflightError(
        "stop-token" if stop else "mask",
        f"the loss of a step is {loss:.4f}, that of its rows' scored tokens {counted[0]:.4f}"
        + (": the last token, the stop, is left out" if stop else ""),
        "What is trained is not what the rows say. Please report this.",
    )


def require_saved(
    load: Callable[[Path], Model],
    saved: Path,
    tree: PrefixTree,
    base_M: torch.Tensor,
    trained_M: torch.Tensor,
) -> Model:
    """What was saved, loaded: it is what was trained, and not its base. Raises PreflightError."""
    hint = "Do not train: what would be evaluated and shipped is not what was trained. Please report this."
    try:
        again = load(saved)
        with again.eval_mode(), torch.no_grad():
            again_M = again.logprobs(tree).cpu()
    except FinetoothError as error:
        raise PreflightError("saved-differs", f"what was saved cannot be loaded ({error})", hint) from error
    if float((again_M - base_M).abs().max()) <= TOLERANCE:
        raise PreflightError("adapter-inert", f"the saved {saved.name} answers exactly as its base", hint)
    gap = float((again_M - trained_M).abs().max())
    if not gap <= TOLERANCE:
        what = f"the saved {saved.name} differs from the trained by {gap:.1e} nats"
        raise PreflightError("saved-differs", what, hint)
    return again
