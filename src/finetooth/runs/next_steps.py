"""The commands to type next. Each works as it is for this task and this run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from pathlib import Path
from shlex import join, quote
from typing import Any

import yaml

from finetooth.config.load import set_dotted
from finetooth.config.task import Task
from finetooth.config.values import from_here, is_data_file
from finetooth.errors import ConfigError, GradeError
from finetooth.rundir import read_json
from finetooth.runs import workspace


def after_check(path: Path, is_task: bool, format: str, ok: bool, flags: Mapping[str, Any]) -> str:
    """The next command after `check` of a task or data file. flags: the dotted keys given with it.

    Plain text has nothing to grade, so the next verb is `train` instead of `run`. Both check the data first,
    so the command that has failed is not the next one.
    """
    given = f" {join(flag_words(flags))}" if flags else ""
    verb = "train" if format == "text" else "run"
    first = "" if ok else "fix the data, then: "
    if is_task or is_sheet(path):
        return f"{first}finetooth {verb} {quote(str(path))}{given}"
    values: dict[str, Any] = {"data": {"train": str(path)}}
    for key, value in flags.items():
        set_dotted(values, key, value)
    lines = [f"      {flow({key: value})[1:-1]}" for key, value in values.items()]
    noun = "the line" if len(lines) == 1 else "the lines"
    return "\n".join([f"{first}finetooth {verb} TASK, where TASK is a .yaml file with {noun}", *lines])


def is_sheet(path: Path) -> bool:
    """Whether `run` and `train` make a task of this data file; a .json file may be a task itself."""
    return is_data_file(path) and path.suffix != ".json" and path.is_file()


def flag_words(flags: Mapping[str, Any]) -> list[str]:
    """Task options as words of a command line."""
    texts = {key: value if isinstance(value, str) else flow(value) for key, value in flags.items()}
    return [word for key, text in texts.items() for word in (f"--{key}", text)]


def of_run(path: Path) -> str:
    """The next command for an unfinished run: `train` until training has ended, then `evaluate`.

    `chat` where the run has nothing to grade. ConfigError when this is not a run.
    """
    if workspace.trained_path(path) is None:
        return f"finetooth train {quote(str(path))}"
    verb = "evaluate" if gradable(workspace.load_config(path)) else "chat"
    return f"finetooth {verb} {quote(str(path))}"


def gradable(stored: Task) -> bool:
    """Whether a run's stored task has a grader; for plain text, auto was resolved to none."""
    return stored.evaluate.grader != []


def not_gradable_error(then: str) -> GradeError:
    """The error for evaluating plain text. then: what to do instead, with the command."""
    return GradeError(f"Plain text has no expected answer, so there is nothing to grade. {then}")


def longer_training(path: Path) -> list[tuple[str, str]]:
    """Commands that train a finished run's task twice as long and compare the two, each with its purpose.

    None where validation was best before the last step: more of the same would not help; nor where the model
    was trained elsewhere. The run's own config.yaml is the task. It has no copy of rows from Python, so the
    task is then left open.
    """
    record = path / "train" / "result.json"
    result = read_json(record) if record.is_file() else {}
    if result.get("stopped_early") or result.get("best_step", 0) < result.get("steps", 0):
        return []
    stored = workspace.load_config(path)
    if stored.tuned is not None:
        return []
    task = "TASK" if in_python(stored) else quote(str(path / workspace.CONFIG))
    more = f"--train.epochs {2 * float(stored.train.epochs):g}"
    if stored.train.max_steps is not None:
        more += f" --train.max_steps {2 * stored.train.max_steps}"
    run, other = quote(str(path)), quote(f"{path}-longer")
    return [
        (f"finetooth train {task} {more} --out {other}", "train twice as long"),
        (f"finetooth evaluate {other}", "on the same validation rows"),
        (f"finetooth compare {run} {other}", "see which run is better"),
    ]


