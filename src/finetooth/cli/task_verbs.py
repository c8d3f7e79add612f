"""The verbs that take data or a task: check, baseline, train and run.

A verb imports its command when it is called, so that `--help` and `check` never load torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from finetooth.cli.completion import TASK_FILES, PathArgument
from finetooth.cli.output import (
    console,
    finish,
    out_option,
    output_options,
    run_directory,
    trust_option,
    yes_option,
)
from finetooth.cli.task_files import checked_task, task_of
from finetooth.cli.task_flags import SectionedCommand, parse_overrides, task_options
from finetooth.config.load import task_file_in
from finetooth.config.task import Task
from finetooth.errors import ConfigError


@click.command(cls=SectionedCommand, epilog="Example: finetooth check tickets.csv")
@click.argument("path", metavar="DATA|TASK", type=PathArgument())
@click.option(
    "--out", type=PathArgument(), metavar="DIR", help="Directory of the report.  [default: runs/NAME]"
)
@click.option("--fix", is_flag=True, help="Write a corrected copy of the data and a patch; safe fixes only.")
@click.option(
    "--label-queue",
    type=click.IntRange(1),
    metavar="N",
    help="Write the N rows most in need of label review.",
)
@click.option(
    "--embed", is_flag=True, help="Look for paraphrase leakage with model embeddings (loads the model)."
)
@yes_option
@output_options
@task_options
def check(
    path: Path,
    out: Path | None,
    fix: bool,
    label_queue: int | None,
    embed: bool,
    yes: bool,
    as_json: bool,
    quiet: bool,
    **flags: Any,
) -> int:
    """Inspect the data and list its problems.

    DATA is a data file or a folder of them, TASK a .yaml or .toml file, or a folder with a task.yaml. Prints
    row counts, lengths in tokens, three rows with the scored tokens marked, and findings. All findings with
    all of their rows are in data/report.html and data/findings.jsonl. Your files are never changed. The exit
    code is 1 if a finding blocks training.
    """
    from finetooth.commands import check as command
    from finetooth.runs import next_steps

    overrides = parse_overrides(flags)
    if (path / "config.yaml").is_file():
        raise ConfigError(
            f"{path}: expected data, found a run directory. For its result: finetooth report {path}"
        )
    task, path = checked_task(path, overrides, yes, quiet)
    report = command.run(task, out, console(quiet), fix, label_queue, embed)
    then = next_steps.after_check(path, path.suffix in TASK_FILES, report.data.format, report.ok, overrides)
    return finish(report, as_json, quiet, then)


@click.command(
    cls=SectionedCommand, epilog="Example: finetooth train task.yaml --train.epochs 3 --out runs/first"
)
@click.argument("path", metavar="TASK|RUN", type=PathArgument("task", "run"))
@out_option
@trust_option
@yes_option
@output_options
@task_options
def train(
    path: Path,
    out: Path | None,
    trust_code: bool,
    yes: bool,
    as_json: bool,
    quiet: bool,
    **flags: str | None,
) -> int:
    """Fine-tune the model on the examples.

    TASK is a .yaml or .toml file, a folder with a task.yaml, or a data file, for which a task file is
    proposed and written. RUN is a run directory, whose training resumes from its last checkpoint.
    """
    overrides = parse_overrides(flags)
    path = task_file_in(path) or path
    if path.is_dir() and (out or overrides):
        flag = "--out" if out else f"--{next(iter(overrides))}"
        raise ConfigError(
            f"{path}: a run directory resumes with its own config.yaml, found the flag {flag}. "
            "To change an option, train the task file with a new --out."
        )
    source: Task | Path
    folder = None
    if path.is_dir():
        source = run_directory(path)
    else:
        source, file = task_of(path, overrides, yes, quiet, "train")
        folder = file.parent
    from finetooth.commands import seeds as command

    result = command.train_all(source, out, console(quiet), trust_code, folder)
    return finish(result, as_json, quiet, *result.next_steps())


@click.command(cls=SectionedCommand, epilog="Example: finetooth run task.yaml --out runs/first")
@click.argument("path", metavar="[TASK]", required=False, type=PathArgument("task"))
@click.option(
    "--add",
    type=PathArgument(),
    multiple=True,
    metavar="FILE",
    help="Change set of the next iteration of the run --from (repeatable): added, corrected, removed rows.",
)
@click.option("--onward", is_flag=True, help="With --add: go on from the run's weights, not from its base.")
@click.option(
    "--random",
    type=PathArgument(),
    metavar="FILE",
    help="With --add: also train with as many added rows of this file, to see whether choosing them helped.",
)
@click.option(
    "--sealed", is_flag=True, help="Spend a look at the sealed test set, even if it was opened before."
)
@out_option
@yes_option
@output_options
@task_options
def run(
    path: Path | None,
    add: tuple[Path, ...],
    onward: bool,
    random: Path | None,
    sealed: bool,
    out: Path | None,
    yes: bool,
    as_json: bool,
    quiet: bool,
    **flags: str | None,
) -> int:
    """Check, train, compare with prompting, and report.

    TASK is a .yaml or .toml file, a folder with a task.yaml, or a data file, for which a task file is
    proposed and written. The comparison is made on the validation set and then on the sealed test set, if no
    run has opened that before; later runs stay on the validation set, unless --sealed spends a look.
    Run the same command again to resume; finished stages are not repeated.

    With --add and --from the next iteration of a run is trained: its task (or TASK) with the change sets that
    `errors --next` has written, on the same split, compared with the run. --out is then by default the run's
    directory with the next number.
    """
    overrides = parse_overrides(flags)
    if add and "start" in overrides:
        from finetooth.commands import iterate
        from finetooth.runs import iteration

        against = run_directory(Path(overrides.pop("start")))
        given, file = (None, None) if path is None else task_of(path, overrides, yes, quiet, "run")
        wanted = iteration.next_task(against, add, onward, overrides, given)
        report = iterate.run(wanted, against, add, out, console(quiet), file, sealed, random)
        return finish(report, as_json, quiet, *report.next_steps())
    if onward or random is not None:
        raise ConfigError(f"{'--onward' if onward else '--random'} goes with --add FILE --from RUN.")
    if path is None:
        context = click.get_current_context()
        raise click.MissingParameter(ctx=context, param_hint="'TASK'", param_type="argument")
    overrides |= {"data.add": list(map(str, add))} if add else {}
    task, path = task_of(path, overrides, yes, quiet, "run")
    from finetooth.commands import run as command

    result = command.run_task(task, out, console(quiet), path, sealed)
    return finish(result, as_json, quiet, *result.next_steps())


@click.command(cls=SectionedCommand, epilog="Example: finetooth baseline task.yaml --budget 500")
@click.argument("path", metavar="TASK", type=PathArgument("task"))
@out_option
@click.option(
    "--budget",
    type=click.IntRange(1),
    default=500,
    metavar="N",
    help="Maximum number of answers to held-out rows.",
)
@click.option(
    "--instructions",
    type=PathArgument(),
    metavar="FILE",
    help="Instructions to try: a list in a .yaml or .json file, or the lines of a text file.",
)
@click.option(
    "--with",
    "optimizer",
    type=click.Choice(["gepa", "dspy"]),
    help="Also improve the instruction, with half of the budget: GEPA, or DSPy's COPRO (extras).",
)
@click.option(
    "--reflection-url",
    metavar="URL",
    help="OpenAI-compatible address of the model that writes instructions. By gepa it is sent questions and "
    "answers of rows, personal data masked; key: FINETOOTH_REFLECTION_KEY.  [default: the base model]",
)
@click.option("--reflection-model", metavar="NAME", help="The model at that address.")
@yes_option
@output_options
@task_options
def baseline(
    path: Path,
    out: Path | None,
    budget: int,
    instructions: Path | None,
    optimizer: str | None,
    reflection_url: str | None,
    reflection_model: str | None,
    yes: bool,
    as_json: bool,
    quiet: bool,
    **flags: str | None,
) -> int:
    """Find the best prompt of the base model, and save it.

    Tries zero-shot and few-shot prompts of the base model: demonstrations drawn or nearest to each question,
    several layouts and instructions, calibrated label scores. Half of the validation rows select, the other
    half confirms; with fewer than 40 of them, training rows are held out for it too. Nothing is trained, and
    the sealed test set stays closed. Writes baseline/prompt.yaml into the run directory, for the option
    evaluate.prompt.
    """
    named = (reflection_url, reflection_model)
    if (named != (None, None) and optimizer is None) or (None in named and named != (None, None)):
        raise ConfigError(
            "--reflection-url and --reflection-model go together, and need --with gepa or --with dspy."
        )
    task, path = task_of(path, parse_overrides(flags), yes, quiet, "baseline")
    from finetooth.commands import baseline as command

    improve = command.optimizing(optimizer, reflection_url, reflection_model) if optimizer else None
    report = command.run(task, out, console(quiet), budget, instructions, improve)
    return finish(report, as_json, quiet, command.next_step(path, report))
