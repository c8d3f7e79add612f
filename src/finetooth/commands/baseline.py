"""`finetooth baseline TASK`: how far prompting alone gets, and the best prompt as a file.

Nothing is trained, and the sealed test stays closed. Writes baseline/ into the run directory: prompt.yaml,
baseline.json and records.jsonl.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from finetooth.config.task import Task
from finetooth.config.values import format_count
from finetooth.errors import ConfigError, GradeError
from finetooth.evaluation.prompting.advice import Recommendation, before_training, money
from finetooth.evaluation.prompting.instructions import read_instructions
from finetooth.evaluation.prompting.optimizer import require_package
from finetooth.evaluation.prompting.trials import TrialResult
from finetooth.evaluation.runner import row_groups
from finetooth.evaluation.verdict_words import percent
from finetooth.report.console import answer_bars
from finetooth.rundir import write_json, write_jsonl, write_text
from finetooth.runs import best_prompt, prompt_search, workspace
from finetooth.runs.base_ranking import without_test
from finetooth.runs.context import RunContext
from finetooth.runs.prompt_search import Ladder
from finetooth.runs.reflection import Optimizing, Remote

BUDGET = 500  # answers; minutes on two CPU cores with a model of 135 M parameters and short rows
SHOWN = 10  # prompts in the table


@dataclass(frozen=True, slots=True)
class BaselineReport:
    """The ladder of a task. path: the run directory. prices: of a million tokens in and out, if given.

    optimizer: the package that improved the instruction, "" for none.
    """

    path: Path
    ladder: Ladder
    prices: tuple[float, float] | None
    optimizer: str = ""
    ok: bool = True

    @property
    def prompt(self) -> Path:
        """The best prompt, as `evaluate RUN --prompt` and the key evaluate.prompt take it."""
        return self.path / best_prompt.PROMPT

    @property
    def advice(self) -> Recommendation:
        """Whether prompting is enough, from the winner's score on the confirmation rows."""
        found, examples = self.ladder.found, self.ladder.held_out.examples
        rows = self._rows[1]
        scores = [row.score for row in found.winner.confirmed]
        return before_training(scores, len(found.finalists), row_groups([examples[row] for row in rows]))

    @property
    def _rows(self) -> tuple[list[int], list[int]]:
        """The rows that selected, and those that confirmed."""
        plan, (select, confirm) = self.ladder.found.plan, self.ladder.held_out.halves()
        return select[: plan.select], confirm[: plan.confirm]

    def to_json(self) -> dict[str, Any]:
        """baseline.json."""
        ladder, found = self.ladder, self.ladder.found
        finalists = [one.trial for one in found.finalists]
        return {
            "run": str(self.path),
            "prompt": str(self.prompt),
            "grader": ladder.grader,
            "rows": {
                "selection": found.plan.select,
                "confirmation": found.plan.confirm,
                "from_train": ladder.held_out.from_train([*self._rows[0], *self._rows[1]]),
                "shown": len(ladder.held_out.rest),
            },
            "effort": {
                "budget": ladder.budget,
                "answers": ladder.answered,
                "tokens": ladder.effort.tokens,
                "computed_tokens": ladder.effort.computed,
                "seconds": round(ladder.effort.seconds, 2),
            },
            **self._optimized(),
            "winner": self._entry(found.winner),
            "confirmed": found.confirmed,
            "layouts": found.layouts,
            "prompts": [self._entry(one) | {"finalist": one.trial in finalists} for one in found.results],
            "recommendation": self.advice.to_json(),
        }

    def _optimized(self) -> dict[str, Any]:
        """The share of an optimiser, where there was one. answers: counted in those of the effort, too."""
        if self.ladder.found.optimized is None:
            return {}
        answers, finished = self.ladder.found.optimized
        return {"optimizer": {"name": self.optimizer, "answers": answers, "instructions": finished}}

    def _entry(self, result: TrialResult) -> dict[str, Any]:
        """One prompt. score: over the selection rows that it answered; confirmed: over the others."""
        parts = {"score": result.selected, "confirmed": result.confirmed}
        means = {
            name: sum(one.score for one in rows) / len(rows) if rows else None for name, rows in parts.items()
        }
        entry = {
            "name": result.trial.title,
            **means,
            "rows": len(result.selected) + len(result.confirmed),
            "prompt_tokens": result.prompt_tokens,
            "completion_tokens": result.completion_tokens,
        }
        if self.prices is not None:
            entry["price"] = money(result.prompt_tokens, result.completion_tokens, *self.prices)
        return entry

    def records(self) -> list[dict[str, Any]]:
        """The finalists' answers, one a row: lines of records.jsonl."""
        select, confirm = self._rows
        lines = []
        for result in self.ladder.found.finalists:
            for part, rows, answers in (
                ("selection", select, result.selected),
                ("confirmation", confirm, result.confirmed),
            ):
                for row, one in zip(rows, answers, strict=True):
                    lines.append(
                        {
                            "id": self.ladder.held_out.examples[row].id,
                            "candidate": result.trial.title,
                            "part": part,
                            "text": one.text,
                            "score": one.score,
                            "prompt_tokens": one.prompt_tokens,
                            "completion_tokens": one.completion_tokens,
                        }
                    )
        return lines

    def print(self, console: Console) -> None:
        """The best prompts in a table, what the search took, and the recommendation."""
        facts = self.to_json()
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        headings = ["prompt", f"{facts['grader']}", "rows", "confirmed", "tokens"]
        for heading in [*headings, *(["price of 1,000"] if self.prices else [])]:
            table.add_column(heading, justify="left" if heading == "prompt" else "right")
        best = facts["winner"]["name"]
        for entry in facts["prompts"][:SHOWN]:
            tokens = entry["prompt_tokens"] + entry["completion_tokens"]
            cells = [
                entry["name"],
                percent(entry["score"]),
                str(entry["rows"]),
                "–" if entry["confirmed"] is None else percent(entry["confirmed"]),
                f"{tokens:,.0f}",
                *([f"{1000 * entry['price']:.4g}"] if self.prices else []),
            ]
            table.add_row(*map(Text, cells), style="bold" if entry["name"] == best else None)
        console.print(table)
        for line in ("", *self._lines(facts)):
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _lines(self, facts: dict[str, Any]) -> list[str]:
        rows, effort, scores = facts["rows"], facts["effort"], [*facts["layouts"].values()]
        more = len(facts["prompts"]) - SHOWN
        held = f"{rows['selection']} rows chose the finalists, {rows['confirmation']} others confirmed them"
        if rows["from_train"]:
            held += (
                f"; {rows['from_train']} of these are training rows, since the validation split is small, "
                "and no prompt shows them"
            )
        lines = [f"{held}. The sealed test stays closed."]
        if more > 0:
            lines.append(f"{format_count(more, 'more prompt')} in {self.path / 'baseline' / 'baseline.json'}")
        if len(scores) > 1:
            lines.append(
                f"The best prompt of the pool in {len(scores)} equivalent layouts: {percent(min(scores))} to "
                f"{percent(max(scores))}."
            )
        lines.append(
            f"Effort: {format_count(effort['answers'], 'answer')} of at most {effort['budget']:,}, "
            f"{effort['tokens']:,} tokens in rows, of which {effort['computed_tokens']:,} were computed, "
            f"{effort['seconds']:.0f} s."
        )
        if own := facts.get("optimizer"):
            lines.append(
                f"Of these, {format_count(own['answers'], 'answer')} went to {own['name']}, which proposed "
                f"{format_count(own['instructions'], 'instruction')} worth all selection rows."
            )
        if not facts["confirmed"]:
            lines.append("No prompt that was found did as well as zero-shot on the confirmation rows.")
        return [*lines, self.advice.words, f"Prompt: {self.prompt}"]


