"""A model that was trained elsewhere and is evaluated in place of training: the key `tuned`.

Imports neither torch nor transformers, since `check` accepts such tasks too.
"""

from __future__ import annotations

from pathlib import Path

from finetooth.config.method_keys import PREFERENCE_METHODS
from finetooth.config.named_models import is_named
from finetooth.config.task import Task, TrainConfig
from finetooth.config.values import safe_name
from finetooth.data.gguf_file import is_gguf
from finetooth.data.hub import model_directory
from finetooth.data.model_files import read_object
from finetooth.errors import ConfigError, ModelError
from finetooth.runs import workspace


def with_tuned(task: Task) -> Task:
    """The task as it is run for its `tuned` model; the task itself where it is to be trained.

    `model` becomes the base that an adapter names. Of `train` only a preference method is kept: the reward
    that is evaluated follows from it. The name says which model it is, so that each has a run of its own.
    Raises ConfigError, and ModelError where the model or the base of the adapter is not there.
    """
    if task.tuned is None:
        return task
    if task.start is not None or task.train.method == "reward_model":
        other = "start" if task.start is not None else "train.method: reward_model"
        raise ConfigError(f"tuned: {task.tuned} is trained already, which excludes {other}. Leave one out.")
    path = Path(task.tuned)
    if not is_named(task.tuned) and (path / workspace.CONFIG).is_file():
        raise ConfigError(
            f"{path} is a run, and is evaluated on its own task: finetooth evaluate {path}. Its model on "
            f"another task: finetooth evaluate {workspace.trained_path(path) or path / 'train/adapter'} TASK"
        )
    base = task.model
    if workspace.is_adapter(path) and not is_named(task.tuned):
        base = _base_of(path)
    elif path.is_file() and not is_gguf(path):
        raise ModelError(f"{path}: a file. Expected the directory of a model or of a PEFT adapter.")
    elif path.is_dir() and not (path / "config.json").is_file() and not any(path.glob("*.gguf")):
        found = ", ".join(sorted(item.name for item in path.iterdir())[:8]) or "nothing"
        raise ModelError(
            f"{path}: neither a model (config.json) nor an adapter (adapter_config.json). Found {found}."
        )
    else:
        model_directory(task.tuned, weights=False)
    name, method = safe_name(path.name.removesuffix(".gguf")), task.train.method
    return task.model_copy(
        update={
            "model": base,
            "name": task.name if task.name.endswith(f"-{name}") else f"{task.name}-{name}",
            "train": TrainConfig(method=method if method in PREFERENCE_METHODS else "sft"),
        }
    )


def _base_of(adapter: Path) -> str:
    """The base model that an adapter names: an absolute path, a name or a hub id. Raises ModelError."""
    config = read_object(adapter / "adapter_config.json")
    if config.get("bias", "none") != "none":  # PEFT cannot switch these off, so there is no base to prompt
        raise ModelError(
            f"{adapter}: its bias is {config['bias']}: it replaces the base's. Merge it into a whole model."
        )
    base = config.get("base_model_name_or_path")
    where = f"{adapter}: its base model, base_model_name_or_path in adapter_config.json,"
    if not isinstance(base, str) or not base:
        raise ModelError(f"{where} is not given. Write there the directory or the hub id of the base.")
    try:
        model_directory(base, weights=False)
    except ModelError as error:
        raise ModelError(f"{where} is not here. {error}") from None
    return base if is_named(base) or not Path(base).exists() else str(Path(base).resolve())