def again(path: Path) -> str:
    """The command that makes a run again beside it.

    "" where its rows came from Python, and where its config.yaml is none of this version.
    """
    try:
        stored = workspace.load_config(path)
    except ConfigError:
        return ""
    if in_python(stored):
        return ""
    config, other = quote(str(path / workspace.CONFIG)), quote(f"{path}-again")
    from finetooth.evaluation.retention import INTERPOLATION  # here: `check` needs no scipy

    if (path / INTERPOLATION).is_file():
        made = read_json(path / INTERPOLATION)
        return f"finetooth evaluate {quote(made['run'])} --interpolate {made['share']:g} --out {other}"
    verb = "run" if stored.tuned is None else f"evaluate {quote(stored.tuned)}"
    return f"finetooth {verb} {config} --out {other}"


def interpolation(path: Path) -> str:
    """The command that makes a run beside this one whose model forgets less."""
    return f"finetooth evaluate {quote(str(path))} --interpolate auto"


def better_prompt(path: Path) -> list[tuple[str, str]]:
    """The command that searches for a better prompt of a run's base, with its purpose, where it can."""
    stored = workspace.load_config(path)
    if stored.tuned is not None or stored.start is not None or in_python(stored):
        return []
    search = f"finetooth baseline {quote(str(path / workspace.CONFIG))} --out {quote(str(path))}"
    return [(search, "search for a better prompt, the baseline to beat")]


def in_python(stored: Task) -> bool:
    """Whether rows of a run came from Python, so that its config.yaml has no copy of them."""
    sources = (stored.data.train, stored.data.validation, stored.data.test)
    return any(isinstance(source, str) and workspace.FROM_PYTHON in source for source in sources)


def beside(path: Path, only_rows_changed: bool, tuned: str | None = None) -> list[tuple[str, str]]:
    """Commands for a new run beside one whose inputs have changed, each with its purpose.

    TASK stands for the task and its options; the command line fills it in. tuned: the run's key of that name.
    """
    other = quote(str(_unused(numbered(path))))
    run = quote(str(path))
    if tuned is not None:
        again = f"finetooth evaluate {quote(tuned)} {quote(str(path / workspace.CONFIG))} --out {other}"
        return [(again, "evaluate it as it is now")]
    purpose = "train anew; sealed rows stay sealed, and no row changes its side"
    steps = [(f"finetooth run TASK --data.split_from {run} --out {other}", purpose)]
    if only_rows_changed and workspace.trained_path(path) is not None:
        steps.append((f"finetooth run TASK --from {run} --out {other}", "train on, from its weights"))
    return steps


def numbered(path: Path) -> Iterator[Path]:
    """The directories that may come after this one: runs/triage-2, runs/triage-3, ..."""
    stem, _, number = path.name.rpartition("-")
    stem, first = (stem, int(number) + 1) if stem and number.isdecimal() else (path.name, 2)
    return (path.with_name(f"{stem}-{n}") for n in count(first))


def iterate_again(task: Task, path: Path) -> list[tuple[str, str]]:
    """The command for an iteration beside the one in `path`, whose files have changed, with its purpose."""
    run = task.start or task.data.split_from
    if run is None:
        return beside(path, only_rows_changed=True)
    earlier = workspace.load_config(Path(run)).data.add
    words = [word for file in task.data.add if file not in earlier for word in ("--add", from_here(file))]
    words += ["--from", from_here(run), *(["--onward"] if task.start else [])]
    return [(join(["finetooth", "run", *words, "--out", str(_unused(numbered(path)))]), "train it anew")]


def from_pairs(run: Path, pairs: Path) -> str:
    """The command that goes on from a run with a file of preference pairs, which `run` makes a task of."""
    other = _unused(run.with_name(f"{run.name}-dpo{f'-{n}' if n > 1 else ''}") for n in count(1))
    words = ["run", str(pairs), "--from", str(run), "--train.method", "dpo", "--out", str(other)]
    return join(["finetooth", *words])


def _unused(names: Iterable[Path]) -> Path:
    return next(name for name in names if not name.exists())


def flow(value: Any) -> str:
    """A value as YAML on one line."""
    text = yaml.safe_dump(
        value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=float("inf")
    )
    return text.removesuffix("\n").removesuffix("\n...")
