"""The models of a run: its base, and what its training starts from."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from finetooth.config.task import Task
from finetooth.errors import ConfigError, ModelError
from finetooth.model import lora
from finetooth.model.api import Model
from finetooth.rundir import read_json
from finetooth.runs import parent


def loader(task: Task, path: Path) -> Callable[..., Model]:
    """`Model.load` in the types that the run began with, since they decide its numbers.

    A new run takes those of the run that it starts from, else auto. Where every weight is trained, weights
    are float32 whatever they compute in.
    """
    known = path / "environment.json"
    if task.start is not None and not known.is_file():
        known = Path(task.start) / "environment.json"
    dtype = read_json(known)["model"].get("dtype", "auto") if known.is_file() else "auto"
    return partial(Model.load, seed=task.seed, dtype=dtype, masters=task.train.adapter == "none")


def base_digest(path: Path) -> str:
    """The digest of the base that a run is made of."""
    return str(read_json(path / "environment.json")["model"]["digest"])


def require_same_base(path: Path, model: Model) -> None:
    """The base model must be the one that the run began with. Raises ModelError."""
    if model.digest(adapter=False) != base_digest(path):
        raise ModelError(
            f"{path}: the base model is not the one that this run began with (its digest differs)."
        )


def require_same_start(task: Task, path: Path, model: Model) -> None:
    """The base, and the run that training goes on from, are what they were when this run began."""
    parent.require_unchanged(task, path)
    if task.start is None or parent.weights(Path(task.start)).name == "adapter":
        require_same_base(path, model)


def before_training(task: Task, path: Path) -> Model:
    """The base as training finds it, without its adapter; of a run that goes on from a full fine-tuning, the
    weights of that.

    Raises ConfigError for an adapter, ModelError for a base that is not the one below the first run's.
    """
    load = loader(task, path)
    trained = parent.started_from(task)
    if trained is not None and trained.name == "model":
        return load(trained)
    model = load(task.model)
    if model.peft is not None:
        raise ConfigError(
            f"model {task.model} is an adapter; name a base model, or merge the adapter first. To go on with "
            "what a run trained, its adapter included: --from RUN."
        )
    if task.start is not None:
        require_same_base(Path(task.start), model)
    return model


def add_adapter(task: Task, model: Model) -> lora.Coverage:
    """Put the task's adapter on the model: fresh, or with the matrices that the run before has trained."""
    coverage = model.add_lora(task.train.rank, task.seed)
    if task.start is not None:
        lora.take_over(model.peft, parent.weights(Path(task.start)))
    return coverage


def load_start(task: Task, path: Path) -> Model:
    """What the training of this run started from, where that is another run. Raises ConfigError."""
    assert task.start is not None, "only such runs are asked"
    parent.require_unchanged(task, path)
    trained, load = parent.weights(Path(task.start)), loader(task, path)
    return load(trained) if trained.name == "model" else load(task.model, adapter=trained)
