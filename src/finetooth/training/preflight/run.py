"""The preflight check: before training, a few rows are memorised, saved, reloaded, answered and forgotten.

It finds faults that no loss curve shows: a mask that misses the answer, a stop token that is not learned,
weights without gradient, a save that loses weights, evaluation rendering differently from training. Each
fault has a name. The model is restored bit for bit, so a run is the same with the preflight check and
without.

Axes: M scored tokens.
"""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from finetooth.config.task import TrainConfig
from finetooth.data.render.renderer import Renderer
from finetooth.errors import Interrupted, TrainError
from finetooth.evaluation.candidates import ModelCandidate
from finetooth.evaluation.prompts import Prompt
from finetooth.model.api import Model
from finetooth.training import optimizer as optimizers
from finetooth.training.objectives import Objective, supervised
from finetooth.training.preflight.checks import (
    PreflightError,
    eval_logprobs,
    expected_loss,
    require_deterministic,
    require_gradients,
    require_loss,
    require_masks,
    require_rendering,
    require_saved,
    require_stop,
    require_template,
    require_weights,
    without_gradient,
)
from finetooth.training.preflight.rows import PreflightRow, lowest_loss, select_rows
from finetooth.training.step import train_step
from finetooth.training.verification import TOLERANCE, save_model
from finetooth.tree import PrefixTree, Row
from finetooth.types import Example, Sampling

STEPS = 150
RATES = (1.0, 0.2, 4.0)  # learning rates tried in turn, as multiples of a usual one
LEARNED = 0.5  # nats over all scored tokens of weight 1: the rows are memorised, whatever is generated
LIKELIER = math.log(2)  # nats of each scored token: it is then likelier than all alternatives together
TEXT_LOSS = 0.1  # nats per token, for plain text, which evaluation does not ask for
TRY_EVERY = 25  # steps; with a small adapter on a random model answers get right before the loss is low
STEPS_AT_LOW_LOSS = 10  # steps with a loss that low: the rows are memorised, whatever the answers are
OPERATIONS = {"cpu": 1e12, "cuda": 1e14}  # operations of the steps: about 10 seconds
USUAL_STEPS = 15  # that memorise the rows of a pretrained model
SECONDS = 40.0  # time limit, after which no further step is taken
MIN_CONCLUSIVE_STEPS = 20  # steps after which a loss that has not fallen is conclusive


@dataclass(frozen=True, slots=True)
class PreflightInputs:
    """The inputs of a preflight check.

    rows: all training rows, rendered from `examples` by training_renderer. evaluation_renderer: the one that
    evaluation uses. load: loads a saved model as evaluation does. directory: a temporary one. base_digest: of
    the weights below the adapter, None without an adapter. truncation_limit: rows of this many tokens or more
    may have been truncated. memory: total bytes of the device. stop: polled after every step.
    """

    model: Model
    rows: Sequence[Row]
    examples: Sequence[Example]
    config: TrainConfig
    training_renderer: Renderer
    evaluation_renderer: Renderer
    load: Callable[[Path], Model]
    directory: Path
    base_digest: str | None
    truncation_limit: int | None
    memory: int
    clock: Callable[[], float]
    stop: Callable[[], bool] = lambda: False


@dataclass(slots=True)
class PreflightResult:
    """The result of a preflight check; its fields are the keys of train/preflight.json.

    ids: of the rows. loss: nats per token, before the first step and at the last. repeated: the model in
    training reproduces the rows when prompted with their training tokens. answered: number of rows that the
    reloaded model answers exactly, including the stop token; None if not checked. notes: what was not
    checked, and why.
    """

    ids: list[str]
    steps: int = 0
    rate: float = 0.0
    loss: tuple[float, float] = (0.0, 0.0)
    grad_norm: float = 0.0
    repeated: bool = False
    answered: int | None = None
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        first, last = self.loss
        learned = f"{len(self.ids)} rows, {self.steps} steps, loss {first:.3f} -> {last:.3f}"
        answered = f"; saved, reloaded, {self.answered} rows answered correctly" if self.answered else ""
        return "; ".join([f"{learned}{answered}; {self.seconds:.1f} s", *self.notes])


