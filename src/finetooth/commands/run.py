"""`finetooth run TASK`: check, train, compare with prompting, open the sealed test, report.

The first run on sealed rows opens them. Later ones stay on validation rows unless they are told to spend a
look. A stage whose result is already in the run directory is skipped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from shlex import quote
from typing import Any

from rich.console import Console

from finetooth.commands import baseline, evaluate, general, predict, report, robustness, seeds, train
from finetooth.config.load import load_task, task_file_in
from finetooth.config.task import Task
from finetooth.data.formats.questions import Question
from finetooth.errors import ConfigError, DataError, Interrupted
from finetooth.evaluation import ledger, proof
from finetooth.evaluation.prompting.advice import Recommendation, recommend
from finetooth.report.console import terminal
from finetooth.report.prompting_part import compared_efforts, effort_words, efforts
from finetooth.report.slices_part import run_slices
from finetooth.report.terminal import terminal_table
from finetooth.rundir import read_json
from finetooth.runs import asking, elsewhere, inputs, next_steps, parent, retention, workspace
from finetooth.runs.asking import Asking
from finetooth.runs.context import RunContext
from finetooth.runs.predictions import answer_rows
from finetooth.runs.setup import ensure_set_up
from finetooth.training.interrupts import Terminated
from finetooth.types import Example, Message

UNGRADED = ("perplexity", "preference")  # graders of likelihoods, for which no prompt is searched


@dataclass(frozen=True)
class Run:
    """A finished run. path: its directory. summary: evaluate/summary.json as the contract has it."""

    path: Path
    summary: dict[str, Any]
    ok: bool = True

    def to_json(self) -> dict[str, Any]:
        """The run's path, its report and the summary of the contract."""
        values = {"run": str(self.path), "report": str(self.path / "report.html"), **self.summary}
        given = {
            "recommendation": self._recommendation().to_json(),
            "effort": compared_efforts(self.path, self.summary),
        }
        return values | given

    def _recommendation(self) -> Recommendation:
        """Whether prompting is enough."""
        return recommend(self.summary, efforts(self.path, {})["training"]["computed_tokens"] or None)

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """The finished run in a directory. Raises ConfigError where there is none, or it is not evaluated."""
        path = workspace.run_directory(Path(path))
        summary = path / "evaluate" / "summary.json"
        if not summary.is_file():
            raise ConfigError(f"{path} is not evaluated yet. First: {next_steps.of_run(path)}")
        return cls(path, read_json(summary))

    @cached_property
    def _asking(self) -> Asking:
        """The tuned model and how it is asked, loaded once."""
        return asking.of_target(str(self.path), Console(quiet=True))[0]

    def ask(self, text: str, system: str | None = None) -> str:
        """The tuned model's answer to one text, asked as the test was: a label, where labels are chosen.

        text: what stands in the text column; where several columns were joined, the lines `Column: its text`.
        system: the system message; None is that of the training rows. A label below the run's threshold is
        `unsure`, where the task names costs. The model is loaded once for all calls. Raises DataError for a
        text that cannot be asked, such as an empty or too long one.
        """
        return self.ask_with_confidence(text, system)[0]

    def ask_with_confidence(self, text: str, system: str | None = None) -> tuple[str, float | None]:
        """What `ask` answers, and the calibrated confidence in the label; None for free text."""
        if not text.strip():
            raise DataError("ask: the text is empty.")
        asked = self._asking if system is None else replace(self._asking, system=system, systems=())
        question = Question(1, "the text", Example("", (Message("user", text),), ()))
        ((_, found),) = answer_rows(asked, [question])
        if found.answer is None:
            raise DataError(f"ask: {found.error}.")
        answer, certainty, _ = found.cells(asked.unsure_below)
        return str(answer), certainty

    def predict(self, rows: Any, unsure_below: float | None = None) -> Any:
        """The rows with answers, asked as the test was: `commands.predict.predict` for this run.

        rows: a list of dicts, or a DataFrame; the same comes back with the columns answer, confidence (for
        labels: the probability among them) and error. Raises FinetoothError.
        """
        return predict.predict(self.path, rows, unsure_below=unsure_below)

    def robustness(self, kinds: Sequence[str] | bool = True) -> dict[str, Any]:
        """How the tuned model and the best prompt answer perturbed validation rows: evaluate/robustness.json.

        kinds: as evaluate.perturbations; true: all. Measured now, unless the same was measured before.
        Raises FinetoothError.
        """
        return robustness.run(self.path, kinds, Console(quiet=True)).found

    def weak_slices(self) -> list[dict[str, Any]]:
        """Groups of validation rows on which the tuned model errs more often than elsewhere, clearest first.

        Each as `evaluation.slices.Slice` has it. A search for hints, no proof: confirm on new rows.
        """
        found = run_slices(self.path)
        return [] if found is None else [asdict(one) for one in found.found]

    def print(self, console: Console) -> None:
        """The score table, the verdict, whether prompting is enough, and the path of the report."""
        console.print(terminal_table(self.summary))
        if self.summary.get("comparison"):
            words = (
                f"\n{self._recommendation().words} {effort_words(compared_efforts(self.path, self.summary))}"
            )
            console.print(words, highlight=False, markup=False, soft_wrap=True)
        console.print(f"\nReport: {self.path / 'report.html'}", highlight=False, markup=False, soft_wrap=True)

    def next_steps(self) -> list[str]:
        """The commands to type next, each with its purpose."""
        chat = (f"finetooth chat {quote(str(self.path))}", "chat with the tuned model")
        scores = [entry["score"] for entry in self.summary.get("candidates", ()) if entry["name"] == "tuned"]
        perfect = scores == [1.0] and self.summary.get("grader") != "perplexity"
        mend = (next_steps.interpolation(self.path), "get general ability back, without training")
        first = (mend, chat) if retention.can_be_mended(self.path) else (chat,)
        errors = (f"finetooth errors {quote(str(self.path))}", "what is wrong, and which rows would help")
        readable = self.summary.get("grader") not in UNGRADED
        first = (*first, *[errors] * (bool(scores) and readable and not perfect))
        steps = (*first, *([] if perfect else next_steps.longer_training(self.path)))
        names = {entry["name"] for entry in self.summary.get("candidates", ())}
        if "zero-shot" in names and "prompt" not in names and self.summary.get("grader") not in UNGRADED:
            steps = (*steps, *next_steps.better_prompt(self.path))
        return [f"{command}    {purpose}" for command, purpose in steps]


