"""A reward model as the reward of a run: where it is found, and that it stays the one the run began with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from finetooth.config.method_keys import REWARD_MODEL
from finetooth.data.render.renderer import Renderer
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.errors import FinetoothError, GradeError
from finetooth.evaluation.answer_text import AnswerNormaliser
from finetooth.model import reward_head
from finetooth.model.api import Model
from finetooth.rundir import read_json, write_json
from finetooth.runs import workspace
from finetooth.runs.context import RunContext
from finetooth.training.rl.reward_model import RewardModelScorer
from finetooth.types import Example

EXPECTED = "Expected the directory of a run of train.method reward_model, or of a classifier with one label"


def load(
    spec: Mapping[str, Any], examples: Sequence[Example], normalise: AnswerNormaliser, run: Path | None = None
) -> tuple[str, RewardModelScorer]:
    """What {name: reward_model, model: DIRECTORY} names, and what to call it; its scale is of these rows.

    run: the run that is trained on it, which keeps digest and scale in train/reward_models.json: it goes on
    with these, and not with another model. Raises GradeError, naming train.reward.
    """
    if set(spec) != {"name", "model"} or not isinstance(spec["model"], str):
        found = dict(spec) or REWARD_MODEL
        raise GradeError(
            f"train.reward: a reward model is {{name: reward_model, model: DIRECTORY}}, found {found}. "
            f"{EXPECTED}."
        )
    path = Path(spec["model"])
    try:
        scorer = _of_run(path) if (path / workspace.CONFIG).is_file() else _of_directory(path)
    except FinetoothError as error:
        said = str(error)
        raise GradeError(said if said.startswith("train.reward: ") else f"train.reward: {said}") from None
    return f"{REWARD_MODEL} {path.name}", _kept(scorer, path, examples, normalise, run)


def _of_run(path: Path) -> RewardModelScorer:
    task = workspace.load_config(path)
    if task.train.method != "reward_model":
        raise GradeError(
            f"train.reward: {path} is a run of train.method {task.train.method}, which scores no answers. "
            f"{EXPECTED}."
        )
    if workspace.trained_path(path) is None:
        raise GradeError(f"train.reward: {path} has no reward model yet. First: finetooth train {path}")
    context = RunContext(task, path, Console(quiet=True))
    return RewardModelScorer(context.tuned(), context.renderer)


def _of_directory(path: Path) -> RewardModelScorer:
    """A classifier or its adapter. What the model was instructed with in training, nobody knows here."""
    if not path.is_dir():
        found = "a file" if path.is_file() else "no such directory"
        raise GradeError(f"train.reward: {path}: {found}. {EXPECTED}.")
    if not any((path / name).is_file() for name in ("config.json", "adapter_config.json")):
        raise GradeError(f"train.reward: {path} holds neither a run nor a model. {EXPECTED}.")
    model = Model.load(path)
    if not reward_head.is_reward(model.hf):
        raise GradeError(f"train.reward: {path} writes answers and scores none. {EXPECTED}.")
    own = model.peft is not None and (path / "tokenizer.json").is_file()
    tokenizer = Tokenizer.load(path) if own else model.tokenizer  # an adapter brings its template along
    assert tokenizer is not None
    return RewardModelScorer(model, Renderer(tokenizer))


def _kept(
    scorer: RewardModelScorer,
    path: Path,
    examples: Sequence[Example],
    normalise: AnswerNormaliser,
    run: Path | None,
) -> RewardModelScorer:
    """The reward model on its scale: the one that the run began with, where it has begun.

    The scale is kept, and not measured again, as its last digits depend on the number of threads.
    """
    if run is None:
        return scorer.calibrated_on(examples, normalise)
    file = run / "train" / "reward_models.json"
    known = read_json(file) if file.is_file() else {}
    digest = scorer.digest()
    if str(path) not in known:
        scorer = scorer.calibrated_on(examples, normalise)
        known[str(path)] = {"digest": digest, "middle": scorer.middle, "spread": scorer.spread}
        write_json(file, known)
    elif known[str(path)]["digest"] != digest:
        raise GradeError(
            f"train.reward: {path} is not the reward model that {run} began with (its digest differs): "
            "rewards would mean something else from here on. Put it back, or start a new --out."
        )
    return RewardModelScorer(
        scorer.model, scorer.renderer, known[str(path)]["middle"], known[str(path)]["spread"]
    )
