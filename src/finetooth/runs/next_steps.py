"""What to type next. Every line here is a command that does what it says for this task and this run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any

import yaml

from finetooth.config.load import set_dotted
from finetooth.config.task import Task
from finetooth.errors import GradeError
from finetooth.runs import workspace


def after_check(path: Path, is_task: bool, format: str, ok: bool, flags: Mapping[str, Any]) -> str:
    """After `check` of a task or of a data file. flags: dotted keys that were given with it.

    Plain text has nothing to grade, so it is trained on and not run.
    """
    given = "".join(f" --{key} {quote(_flow(value))}" for key, value in flags.items())
    if not ok:
        return f"mend it, then: finetooth check {quote(str(path))}{given}"
    verb = "train" if format == "text" else "run"
    if is_task:
        return f"finetooth {verb} {quote(str(path))}{given}"
    values: dict[str, Any] = {"data": {"train": str(path)}}
    for key, value in flags.items():
        set_dotted(values, key, value)
    lines = [f"      {_flow({key: value})[1:-1]}" for key, value in values.items()]
    noun = "the line" if len(lines) == 1 else "the lines"
    return "\n".join([f"finetooth {verb} TASK, where TASK is a .yaml file with {noun}", *lines])


def of_run(path: Path) -> str:
    """What brings a run without a result on: `train` until that has ended, then `evaluate`.

    `chat` where the run has nothing to grade. ConfigError when this is not a run.
    """
    if not (path / "train" / "result.json").is_file():
        return f"finetooth train {quote(str(path))}"
    verb = "evaluate" if gradable(workspace.load_config(path)) else "chat"
    return f"finetooth {verb} {quote(str(path))}"


def gradable(stored: Task) -> bool:
    """Whether a run's stored task has a grader; auto has become none for plain text."""
    return stored.evaluate.grader != []


def not_gradable_error(then: str) -> GradeError:
    """The refusal of plain text. then: what to do with it, and the command."""
    return GradeError(
        f"Plain text has no questions to answer, so there is nothing to grade (no expected answer). {then}"
    )


def longer_training(path: Path) -> list[tuple[str, str]]:
    """Commands that train a finished run's task twice as long and compare the two, each with why.

    The run's own config.yaml is the task, with the flags that it was started with; of rows from Python it
    holds no copy, so there the task is left open.
    """
    stored = workspace.load_config(path)
    task = quote(str(path / workspace.CONFIG)) if _in_files(stored) else "TASK"
    more = f"--train.epochs {2 * float(stored.train.epochs):g}"
    if stored.train.max_steps is not None:
        more += f" --train.max_steps {2 * stored.train.max_steps}"
    run, other = quote(str(path)), quote(f"{path}-longer")
    return [
        (f"finetooth train {task} {more} --out {other}", "train twice as long"),
        (f"finetooth evaluate {other}", "on the same validation rows"),
        (f"finetooth compare {run} {other}", "and see which run is better"),
    ]


def _in_files(stored: Task) -> bool:
    """Whether a stored task names its data; of rows from Python it has a description only."""
    sources = (stored.data.train, stored.data.validation, stored.data.test)
    return not any(isinstance(source, str) and workspace.FROM_PYTHON in source for source in sources)


def _flow(value: Any) -> str:
    """A value as YAML on one line."""
    text = yaml.safe_dump(
        value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=float("inf")
    )
    return text.removesuffix("\n").removesuffix("\n...")