def run_preflight(  # long: the stages of the check, in order
    inputs: PreflightInputs, show: Callable[[Sequence[PreflightRow]], None] = lambda selected: None
) -> PreflightResult:
    """Train, save, reload and answer on a few rows, then restore the model. show: called with the rows first.

    Raises PreflightError with the name of the fault; Interrupted when `stop` returns True.
    """
    started = inputs.clock()
    model = inputs.model
    require_weights(model, inputs.config)
    selected, wanted = _affordable_rows(inputs)
    result = PreflightResult([one.row.id for one in selected])
    if len(selected) < wanted:
        reason = "more would take too long with this model"
        result.notes.append(f"{len(selected)} rows instead of {wanted}: {reason}")
    show(selected)
    require_rendering(selected, inputs.evaluation_renderer)
    require_masks(inputs.rows, model.stop_ids)
    mode, start = model.training, model.state()
    # All tokens are compared: where a model is certain of an answer, a small change of weights hardly shows.
    tree = PrefixTree.build(
        [Row(one.row.tokens, [0.0] + [1.0] * (len(one.row) - 1), id=one.row.id) for one in selected]
    )
    try:
        with torch.random.fork_rng(devices=[]):
            base_M = require_deterministic(model, tree)
            expected = expected_loss([one.row for one in selected], base_M)
            learned = _learn(inputs, selected, start, result, started, expected)
            if inputs.base_digest is not None and model.digest(adapter=False) != inputs.base_digest:
                message = "training changed weights that are frozen"
                raise PreflightError("base-changed", message, "Please report this.")
            trained_M = eval_logprobs(model, tree)  # one pass: the saved model has to give the same
            if float((trained_M - base_M).abs().max()) <= TOLERANCE:
                raise PreflightError(
                    "adapter-inert",
                    f"{result.steps} steps changed the weights, but not the outputs of the model",
                    "Check what the model was loaded from; `train.adapter: none` trains its own weights.",
                )
            size = sum(weight.numel() * weight.element_size() for weight in model.hf.parameters())
            if 2 * size > 0.7 * inputs.memory:
                note = "saving and loading were not checked: two copies of the model do not fit into memory"
                result.notes.append(note)
            else:
                answerable = [one for one in selected if one.example is not None]
                try:
                    saved = save_model(model, inputs.directory, inputs.training_renderer.chat_template)
                    loaded = require_saved(inputs.load, saved, tree, base_M, trained_M)
                    require_stop(inputs.evaluation_renderer, loaded)
                    require_template(answerable, saved, inputs.evaluation_renderer.instruction)
                finally:
                    shutil.rmtree(inputs.directory, ignore_errors=True)
                if answerable and learned:
                    _require_answers(inputs, loaded, answerable, result.repeated)
                    result.answered = len(answerable)
    finally:
        model.load_state(start)
        for weight in model.trainable():
            weight.grad = None
        model.train(mode)
    result.seconds = round(inputs.clock() - started, 2)
    return result


def _affordable_rows(inputs: PreflightInputs) -> tuple[list[PreflightRow], int]:
    """The rows that can be memorised in time, and how many there should be.

    A step multiplies each distinct token with every weight of the layers, forwards and, for its gradient,
    once or twice backwards; embeddings are looked up, and few tokens need the head.
    """
    network = inputs.model.hf
    weights = max(1, network.num_parameters() - network.get_input_embeddings().weight.numel())
    step = (4 if inputs.config.adapter == "lora" else 6) * weights  # operations for a distinct token
    distinct = OPERATIONS[inputs.model.device.type] / (step * USUAL_STEPS)
    wanted = select_rows(inputs.rows, inputs.examples, sys.maxsize, inputs.truncation_limit)
    shared = sum(len(one.row) for one in wanted) / len(PrefixTree.build([one.row for one in wanted]))
    most = int(distinct * shared)  # tokens of the rows, some of which they share
    return select_rows(inputs.rows, inputs.examples, most, inputs.truncation_limit), len(wanted)


def _learn(
    inputs: PreflightInputs,
    selected: Sequence[PreflightRow],
    start: dict[str, Any],
    result: PreflightResult,
    started: float,
    expected: tuple[float, float],
) -> bool:
    """Overfit the rows; returns whether they are memorised. PreflightError if the loss does not fall."""
    usual = 2e-3 * (2000 / inputs.model.hf.get_input_embeddings().weight.shape[1]) ** 0.5
    if inputs.config.adapter == "none":
        usual /= 4
    learned = in_time = False
    reached: list[float] = []
    inputs.model.train()
    for factor in RATES:
        inputs.model.load_state(start)
        result.rate = float(f"{usual * factor:.1e}")
        learned, in_time = _overfit(inputs, selected, result, started, expected)
        reached.append(result.loss[1])
        if learned or not in_time:
            break
    first, last = result.loss[0], min(reached)
    least = lowest_loss([one.row for one in selected])
    conclusive = in_time or result.steps >= MIN_CONCLUSIVE_STEPS
    if not learned and conclusive and last - least > 0.5 * (first - least):
        raise PreflightError(
            "not-learning",
            f"the loss of {len(selected)} rows went from {first:.3f} to {last:.3f} in {result.steps} steps; "
            "they should have been memorised",
            "If these rows can be learned, a larger train.rank or `train.adapter: none` may be needed.",
        )
    if not learned:
        reason = "" if in_time else " within the time limit"
        result.notes.append(
            f"the rows were not memorised after {result.steps} steps{reason}: "
            "the answers of the saved model were not checked"
        )
    return learned