def run(
    task: Task,
    out: Path | None,
    console: Console,
    budget: int = BUDGET,
    instructions: Path | None = None,
    optimizer: Optimizing | None = None,
) -> BaselineReport:
    """Search for the best prompt of the task's base model, and write it. Raises FinetoothError.

    out: the run directory, default runs/NAME. budget: the most answers. instructions: a file with
    instructions to try, in place of the templates. optimizer: improves the best of them.
    """
    if optimizer is not None:
        require_package(optimizer.package)
    path = workspace.run_path(task, out)
    workspace.require_ours(path)
    given: Sequence[str] | None = None if instructions is None else read_instructions(instructions)
    context = RunContext(task, path, console)
    with answer_bars(console, "baseline") as progress:
        ladder = prompt_search.find(context, without_test(task), budget, given, progress, optimizer=optimizer)
    package = "" if optimizer is None else optimizer.package
    return _write(BaselineReport(path, ladder, prices(task), package), task)


def optimizing(package: str, url: str | None, model: str | None) -> Optimizing:
    """An optimiser with the model at this address, else with the base itself. Raises ConfigError."""
    return Optimizing(package, Remote(url, model) if url and model else None)


def ensure(context: RunContext) -> None:
    """The search as a stage of `run`: where evaluate.ladder is true, and the run has no prompt to beat yet.

    The models are those in memory. Where no search is possible the reason is printed, and the run goes on.
    """
    task, path, console = context.task, context.path, context.console
    if task.evaluate.ladder is not True or best_prompt.prompt_file(context) is not None:
        return
    if reason := best_prompt.obstacle(task):
        console.print(f"ladder: skipped: {reason}", markup=False, highlight=False, soft_wrap=True)
        return
    tokens = best_prompt.search_tokens(context)
    seconds = best_prompt.search_seconds(path, tokens)
    takes = "" if seconds is None else f", with its evaluation about {max(1, round(seconds / 60))} min"
    console.print(
        f"ladder: at most {best_prompt.ANSWERS} answers of the base under other prompts{takes} "
        "(evaluate.ladder: false leaves it out)",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    searching = RunContext(task, path, console)
    try:
        with context.base() as base, answer_bars(console, "ladder") as progress:
            ladder = prompt_search.find(
                searching, context.prepared, best_prompt.ANSWERS, None, progress, base
            )
    except (ConfigError, GradeError) as error:
        console.print(f"ladder: skipped: {error}", markup=False, highlight=False, soft_wrap=True)
        return
    report = _write(BaselineReport(path, ladder, prices(task)), task)
    console.print(f"ladder: {report.advice.words}", markup=False, highlight=False, soft_wrap=True)


def _write(report: BaselineReport, task: Task) -> BaselineReport:
    ladder, path = report.ladder, report.path
    comment = (
        f"Found by `finetooth baseline` for {task.name} and {Path(task.model).name}: "
        f"{ladder.found.winner.trial.title}.\n"
        "Demonstrations come from the train rows. For a run: finetooth evaluate RUN --prompt FILE"
    )
    with workspace.occupied(path):
        write_text(path / best_prompt.PROMPT, ladder.winner.to_yaml(comment))
        write_jsonl(path / "baseline" / "records.jsonl", report.records())
        write_json(path / best_prompt.RESULT, report.to_json() | {"made_for": ladder.made_for})
    return report


def prices(task: Task) -> tuple[float, float] | None:
    """The prices of a million tokens in and out; None where neither is given."""
    given = task.evaluate.price_in, task.evaluate.price_out
    return None if given == (None, None) else (given[0] or 0.0, given[1] or 0.0)


def next_step(task_file: Path, report: BaselineReport) -> str:
    """The command that compares the prompt with a tuned model: that of the run, if it has one."""
    run = quote(str(report.path))
    if workspace.trained_path(report.path) is not None:
        return f"finetooth evaluate {run}"
    return f"finetooth run {quote(str(task_file))} --out {run}"
