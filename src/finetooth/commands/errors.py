"""`finetooth errors RUN`: what is wrong, what became of it since another run, and the next data set.

Works on the answers to validation rows that are on record; only --next, and tags that are given by examples,
load the model. Nothing is trained, and the sealed test stays sealed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from shlex import quote
from typing import Any

from rich.console import Console

from finetooth.analysis.annotations import FOLDER, judged_tags, read_annotations
from finetooth.config.values import format_count
from finetooth.errors import ConfigError, FinetoothError
from finetooth.quality.findings import Embed
from finetooth.report import errors_page, errors_text
from finetooth.rundir import write_json, write_text
from finetooth.runs import error_analysis, inputs, lineage, user_tags, workspace
from finetooth.runs.error_analysis import RunAnswers

FILE, PAGE = f"{FOLDER}/errors.json", f"{FOLDER}/errors.html"


@dataclass(frozen=True, slots=True)
class NextRows:
    """What `--next` asks for. pool: a file of rows to choose from. rows: most of them. random: also as many
    random ones.
    """

    pool: Path | None = None
    rows: int | None = None
    random: bool = False


@dataclass(frozen=True, slots=True)
class Options:
    """against: the run before, by default the one that the run was made from. tags: a file of user tags.

    consistency: ask the model again, in other forms of the questions.
    """

    against: Path | None = None
    tags: Path | None = None
    trust_code: bool = False
    next_rows: NextRows | None = None
    consistency: bool = False


@dataclass(frozen=True, slots=True)
class ErrorsReport:
    """The analysis of a run, as errors.json has it. files: of the next data set. notes: on it."""

    path: Path
    analysis: dict[str, Any]
    labels: Sequence[str] = ()
    files: Sequence[Path] = ()
    next: Mapping[str, Any] = field(default_factory=dict)
    ok: bool = True

    def to_json(self) -> dict[str, Any]:
        """The analysis, with `page` and, if it was asked for, `next`: counts, notes and files."""
        more = {"next": {**self.next, "files": [str(file) for file in self.files]}} if self.next else {}
        return {**self.analysis, "page": str(self.path / PAGE), **more}

    def print(self, console: Console) -> None:
        """One screen; the page has the rest."""
        errors_text.print_errors(self.analysis, console, read_annotations(self.path))
        lines = [f"Page: {self.path / PAGE}"]
        if self.next:
            counted = [f"{count:,} {what}" for what, count in self.next["counts"].items() if count]
            lines += ["", f"Next rows: {', '.join(counted) or 'none'}.", *self.next["notes"]]
            lines += [str(file) for file in self.files]
        for line in lines:
            console.print(line, highlight=False, markup=False, soft_wrap=True)

    def next_steps(self) -> list[str]:
        """The commands to type next, each with its purpose."""
        run = quote(str(self.path))
        if self.next and not self.files:
            return []
        if not self.files:
            review = [f"finetooth errors {run} --review    judge the tags, correct expected answers"]
            return [*review, f"finetooth errors {run} --next    write the next data set"]
        by_name = {file.name: quote(str(file)) for file in self.files}
        change_set = by_name.get("next.csv")
        if change_set is None:
            return []
        control = f" --random {by_name['random.csv']}" if "random.csv" in by_name else ""
        return [
            f"fill in {' and '.join(name for name in by_name if name.endswith('.csv'))}, then:",
            f"finetooth run --add {change_set}{control} --from {run}    train the next iteration",
        ]


def run(path: Path, options: Options, console: Console) -> ErrorsReport:
    """Analyse a run, write errors.json and errors.html, and the next data set if it is asked for.

    Raises ConfigError for a run without answers, one that shares no row with the run before, and the user's
    tags where they cannot be used.
    """
    kept = {} if options.tags is not None else {user_tags.FILE: user_tags.code_in(path)}
    inputs.require_trusted(path, "errors", options.trust_code, kept)
    answers = error_analysis.read_answers(path, options.tags)
    if options.consistency:
        answers = _asked_again(path, answers, console)
    before = _before(path, answers, options, console)
    with workspace.occupied(path):
        embed = _embedder(path, console) if answers.custom.by_example else None
        following: Mapping[str, Any] = {}
        files: Sequence[Path] = ()
        training = None
        if options.next_rows is not None:
            files, following = _write_next(path, answers, options.next_rows, console)
            training = following.pop("training")
        analysis = error_analysis.analyse(answers, before, embed, training)
        if options.tags is not None:  # those that work
            user_tags.store(path, options.tags)
        report = ErrorsReport(path, analysis, answers.labels, files, following)
        return _written(report)


def review(report: ErrorsReport, console: Console) -> ErrorsReport:
    """Let a person go through the wrong rows, then write the page again."""
    from finetooth.commands import errors_review

    done = errors_review.review(report.path, report.analysis, console, labels=report.labels)
    done.print(console)
    with workspace.occupied(report.path):
        return _written(report)


def _written(report: ErrorsReport) -> ErrorsReport:
    """The report with its tags as people have judged them, written into the run."""
    annotations = read_annotations(report.path)
    analysis = {**report.analysis, "tags": judged_tags(report.analysis, annotations)}
    write_json(report.path / FILE, analysis)
    write_text(report.path / PAGE, errors_page.render(analysis, annotations))
    return replace(report, analysis=analysis)


def _before(path: Path, answers: RunAnswers, options: Options, console: Console) -> list[RunAnswers]:
    """The answers of the iterations before, the oldest first, under the same grader and with shared rows.

    One that cannot be used is left out, and said to be; ConfigError or DataError if --against names it.
    """
    given = options.against
    against = given if given is not None else lineage.parent_of(path)
    if against is None:
        return []
    if against.resolve() == path.resolve():
        raise ConfigError(f"--against: {against} is this run itself.")
    found: list[RunAnswers] = []
    for one in error_analysis.earlier(path, against):
        try:
            inputs.require_trusted(one, f"errors {quote(str(path))} --against", options.trust_code)
            known = error_analysis.read_answers(one, custom=answers.custom)
            problem = _difference(known, answers)
        except lineage.UNREADABLE as error:
            if one == given and isinstance(error, FinetoothError):
                raise
            problem = lineage.reason(error)
        if not problem:
            found.append(known)
        elif one == given:
            raise ConfigError(f"--against: {one} cannot be compared with {path}: {problem}")
        else:
            console.print(f"{one} is left out: {problem}", highlight=False, markup=False, soft_wrap=True)
            found.clear() if one == against else None
    return found


def _difference(known: RunAnswers, answers: RunAnswers) -> str:
    """Why two runs cannot be compared, in words; "" where they can."""
    if known.summary["grader"] != answers.summary["grader"]:
        return f"it was graded by {known.summary['grader']}, not by {answers.summary['grader']}."
    shared = {row.id for row in answers.rows} & {row.id for row in known.rows}
    return "" if shared else "the two share no validation row."


def _asked_again(path: Path, answers: RunAnswers, console: Console) -> RunAnswers:
    """With further answers to the same questions. Loads the model."""
    from finetooth.runs import consistency
    from finetooth.runs.context import RunContext

    with workspace.occupied(path):
        consistency.measure(RunContext.of_run(path, console), answers.rows)
    return replace(answers, others=error_analysis.further_answers(path, answers.rows))


def _embedder(path: Path, console: Console) -> Embed:
    from finetooth.runs.context import RunContext
    from finetooth.runs.embeddings import embedder_of

    return embedder_of(RunContext.of_run(path, console).tuned())


def _write_next(
    path: Path, answers: RunAnswers, asked: NextRows, console: Console
) -> tuple[list[Path], dict[str, Any]]:
    """The files of the next data set, and what is in them. Loads the model."""
    from finetooth.runs import next_data, next_files
    from finetooth.runs.context import RunContext

    context = RunContext.of_run(path, console)
    inputs.require_kinds_unchanged(context.task, path, "model")
    corrected = read_annotations(path).answers
    data = next_data.next_data(context, answers.rows, corrected, asked.pool, asked.rows, random=asked.random)
    files = next_files.write(path, data.changes, data.random, data.steered)
    if files:
        console.print(f"next: {format_count(len(data.changes.rows), 'row')}", highlight=False)
    return files, data.to_json()
