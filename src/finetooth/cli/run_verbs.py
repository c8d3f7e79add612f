"""The verbs that take a run: evaluate, report, predict, chat, compare and pairs.

A verb imports its command when it is called, so that `--help` never loads torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, Literal

import click

from finetooth.cli.asking_flags import chat_options, parse_mapping, predict_options
from finetooth.cli.completion import PathArgument
from finetooth.cli.output import Report, console, finish, output_options, run_directory, trust_option
from finetooth.cli.task_flags import SectionedCommand, parse_value
from finetooth.config.named_models import is_named
from finetooth.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console


@click.command(cls=SectionedCommand, epilog="Example: finetooth evaluate runs/first")
@click.argument("target", metavar="RUN|MODEL", type=PathArgument("run", "model"))
@click.argument("task", metavar="[TASK]", required=False, type=PathArgument("task"))
@click.option("--sealed", is_flag=True, help="Evaluate on the sealed test set; recorded in the ledger.")
@click.option(
    "--out",
    type=PathArgument(),
    metavar="DIR",
    help="Of a MODEL: its run directory.  [default: runs/TASK-MODEL]",
)
@click.option("--grader", metavar="GRADER", help="Of a RUN: grade the answers on record again, by this.")
@click.option("--test", type=PathArgument(), metavar="FILE", help="Of a RUN: new rows with answers.")
@click.option(
    "--prompt", type=PathArgument(), metavar="FILE", help="Of a RUN: one more prompt for the base model."
)
@click.option(
    "--perturb",
    metavar="KINDS",
    help="Of a RUN: measure its robustness to typos, case ...: true, or kinds of evaluate.perturbations.",
)
@click.option(
    "--name", "folder", metavar="NAME", help="Folder in evaluate/ for these three.  [default: of them]"
)
@click.option(
    "--interpolate",
    metavar="auto|SHARE",
    help="Of a RUN: make a run whose model forgets less: base + share x (tuned - base).",
)
@trust_option
@output_options
def evaluate(
    target: str,
    task: Path | None,
    sealed: bool,
    out: Path | None,
    trust_code: bool,
    as_json: bool,
    quiet: bool,
    grader: str | None,
    test: Path | None,
    prompt: Path | None,
    folder: str | None,
    interpolate: str | None,
    perturb: str | None,
) -> int:
    """Compare the fine-tuned model with prompting the base model.

    RUN is a run directory. MODEL is the directory of a model or a PEFT adapter that was trained elsewhere:
    it is evaluated on TASK as its fine-tuned model, in a run directory of its own. All candidates answer the
    same rows: the validation set, as often as you like. Keep the sealed test set for the end (--sealed).

    With --grader, --test or --prompt a run is evaluated once more, beside its own results: answers on record
    are graded again where they suffice, otherwise the models are asked again.

    With --interpolate a run that has forgotten is mended without training: its weights are interpolated with
    the base's, in a run of its own (--out, default RUN-interpolated). auto chooses the share of the change by
    the score on validation rows among those that keep general ability.
    """
    flags = {"--grader": grader, "--test": test, "--prompt": prompt, "--name": folder, "--perturb": perturb,
             "--interpolate": interpolate}  # fmt: skip
    given = {flag: value for flag, value in flags.items() if value is not None}
    if task is not None:
        if given:
            raise ConfigError(
                f"{next(iter(given))} is for a run. For a model, first: finetooth evaluate {target} {task}"
            )
        from finetooth.commands.evaluate import run_model
        from finetooth.config.load import load_task, task_file_in

        beside_task = (task_file_in(task) or task).parent
        made = run_model(target, load_task(task), out, sealed, console(quiet), beside_task)
        return finish(made, as_json, quiet, *_then(made.path))
    if out is not None and interpolate is None:
        raise ConfigError(f"--out is for a model; {target} has its results where it is. See --name.")
    report, commands = _evaluate_run(run_or_model(target), given, sealed, out, console(quiet), trust_code)
    return finish(report, as_json, quiet, *commands)


def _evaluate_run(
    run: Path, given: Mapping[str, Any], sealed: bool, out: Path | None, shown: Console, trust_code: bool
) -> tuple[Report, Sequence[str]]:
    """What these flags ask of a run, and the commands to go on with."""
    for alone in ("--interpolate", "--perturb"):
        if alone in given and (others := [one for one in (*given, *["--sealed"] * sealed) if one != alone]):
            raise ConfigError(f"{alone} stands alone: leave out {others[0]}.")
    if "--interpolate" in given:
        from finetooth.commands import interpolate

        mended = interpolate.run(run, _share(given["--interpolate"]), out, shown, trust_code)
        return mended, mended.next_steps()
    if "--perturb" in given:
        from finetooth.commands import robustness

        kinds = parse_value("evaluate.perturbations", given["--perturb"])
        return robustness.run(run, kinds, shown, trust_code), [f"finetooth report {quote(str(run))}"]
    if given.keys() & {"--grader", "--test", "--prompt"}:
        from finetooth.commands import evaluate_beside

        spec = parse_value("evaluate.grader", given["--grader"]) if "--grader" in given else None
        asked = (spec, given.get("--test"), given.get("--prompt"), sealed, given.get("--name"))
        beside = evaluate_beside.run(run, evaluate_beside.Request(*asked), shown, trust_code)
        name = quote(beside.summary["evaluation"])
        return beside, [f"finetooth report {quote(str(run))} --evaluation {name}"]
    if given:
        raise ConfigError("--name goes with --grader, --test or --prompt.")
    from finetooth.commands import seeds

    report = seeds.run(run, sealed, shown, trust_code)
    return report, _then(report.path)


def _then(run: Path) -> list[str]:
    """The commands that follow an evaluation."""
    path = quote(str(run))
    return [f"finetooth report {path}", f"finetooth chat {path}"]


def _share(text: str) -> float | Literal["auto"]:
    """The value of --interpolate. Raises ConfigError."""
    if text == "auto":
        return "auto"
    with suppress(ValueError):
        if 0 < (share := float(text)) < 1:
            return share
    raise ConfigError(f"--interpolate: expected auto or a share between 0 and 1, found {text!r}.")


def flag_words(flags: dict[str, Any]) -> list[str]:
    """These flags as words of a command line, those that were given."""
    given = {name: value for name, value in flags.items() if value not in (None, False)}
    words = [
        (f"--{name.replace('_', '-')}", *([] if value is True else [str(value)]))
        for name, value in given.items()
    ]
    return [word for pair in words for word in pair]


def run_or_model(target: str) -> Path:
    """The path of a run. ConfigError for anything else, which names the verb for a model."""
    path = Path(target)
    model = any((path / name).is_file() for name in ("config.json", "adapter_config.json"))
    if is_named(target) or (model and not (path / "config.yaml").is_file()):
        raise ConfigError(
            f"{target} is a model. Name the task to evaluate it on: finetooth evaluate {target} TASK"
        )
    return run_directory(path)


@click.command(cls=SectionedCommand, epilog="Example: finetooth report runs/first")
@click.argument("path", metavar="RUN|FOLDER", type=PathArgument("run"))
@click.option("--evaluation", metavar="NAME", help="Show evaluate/NAME, and write its page there.")
@click.option("--markdown", "as_markdown", is_flag=True, help="The result as Markdown, in place of a page.")
@click.option("--model-card", "as_card", is_flag=True, help="Write a model card beside the tuned weights.")
@click.option(
    "--out", type=PathArgument(), metavar="FILE", help="File for these two.  [default: stdout, README.md]"
)
@output_options
def report(
    path: Path,
    evaluation: str | None,
    as_markdown: bool,
    as_card: bool,
    out: Path | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Show a run, or all runs in a folder, and write report.html.

    With --markdown the first page of a run is printed for a pull request or a wiki. With --model-card it
    becomes README.md beside the tuned weights, as Hugging Face reads it.
    """
    folder = not (path / "config.yaml").is_file() and any(path.glob("*/config.yaml"))
    directory = path if folder else run_directory(path)
    from finetooth.commands import report as command

    texts = as_markdown + as_card
    if texts > 1 or (texts and (folder or evaluation is not None)) or (out is not None and not texts):
        raise ConfigError(
            "--markdown and --model-card are two forms of one run's own result, and --out is the file for "
            "one of them."
        )
    if evaluation is not None:
        if folder:
            raise ConfigError(f"--evaluation is of one run, and {path} is a folder of runs.")
        return finish(command.of_evaluation(directory, evaluation), as_json, quiet)
    if as_markdown or as_card:
        make = command.as_markdown if as_markdown else command.as_model_card
        return finish(make(directory, out), as_json, quiet)
    return finish(command.run_overview(path) if folder else command.run(directory), as_json, quiet)