def _overfit(  # long: the training loop of the check
    inputs: PreflightInputs,
    selected: Sequence[PreflightRow],
    result: PreflightResult,
    started: float,
    expected: tuple[float, float],
) -> tuple[bool, bool]:
    """One attempt at result.rate: whether the rows are memorised, and whether time is left for another."""
    model, rows = inputs.model, [one.row for one in selected]
    answerable = all(one.example is not None for one in selected)
    optimizer = optimizers.build(model, inputs.config)
    for group in optimizer.param_groups:
        group["lr"], group["weight_decay"] = result.rate, 0.0
    least, budget = lowest_loss(rows), inputs.config.micro_tokens
    lightest = min(float(row.weight[row.weight > 0].min()) for row in rows)
    assert isinstance(budget, int), "the configuration is resolved"
    loss, learned, low = supervised.loss, False, 0
    objective = Objective("token", lambda signals: (loss(signals)[0], {"nats_max": -signals.logp_M}))
    for number in range(1, STEPS + 1):
        try:
            step = train_step(model, objective, rows, optimizer, budget=budget, max_norm=1.0)
        except TrainError:
            if number == 1:
                raise
            break
        if number == 1:
            result.loss, result.grad_norm = (step.loss, step.loss), step.grad_norm
            require_loss(model, expected, step.loss)
            if not step.grad_norm and step.loss > least:
                raise without_gradient(list(model.named_trainable()))
        result.steps, result.loss = number, (result.loss[0], step.loss)
        excess = step.loss - least
        low += excess * step.units < LEARNED * lightest if answerable else excess < TEXT_LOSS
        if low >= (STEPS_AT_LOW_LOSS if answerable else 1):
            learned = True
        elif answerable and (low or step.metrics["nats_max"] < LIKELIER or number % TRY_EVERY == 0):
            learned = result.repeated = _repeats(model, selected)
        if (number > 1 and learned) or (number >= MIN_CONCLUSIVE_STEPS and step.loss > 1.5 * result.loss[0]):
            break
        if inputs.stop():
            raise Interrupted("Stopped before training; start the same command again.")
        if number > 1 and inputs.clock() - started > SECONDS:
            require_gradients(model, optimizer)
            return False, False
    if result.steps > 1:  # in the first step LoRA's B is 0, so A gets no gradient
        require_gradients(model, optimizer)
    return learned, True


def _repeats(model: Model, selected: Sequence[PreflightRow]) -> bool:
    """Whether the model in training reproduces the answers of the rows exactly."""
    starts = [int(np.flatnonzero(one.row.weight)[0]) for one in selected]
    contexts = [Row(one.row.tokens[:at], np.zeros(at)) for one, at in zip(selected, starts, strict=True)]
    longest = max(len(one.row) - at for one, at in zip(selected, starts, strict=True))
    with model.eval_mode():
        return all(
            list(answer.tokens) == selected[answer.row].row.tokens[starts[answer.row] :].tolist()
            for answer in model.generate(contexts, Sampling(max_tokens=longest))
        )


def _require_answers(
    inputs: PreflightInputs, loaded: Model, answerable: Sequence[PreflightRow], repeated: bool
) -> None:
    """The reloaded model, prompted as in evaluation, answers what it has memorised, and stops."""
    renderer = inputs.evaluation_renderer
    targets = [one.row.tokens[np.flatnonzero(one.row.weight)[0] :].tolist() for one in answerable]
    sampling = Sampling(max_tokens=max(map(len, targets)) + 8)
    loaded.add_stop(renderer.stop_id)
    candidate = ModelCandidate("preflight", loaded, renderer, Prompt("preflight"), sampling)
    for answer in candidate.predict([one.example for one in answerable if one.example is not None]):
        want = renderer.tokenizer.decode(targets[answer.index][:-1])
        if (answer.text, answer.stop) == (want, "stop"):
            continue
        row, text = f"row {answerable[answer.index].row.id}", f"{answer.text[:80]!r}"
        if answer.stop != "stop" and answer.text.startswith(want):
            raise PreflightError(
                "stop-token",
                f"after memorising {row} the model answers it but does not stop: {text}",
                "The stop token is not learned. Check the scored tokens: finetooth check TASK",
            )
        if repeated:
            message = f"{row} was memorised, but prompted as in evaluation the model answers {text}"
            hint = "Training and evaluation must render alike."
            raise PreflightError("template", f"{message}, not {want[:80]!r}", hint)
        message = f"the loss of {row} is nearly zero, but the model answers {text}, not {want[:80]!r}"
        hint = "Check the scored tokens: finetooth check TASK"
        raise PreflightError("mask", f"{message}: the scored tokens are not the answer", hint)
