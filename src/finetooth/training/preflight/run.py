"""The preflight: before a run, a few rows are learned, saved, loaded, answered, and then forgotten.

It sees what no loss curve shows: a mask beside the answer, a stop token that is not learned, weights without
gradient, a save that loses them, a rendering that evaluation does not share. Each failure has a name. The
model is left as it was found, bit for bit, so a run is the same with the preflight check and without.

Axes: M scored tokens.
"""

from __future__ import annotations

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
from finetooth.training.objectives import supervised
from finetooth.training.preflight.checks import (
    PreflightError,
    count,
    require_counted,
    require_gradients,
    require_masks,
    require_rendering,
    require_saved,
    require_still,
    require_stop,
    require_template,
    require_weights,
    without_gradient,
)
from finetooth.training.preflight.rows import PreflightRow, all_scored, floor, pick
from finetooth.training.step import train_step
from finetooth.training.verification import TOLERANCE, save_model
from finetooth.tree import PrefixTree, Row
from finetooth.types import Example, Sampling

STEPS = 150
RATES = (1.0, 0.2, 4.0)  # tried in turn, as multiples of a usual rate
LEARNED = 0.5  # nats, of all scored tokens of weight 1 together: each is then likelier than all others
LEARNED_TEXT = 0.1  # nats a token, of text that is not asked for
TRY_EVERY = 25  # steps; the loss of a small adapter on a random model stays high, its answers get right
SURE = 10  # steps with a loss that low: whatever is asked now, this was learned
WORK = {"cpu": 1e12, "cuda": 1e14}  # operations that fit into some 20 seconds
SECONDS = 40.0  # after which no further step is taken
ENOUGH = 20  # steps after which a loss that did not fall says something


@dataclass(frozen=True, slots=True)
class PreflightInputs:
    """What a preflight check needs.

    rows: all training rows, as training takes them, made of `examples`. renders: what they were rendered by.
    asks: the rendering that evaluation makes for itself. load: as evaluation loads what was saved. place: a
    directory for a moment. base_digest: of the weights that an adapter leaves alone, None without an adapter.
    uncut: rows of this length may have been cut. memory: bytes of the device in all. stop: asked after every
    step.
    """

    model: Model
    rows: Sequence[Row]
    examples: Sequence[Example]
    config: TrainConfig
    training_renderer: Renderer
    evaluation_renderer: Renderer
    load: Callable[[Path], Model]
    place: Path
    base_digest: str | None
    uncut: int | None
    memory: int
    clock: Callable[[], float]
    stop: Callable[[], bool] = lambda: False