@click.command(cls=SectionedCommand, epilog="Example: finetooth predict runs/first tomorrow.csv")
@click.argument("target", metavar="RUN|MODEL", type=PathArgument("run", "model"))
@click.argument(
    "sources", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=str, allow_dash=True)
)
@click.option(
    "--workers", type=click.IntRange(1), default=1, metavar="N", help="Files that are answered at a time."
)
@click.option("--skip-finished", is_flag=True, hidden=True)  # of the processes of predict_files
@predict_options
@output_options
def predict(
    target: str,
    sources: tuple[str, ...],
    workers: int,
    skip_finished: bool,
    out: str | None,
    columns: str | None,
    force: bool,
    as_json: bool,
    quiet: bool,
    **flags: Any,
) -> int:
    """Answer the rows of a file, or of several.

    FILE is in any format that `check` reads, or - for stdin; it needs no answers. The same rows are written
    in the same order and format, with the columns answer, confidence (for labels: its probability among
    them) and error. Each row is asked as the run's test was: with its template, system message, columns and
    label set. After a kill, the same command goes on where it stopped. Several files are answered in
    processes of their own, which share the CPUs.
    """
    if len(sources) > 1:
        from finetooth.commands import predict_files

        if out is not None:
            raise ConfigError("--out names one file. Leave it out: each output is beside its input.")
        words = flag_words({**flags, "columns": columns, "force": force})
        result = predict_files.run(target, sources, words, workers, console(quiet))
        code = finish(result, as_json, quiet)
        if result.problems:
            raise ConfigError(result.problems)
        return code
    from finetooth.commands import predict as command

    source = sources[0]
    options = command.Options(columns=parse_mapping(columns), **flags)
    report = command.run(target, source, out, options, force, as_json, console(quiet), skip_finished)
    return finish(report, as_json, quiet)


