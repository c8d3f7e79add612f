"""The verbs check, evaluate and compare for Python programs: `ft.check`, `ft.evaluate`, `ft.compare`.

Each returns the report that the verb prints; `report.to_json()` has it as plain values. A function imports
its command when it is called, so that `ft.check` and `ft.compare` never load torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetooth.config.load import load_task, task_file_in
from finetooth.config.task import Task
from finetooth.config.values import safe_name
from finetooth.errors import ConfigError
from finetooth.report.console import terminal
from finetooth.runs.workspace import run_directory

if TYPE_CHECKING:
    from finetooth.commands.compare import CompareReport
    from finetooth.commands.evaluate import EvaluateReport
    from finetooth.commands.run import Run
    from finetooth.report.check_report import CheckReport


def check(
    source: Any,
    out: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    quiet: bool = True,
) -> CheckReport:
    """Inspect data before training, as `finetooth check` does.

    source: a data file, rows (a list of dicts or a DataFrame), a task file or its folder, or a task as a
    mapping or a Task. out: directory of the report, default runs/NAME. overrides: dotted keys with values,
    such as {"data.format": "qa"}. quiet: no progress bar on stderr. The report's `ok` is False where a
    finding blocks training; `findings` has them all, `tokens` the lengths in tokens, `to_json()` the rest.
    No file of yours is changed. Raises DataError for data that cannot be read, ConfigError for a wrong key.
    """
    from finetooth.commands import check as command

    task = load_task(_task(source), overrides)
    return command.run(task, Path(out) if out is not None else None, terminal(stderr=True, quiet=quiet))


def _task(source: Any) -> str | Path | Mapping[str, Any] | Task:
    """What `load_task` takes: a task as it is, or one for the data."""
    if isinstance(source, Task | Mapping):
        return source
    if not isinstance(source, str | Path):
        return {"data": {"train": source}}
    path = Path(source)
    if path.suffix in (".yaml", ".yml", ".toml") or task_file_in(path) is not None:
        return path
    return {"name": safe_name(path.stem), "data": {"train": str(source)}}


def evaluate(
    run: str | Path | Run, sealed: bool = False, trust_code: bool = False, quiet: bool = True
) -> EvaluateReport:
    """Compare a run's tuned model with prompting its base, as `finetooth evaluate` does.

    run: a run directory, or what `ft.run` returned. sealed: on the sealed test set, which the ledger records,
    instead of the validation rows. trust_code: also import graders of a run that was not made here. The
    report's `summary` is that of evaluate/SPLIT/summary.json: for each candidate `score`, `low` and `high`
    (95% confidence interval) in [0, 1] for most graders, and mean tokens a row. Raises ConfigError for
    anything but a trained run, GradeError where nothing can be graded.
    """
    from finetooth.commands import seeds as command

    return command.run(_directory(run), sealed, terminal(stderr=True, quiet=quiet), trust_code)


def compare(*runs: str | Path | Run, sealed: bool = False) -> CompareReport:
    """Compare the tuned models of two or more evaluated runs row by row, as `finetooth compare` does.

    runs: run directories, or what `ft.run` returned; each is compared with the first. sealed: on the sealed
    test, if every run has opened it, instead of the validation rows. The report's `comparisons` have
    `difference`, `low` and `high` (score of the other minus that of the first), `p`, `p_adjusted` and
    `verdict`; `differences` has the settings. Nothing is generated. Raises ConfigError for fewer than two
    runs or one that is not evaluated, GradeError where two share no row.
    """
    from finetooth.commands import compare as command

    return command.run([_directory(run) for run in runs], sealed)


def _directory(run: str | Path | Run) -> Path:
    path = run if isinstance(run, str | Path) else getattr(run, "path", None)
    if path is None:
        raise ConfigError(f"expected a run directory or what ft.run returned, found {type(run).__name__}")
    return run_directory(Path(path))