def run(
    task: str | Path | Mapping[str, Any] | Task,
    out: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    quiet: bool = False,
    sealed: bool = False,
) -> Run:
    """Run the whole loop for a task file, a mapping or a Task: `finetooth run` from Python.

    out: the run directory, default runs/NAME. overrides: dotted keys, {"train.epochs": 2}. sealed: spend a
    look at the sealed test even if its rows were opened before. Raises FinetoothError with one message that
    says what to do.
    """
    console = terminal(stderr=True, quiet=quiet)
    file = task_file_in(Path(task)) or Path(task) if isinstance(task, str | Path) else None
    return run_task(load_task(task, overrides), Path(out) if out is not None else None, console, file, sealed)


def run_task(
    task: Task, out: Path | None, console: Console, file: Path | None = None, sealed: bool = False
) -> Run:
    """Run the loop for a loaded task; see `run`. file: the task file."""
    task = elsewhere.with_tuned(parent.inherit_settings(task, console))
    folder = None if file is None else file.parent
    context = RunContext(task, workspace.run_path(task, out), console, folder)
    asking.task_prompt(context)  # one that cannot be read ends the command before the training
    general.load_neighbours(task)
    with workspace.occupied(context.path):
        workspace.open_run(context.task, context.path)
        inputs.require_unchanged(context.task, context.path, console)
        return _stages(context, file, sealed)


def _stages(context: RunContext, file: Path | None, sealed: bool) -> Run:
    path = context.path
    name = "TASK" if file is None else quote(str(file))
    again = (
        f"finetooth run {name} --out {quote(str(path))} (with the same flags); finished stages are skipped"
    )
    try:
        if context.task.tuned is None:
            train.train(context, needs_grader=True)
        else:
            ensure_set_up(context)
        validation = path / "evaluate" / "validation" / "summary.json"
        new = not validation.is_file()
        if new:
            retention.ensure_measured(context)
            general.ensure_measured(context)
            baseline.ensure(context)
        if context.prepared.validation and new:
            evaluate.evaluate_run(context, sealed=False)
            robustness.ensure_measured(context)
        if context.task.train.seeds > 1:
            seeds.train_others(context)
            seeds.evaluate_others(context)
        summary = path / "evaluate" / "summary.json"  # written last, so it is complete
        if not (summary.is_file() and read_json(summary)["split"] == "test"):
            if context.prepared.sealed_count:
                _open_test(context, sealed, new)
        elif not new:
            context.console.print(f"{path} is finished; nothing was left to do.", soft_wrap=True)
    except Interrupted as error:
        raise Interrupted(error.message, again if error.next_command else "") from None
    except (KeyboardInterrupt, Terminated):
        if workspace.trained_path(path) is None:
            raise
        raise Interrupted("Stopped while evaluating; the trained model is saved.", again) from None
    report.run(path)
    return Run(path, read_json(path / "evaluate" / "summary.json"))


def _open_test(context: RunContext, sealed: bool, new: bool) -> None:
    """Open the sealed test at the first look at its rows, or if a further one is wanted; else say why not.

    new: whether the run gets here for the first time; the weights are then in memory, to be looked up.
    """
    path, looks = context.path, ledger.looks(context.path)
    if not sealed and not looks.begun and context.prepared.validation and retention.can_be_mended(path):
        context.console.print(
            "The sealed test stays closed: the model has forgotten, and a look at the test is worth more for "
            f"one that has not: {next_steps.interpolation(path)}. To spend it on this model: finetooth "
            f"evaluate {quote(str(path))} --sealed",
            soft_wrap=True,
        )
        return
    if sealed or new or looks.begun or not looks.others:
        if evaluate.evaluate_run(context, sealed=True, further=sealed).summary["split"] == "test":
            return
        looks = ledger.looks(path)
    last = f" by the run {looks.last['run']} on {looks.last['time'][:10]}" if looks.last else ""
    declared = looks.declared or context.task.evaluate.looks
    following = f"look {looks.count + 1} of {declared}, tested at the level {proof.level_of(declared)}"
    new_rows = ""
    if looks.count >= declared:
        following = f"look {looks.count + 1}, of {declared} declared (evaluate.looks)"
        new_rows = " A further look can prove no improvement; only new sealed rows can."
    command = f"finetooth evaluate {quote(str(path))} --sealed"
    context.console.print(
        f"The sealed test stays closed: its rows, or some of them, were opened before{last}. The result is "
        f"on validation rows.{new_rows} To spend {following}: {command}",
        soft_wrap=True,
    )
