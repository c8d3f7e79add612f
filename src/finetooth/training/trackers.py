"""Trackers of other makers, behind one small interface: they get what train/metrics.jsonl gets.

Each is imported only where it is asked for. One that fails later is left alone: it never stops a training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from finetooth.errors import ConfigError


class Tracker(Protocol):
    """Takes numbers by name, step after step."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """The numbers of this step, from 0 (before the first one)."""

    def close(self) -> None:
        """Everything is written when this returns."""


class _TensorBoard:
    """Event files in train/tensorboard: tensorboard --logdir RUN/train/tensorboard."""

    def __init__(self, path: Path, settings: Mapping[str, Any], step: int) -> None:
        writer = import_module("torch.utils.tensorboard").SummaryWriter
        # What a killed run wrote beyond its checkpoint, or before it had one, is purged.
        self._writer = writer(str(path / "train" / "tensorboard"), purge_step=step + 1 if step else 0)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _MLflow:
    """One MLflow run a call, on the server or in the folder that MLFLOW_TRACKING_URI names."""

    def __init__(self, path: Path, settings: Mapping[str, Any], step: int) -> None:
        self._client = import_module("mlflow").MlflowClient()
        known = self._client.get_experiment_by_name("finetooth")
        experiment = known.experiment_id if known else self._client.create_experiment("finetooth")
        self._run = self._client.create_run(experiment, run_name=path.name).info.run_id
        for name, value in settings.items():
            self._client.log_param(self._run, name, value)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._client.log_metric(self._run, name, value, step=step)

    def close(self) -> None:
        self._client.set_terminated(self._run)


class _Run:
    """Weights & Biases, or Trackio, which speaks as it does."""

    def __init__(self, module: str, path: Path, settings: Mapping[str, Any]) -> None:
        folder = {"dir": str(path / "train")} if module == "wandb" else {}
        self._module = import_module(module)
        self._run = self._module.init(project="finetooth", name=path.name, config=dict(settings), **folder)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


_MAKERS: dict[str, Callable[[Path, Mapping[str, Any], int], Tracker]] = {
    "tensorboard": _TensorBoard,
    "mlflow": _MLflow,
    "wandb": lambda path, settings, step: _Run("wandb", path, settings),
    "trackio": lambda path, settings, step: _Run("trackio", path, settings),
}


def require_installed(names: Sequence[str]) -> None:
    """ConfigError with the line that installs the first tracker that is not there."""
    for name in names:
        if find_spec(name) is None:
            raise ConfigError(
                f"train.track: {name} is not installed. Install it with `pip install {name}`, or take it out."
            )


class Trackers:
    """All trackers of a run as one; a context manager that opens and closes them.

    settings: flat, by key. step: the steps already made. say: told once when a tracker fails.
    """

    def __init__(
        self,
        names: Sequence[str],
        path: Path,
        settings: Mapping[str, Any],
        step: int,
        say: Callable[[str], None],
    ) -> None:
        self._names, self._path, self._settings, self._say = names, path, settings, say
        self.step = step
        self._open: dict[str, Tracker] = {}

    def __enter__(self) -> Trackers:
        for name in self._names:
            self._guarded(name, partial(self._start, name))
        return self

    def __exit__(self, *error: Any) -> None:
        for name in list(self._open):
            self._guarded(name, self._open[name].close)

    def log(self, line: Mapping[str, Any]) -> None:
        """The numbers of one line of metrics.jsonl."""
        values = {name: float(value) for name, value in line.items() if name != "step"}
        for name in list(self._open):
            self._guarded(name, partial(self._open[name].log, line["step"], values))

    def _start(self, name: str) -> None:
        self._open[name] = _MAKERS[name](self._path, self._settings, self.step)

    def _guarded(self, name: str, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # whatever another program does wrong, the training goes on
            self._open.pop(name, None)
            self._say(f"warning: {name} failed and gets nothing more ({type(error).__name__}: {error})")