@click.command(
    cls=SectionedCommand, epilog='Example: echo "I was charged twice" | finetooth chat runs/first --both'
)
@click.argument("target", metavar="RUN|MODEL", type=PathArgument("run", "model"))
@chat_options
@output_options
def chat(
    target: str, both: bool, conversation: bool, stream: int | None, as_json: bool, quiet: bool, **flags: Any
) -> int:
    """Chat with a model.

    RUN is a run directory: its fine-tuned model is asked as its test was, with the run's template,
    instruction, system message and label set. MODEL is a named model (see `finetooth models`), the directory
    of a model or an adapter, a GGUF file, or a hub id. At a terminal a pasted text of several lines is one
    question, /help lists the commands, Ctrl-C stops an answer and Ctrl-D ends the chat. From a pipe, every
    line is a question of its own.
    """
    from finetooth.commands import chat as command

    options = command.Options(both=both, conversation=conversation, seed=stream, **flags)
    report = command.run(target, options, as_json, console(quiet))
    code = finish(report, as_json, quiet)
    if report.problems:
        raise ConfigError(report.problems)
    return code


@click.command(cls=SectionedCommand, epilog="Example: finetooth compare runs/first runs/second")
@click.argument("paths", metavar="RUN RUN...", nargs=-1, required=True, type=PathArgument("run"))
@click.option("--sealed", is_flag=True, help="Compare on the sealed test set, if every run has opened it.")
@click.option(
    "--page", type=PathArgument(), metavar="FILE", help="Also write the comparison as a page: FILE.html."
)
@output_options
def compare(paths: tuple[Path, ...], sealed: bool, page: Path | None, as_json: bool, quiet: bool) -> int:
    """Compare runs row by row, and list their differences.

    Every other run is compared with the first, on the validation rows that both answered. Nothing is
    generated, and no test set is opened.
    """
    from finetooth.commands import compare as command

    return finish(command.run([run_directory(path) for path in paths], sealed, page), as_json, quiet)


@click.command(cls=SectionedCommand, epilog="Example: finetooth pairs runs/first --out pairs.jsonl")
@click.argument("path", metavar="RUN", type=PathArgument("run"))
@click.option("--out", type=PathArgument(), metavar="FILE", help="Output file.  [default: RUN/pairs.jsonl]")
@click.option(
    "--margin",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.5,
    metavar="NUMBER",
    help="Minimum score difference of a pair.",
)
@click.option(
    "--reference",
    is_flag=True,
    help="Use the expected answer as chosen where all of a row's answers score below 0.5.",
)
@output_options
def pairs(path: Path, out: Path | None, margin: float, reference: bool, as_json: bool, quiet: bool) -> int:
    """Build preference pairs from a run's own answers.

    Each pair is the best and the worst answer to a row that has good and bad ones. Answers are the rollouts
    of reinforcement learning and those of the evaluation on validation rows; the sealed test set is never
    read.
    """
    directory = run_directory(path)
    from finetooth.commands import pairs as command
    from finetooth.runs import next_steps

    report = command.run(directory, out, margin, reference)
    then = [next_steps.from_pairs(directory, report.path)] if report.trained_on else []
    return finish(report, as_json, quiet, *then)