@dataclass(slots=True)
class PreflightResult:
    """What a preflight check found: train/preflight.json.

    loss: nats a token, before the first step and at the last. repeated: the model in training answered the
    rows as they are, asked with the tokens it was trained on. answered: rows that the loaded model answered
    as they are, stop token included; None where none was asked. notes: what was not looked at, and why.
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
        asked = f"; saved, loaded, and {self.answered} answered as learned" if self.answered else ""
        return "; ".join([f"{learned}{asked}; {self.seconds:.1f} s", *self.notes])


def run_preflight(
    trial: PreflightInputs, show: Callable[[Sequence[PreflightRow]], None] = lambda picked: None
) -> PreflightResult:
    """Try the whole way on a few rows. show: called with the rows before they are learned.

    Raises PreflightError with the name of what is wrong; Interrupted when `stop` says so.
    """
    started = trial.clock()
    model = trial.model
    require_weights(model, trial.config)
    most = int(WORK[model.device.type] / (6 * model.hf.num_parameters() * 60))
    picked = pick(trial.rows, trial.examples, most, trial.uncut)
    found = PreflightResult([one.row.id for one in picked])
    if len(picked) < len(pick(trial.rows, trial.examples, sys.maxsize, trial.uncut)):
        found.notes.append(f"{len(picked)} rows instead of 8: more would take too long with this model")
    show(picked)
    require_rendering(picked, trial.evaluation_renderer)
    require_masks(trial.rows, model.stop_ids)
    mode, start = model.training, model.state()
    try:
        with torch.random.fork_rng(devices=[]):
            _preflight(trial, picked, start, found, started)
    finally:
        model.load_state(start)
        for weight in model.trainable():
            weight.grad = None
        model.train(mode)
    found.seconds = round(trial.clock() - started, 2)
    return found


def _preflight(
    trial: PreflightInputs,
    picked: Sequence[PreflightRow],
    start: dict[str, Any],
    found: PreflightResult,
    started: float,
) -> None:
    model = trial.model
    tree = PrefixTree.build([all_scored(one.row) for one in picked])
    base_M = require_still(model, tree)
    learned = _learn(trial, picked, start, found, started)
    if trial.base_digest is not None and model.digest(adapter=False) != trial.base_digest:
        raise PreflightError(
            "base-changed", "training changed weights that are frozen", "Please report this."
        )
    trained_M = require_still(model, tree)
    if float((trained_M - base_M).abs().max()) <= TOLERANCE:
        raise PreflightError(
            "adapter-inert",
            f"{found.steps} steps changed weights, but nothing that the model computes",
            "Look at what the model was loaded from; `train.adapter: none` trains its own weights.",
        )
    held = sum(weight.numel() * weight.element_size() for weight in model.hf.parameters())
    if 2 * held > 0.7 * trial.memory:
        found.notes.append("saving and loading were not tried: two such models do not fit into the memory")
        return
    asked = [one for one in picked if one.example is not None]
    try:
        saved = save_model(model, trial.place, trial.training_renderer.chat_template)
        again = require_saved(trial.load, saved, tree, base_M, trained_M)
        require_stop(trial.evaluation_renderer, again)
        require_template(asked, saved, trial.evaluation_renderer.instruction)
    finally:
        shutil.rmtree(trial.place, ignore_errors=True)
    if asked and learned:
        _require_answers(trial, again, asked, found.repeated)
        found.answered = len(asked)


def _learn(
    trial: PreflightInputs,
    picked: Sequence[PreflightRow],
    start: dict[str, Any],
    found: PreflightResult,
    started: float,
) -> bool:
    """Overfit the rows. Whether they are learned; PreflightError when the loss does not fall."""
    usual = 2e-3 * (2000 / trial.model.hf.get_input_embeddings().weight.shape[1]) ** 0.5
    if trial.config.adapter == "none":
        usual /= 4
    learned = in_time = False
    reached: list[float] = []
    trial.model.train()
    for factor in RATES:
        trial.model.load_state(start)
        found.rate = float(f"{usual * factor:.1e}")
        learned, in_time = _overfit(trial, picked, found, started)
        reached.append(found.loss[1])
        if learned or not in_time:
            break
    first, last = found.loss[0], min(reached)
    least = floor([one.row for one in picked])
    if not learned and last - least > 0.5 * (first - least) and (in_time or found.steps >= ENOUGH):
        raise PreflightError(
            "not-learning",
            f"the loss of {len(picked)} rows went from {first:.3f} to {last:.3f} in {found.steps} steps, "
            "and they should be known by heart",
            "If these rows can be learned, a larger train.rank or `train.adapter: none` may be needed.",
        )
    if not learned:
        why = "" if in_time else ", when the time was up"
        found.notes.append(
            f"the rows were not known by heart after {found.steps} steps{why}: "
            "whether the saved model answers what it has learned was not tried"
        )
    return learned


def _overfit(
    trial: PreflightInputs, picked: Sequence[PreflightRow], found: PreflightResult, started: float
) -> tuple[bool, bool]:
    """One attempt at found.rate: whether the rows are learned, and whether there is time for another."""
    model, rows = trial.model, [one.row for one in picked]
    asked = all(one.example is not None for one in picked)
    optimizer = optimizers.build(model, trial.config)
    for group in optimizer.param_groups:
        group["lr"], group["weight_decay"] = found.rate, 0.0
    counted = count(model, rows)
    least, budget = floor(rows), trial.config.micro_tokens
    lightest = min(float(row.weight[row.weight > 0].min()) for row in rows)
    assert isinstance(budget, int), "the configuration is resolved"
    learned, low = False, 0
    for step in range(1, STEPS + 1):
        try:
            result = train_step(model, supervised, rows, optimizer, budget=budget, max_norm=1.0)
        except TrainError:
            if step == 1:
                raise
            break
        if step == 1:
            found.loss, found.grad_norm = (result.loss, result.loss), result.grad_norm
            require_counted(model, counted, result.loss)
            if not result.grad_norm and result.loss > least:
                raise without_gradient(list(model.named_trainable()))
        found.steps, found.loss = step, (found.loss[0], result.loss)
        left = result.loss - least
        low += left * result.units < LEARNED * lightest if asked else left < LEARNED_TEXT
        if low >= (SURE if asked else 1):
            learned = True
        elif asked and (low or step % TRY_EVERY == 0):
            learned = found.repeated = _repeats(model, picked)
        if (step > 1 and learned) or (step >= ENOUGH and result.loss > 1.5 * found.loss[0]):
            break
        if trial.stop():
            raise Interrupted("Stopped before training; start the same command again.")
        if step > 1 and trial.clock() - started > SECONDS:
            require_gradients(model, optimizer)
            return False, False
    if found.steps > 1:  # in the first step an adapter's second matrix is 0, so its first gets no gradient
        require_gradients(model, optimizer)
    return learned, True


def _repeats(model: Model, picked: Sequence[PreflightRow]) -> bool:
    """Whether the model in training answers the rows as they are."""
    starts = [int(np.flatnonzero(one.row.weight)[0]) for one in picked]
    contexts = [Row(one.row.tokens[:at], np.zeros(at)) for one, at in zip(picked, starts, strict=True)]
    longest = max(len(one.row) - at for one, at in zip(picked, starts, strict=True))
    with model.eval_mode():
        return all(
            list(answer.tokens) == picked[answer.row].row.tokens[starts[answer.row] :].tolist()
            for answer in model.generate(contexts, Sampling(max_tokens=longest))
        )


def _require_answers(
    trial: PreflightInputs, again: Model, asked: Sequence[PreflightRow], repeated: bool
) -> None:
    """The loaded model, asked as evaluation asks, answers what it has learned, and stops."""
    wanted = [one.row.tokens[np.flatnonzero(one.row.weight)[0] :].tolist() for one in asked]
    sampling = Sampling(max_tokens=max(map(len, wanted)) + 8)
    again.add_stop(trial.evaluation_renderer.stop_id)
    candidate = ModelCandidate("preflight", again, trial.evaluation_renderer, Prompt("preflight"), sampling)
    for answer in candidate.predict([one.example for one in asked if one.example is not None]):
        want = trial.evaluation_renderer.tokenizer.decode(wanted[answer.index][:-1])
        if (answer.text, answer.stop) == (want, "stop"):
            continue
        id, said = asked[answer.index].row.id, f"{answer.text[:80]!r}"
        if answer.stop != "stop" and answer.text.startswith(want):
            raise PreflightError(
                "stop-token",
                f"after learning row {id} by heart the model answers it but does not stop: {said}",
                "The stop token is not learned. Look at the scored tokens: finetooth check TASK",
            )
        if repeated:
            what = f"row {id} was learned by heart, but asked as evaluation asks the model says {said}"
            raise PreflightError("template", f"{what}, not {want[:80]!r}", "The two must be rendered alike.")
        what = f"the loss of row {id} is nearly zero, but asked for {want[:80]!r} the model says {said}"
        raise PreflightError(
            "mask", f"{what}: what is scored is not the answer", "Look: finetooth check TASK"
        )
