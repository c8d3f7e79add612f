"""Experiment trackers (TensorBoard, MLflow, W&B, Trackio): they receive what train/metrics.jsonl receives.

Each is imported only when configured. A tracker that fails later is dropped; it never stops the training.
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
    """Receives metrics by name, step by step."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log the metrics of this step; 0 is before the first one."""

    def close(self) -> None:
        """Finish; everything is written when this returns."""


class _TensorBoard:
    """Event files in train/tensorboard: tensorboard --logdir RUN/train/tensorboard."""

    def __init__(self, path: Path, settings: Mapping[str, Any], step: int) -> None:
        writer = import_module("torch.utils.tensorboard").SummaryWriter
        # Purge what a killed run wrote beyond its checkpoint, or before it had one.
        self._writer = writer(str(path / "train" / "tensorboard"), purge_step=step + 1 if step else 0)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _MLflow:
    """One MLflow run per process, on the server or in the folder that MLFLOW_TRACKING_URI names."""

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


class _WandbRun:
    """Weights & Biases, or Trackio, which has the same interface."""

    def __init__(self, module: str, path: Path, settings: Mapping[str, Any]) -> None:
        folder = {"dir": str(path / "train")} if module == "wandb" else {}
        self._module = import_module(module)
        self._run = self._module.init(project="finetooth", name=path.name, config=dict(settings), **folder)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


_TRACKERS: dict[str, Callable[[Path, Mapping[str, Any], int], Tracker]] = {
    "tensorboard": _TensorBoard,
    "mlflow": _MLflow,
    "wandb": lambda path, settings, step: _WandbRun("wandb", path, settings),
    "trackio": lambda path, settings, step: _WandbRun("trackio", path, settings),
}


def require_installed(names: Sequence[str]) -> None:
    """Raises ConfigError, with the command to install it, for the first tracker that is not installed."""
    for name in names:
        if find_spec(name) is None:
            raise ConfigError(
                f"train.track: {name} is not installed. Install it with `pip install {name}`, or remove it."
            )


class Trackers:
    """All trackers of a run as one; a context manager that opens and closes them.

    settings: flat, by key. step: steps already taken. report: called once when a tracker fails.
    """

    def __init__(
        self,
        names: Sequence[str],
        path: Path,
        settings: Mapping[str, Any],
        step: int,
        report: Callable[[str], None],
    ) -> None:
        self._names, self._path, self._settings, self._report = names, path, settings, report
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
        """Log one line of metrics.jsonl."""
        values = {name: float(value) for name, value in line.items() if name != "step"}
        for name in list(self._open):
            self._guarded(name, partial(self._open[name].log, line["step"], values))

    def _start(self, name: str) -> None:
        self._open[name] = _TRACKERS[name](self._path, self._settings, self.step)

    def _guarded(self, name: str, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # a failing tracker must not stop the training
            self._open.pop(name, None)
            self._report(f"warning: {name} failed and is no longer used ({type(error).__name__}: {error})")
