"""`finetooth predict RUN|MODEL FILE`: the rows of a file with their answers, in the file's own format.

Rows are asked as the run's test was: same template, system message, column mapping and constraint.
"""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table as TerminalTable

from finetooth.config.values import format_count
from finetooth.data.formats.columns import CANONICAL, listed
from finetooth.data.formats.questions import Question, read_questions
from finetooth.data.read.files import from_memory
from finetooth.data.read.names import clean_columns
from finetooth.data.read.table import Table
from finetooth.data.write.sheet import STDIN, Sheet, free_names
from finetooth.errors import ConfigError, DataError
from finetooth.evaluation.summary import BAG_OF_WORDS, TUNED
from finetooth.report.console import terminal
from finetooth.rundir import write_bytes
from finetooth.runs import asking as asks
from finetooth.runs import predict_outputs as outputs
from finetooth.runs import word_counts
from finetooth.runs.asking import Asking
from finetooth.runs.confidence import UNSURE
from finetooth.runs.predictions import PredictionLog, RowAnswer, answer_rows, identity, log_path

# What a reader says of an encoding, for a task.
_ENCODING = re.compile(r"`data\.encoding: ([\w-]+)`(?:: finetooth \S+ \S+ \S+ [\w-]+)?")
SHOWN_ERRORS = 3
SHOWN_ANSWERS = 12


@dataclass(frozen=True, slots=True)
class Options:
    """What may differ from one file to the next.

    columns: {column: role} in place of the run's mapping of that role. system: the system message of rows
    without one. encoding: of a text file, else the run's. unsure_below: answers with less confidence than
    this are `unsure`; None is the run's threshold, if its task names costs. candidate: what answers, `tuned`
    or `bag-of-words`.
    """

    columns: Mapping[str, str] | None = None
    system: str | None = None
    encoding: str | None = None
    unsure_below: float | None = None
    candidate: str = TUNED


@dataclass(frozen=True, slots=True)
class PredictReport:
    """What was answered. out: the file that was written; None for stdout. names: of the added columns.

    threshold: of `unsure`. where: of each row, for messages. log: where the counts go if stdout has the rows.
    """

    target: str
    source: str
    out: Path | None
    asked: Asking
    answers: Mapping[int, RowAnswer]
    names: Mapping[str, str]
    threshold: float | None
    resumed: int
    seconds: float
    where: Mapping[int, str]
    log: Console

    @property
    def ok(self) -> bool:
        """Whether any row was answered."""
        return any(answer.answer is not None for answer in self.answers.values())

    @property
    def _labels(self) -> Counter[str]:
        cells = [answer.cells(self.threshold)[0] for answer in self.answers.values()]
        return Counter(filter(None, cells)) if self.asked.labels else Counter()

    @property
    def _unsure(self) -> int:
        return self._labels[UNSURE] if self.threshold is not None else 0

    @property
    def _done(self) -> int:
        return sum(answer.answer is not None for answer in self.answers.values()) - self._unsure

    @property
    def _errors(self) -> list[tuple[int, str]]:
        return [(place, one.error) for place, one in sorted(self.answers.items()) if one.error]

    def to_json(self) -> dict[str, Any]:
        """Counts, how the rows were asked, and the names of the added columns."""
        return {
            "model": self.target,
            "input": self.source,
            "out": str(self.out) if self.out else None,
            "rows": len(self.answers),
            "answered": self._done,
            "unsure": self._unsure,
            "errors": len(self._errors),
            "resumed": self.resumed,
            "seconds": round(self.seconds, 3),
            "columns": dict(self.names),
            "asked": self.asked.to_json(),
            "answers": dict(self._labels) if self.asked.labels else None,
        }

    def print(self, console: Console) -> None:
        """The counts of what is in the column of answers, and the first rows that could not be answered."""
        console = console if self.out else self.log
        if self._labels:
            table = TerminalTable("answer", "rows", box=None, pad_edge=False)
            for label, count in self._labels.most_common(SHOWN_ANSWERS):
                table.add_row(label, f"{count:,}")
            console.print(table)
            if (more := len(self._labels) - SHOWN_ANSWERS) > 0:
                console.print(f"and {format_count(more, 'further label')}")
        errors = self._errors
        for place, error in errors[:SHOWN_ERRORS]:
            console.print(f"{self.where[place]}: {error}", soft_wrap=True)
        if len(errors) > SHOWN_ERRORS:
            console.print(f"{format_count(len(errors), 'row')} with an error; see the column.")
        if any(error.startswith("not UTF-8") for _, error in errors):
            console.print("Name the encoding of the file, for example: --encoding cp1252")
        where = f": {self.out}" if self.out else ""
        unsure, rows = self._unsure, format_count(len(self.answers), "row")
        low = f", {unsure:,} below the threshold ({UNSURE})" if unsure else ""
        console.print(f"{self._done:,} of {rows} answered{low}{where}", soft_wrap=True)
        renamed = [f"{name} is in {column}" for name, column in self.names.items() if name != column]
        if renamed:
            console.print(f"The input has columns of these names already: {', '.join(renamed)}.")


def run(
    target: str,
    source: str,
    out: str | None,
    options: Options,
    force: bool,
    as_json: bool,
    console: Console,
    skip_finished: bool = False,
) -> PredictReport | outputs.FinishedReport:
    """Answer the rows of a file, or of stdin for `-`, and write them with their answers.

    out: the output file, `-` for stdout; by default NAME.predicted.EXT beside the input; stdout for stdin.
    The output appears when it is complete. Until then answers are kept in a hidden file beside it, from which
    the same command goes on after a kill. skip_finished: an output that the same model and flags have made of
    the same input is left alone. Raises FinetoothError for a wrong input, or another output that exists.
    """
    to_stdout = out == STDIN or (out is None and source == STDIN)
    if to_stdout and as_json:
        raise ConfigError("The rows go to stdout, and so would --json. Name a file for the rows: --out FILE")
    started = time.perf_counter()
    asked = _asking(target, options, console)
    options = _with_threshold(options, asked)
    encoding = options.encoding or asked.encoding
    sheet = _sheet(source, encoding)
    may_exist = force or skip_finished
    path = (
        None if to_stdout else outputs.output_path(Path(source), Path(out) if out else None, sheet, may_exist)
    )
    questions = questions_of(asked, sheet.table, options)
    for note in (*asked.candidate.model.notes, *asked.candidate.renderer.notes):
        console.print(f"model: {note}", style="dim")
    console.print(asked.describe(), style="dim")
    names = _added_columns(asked, sheet.table)

    def report(answers: Mapping[int, RowAnswer], resumed: int = 0) -> PredictReport:
        seconds = time.perf_counter() - started
        where = {question.place: question.where for question in questions}
        threshold = options.unsure_below
        return PredictReport(
            target, source, path, asked, answers, names, threshold, resumed, seconds, where, console
        )

    if path is None:
        answers = _answered(asked, questions, None, console)
        _write_stdout(_written(sheet, answers, names, options))
        return report(answers)
    work = identity(asked, sheet.digest, _mapping(asked, options))
    all_of_it = f"{work} {options.unsure_below}"
    if skip_finished and (before := outputs.recall(path, all_of_it)) is not None and not force:
        return outputs.FinishedReport(before)
    if path.exists() and not (force or log_path(path).exists()):  # with a log: killed just before its removal
        raise outputs.exists(path)
    with PredictionLog(log_path(path), work) as log:
        resumed = len(log.known)
        if resumed:
            console.print(f"Going on: {resumed:,} of {len(questions):,} rows were answered before.")
        answers = _answered(asked, questions, log, console)
        content = _written(sheet, answers, names, options)
        if path.exists() and not force and path.read_bytes() != content:
            raise outputs.exists(path)
        write_bytes(path, content)
        done = report(answers, resumed)
        if skip_finished:
            outputs.remember(path, all_of_it, done.to_json())
        log.remove()
    return done


def predict(
    target: str | Path,
    rows: Any,
    columns: Mapping[str, str] | None = None,
    system: str | None = None,
    unsure_below: float | None = None,
    candidate: str = TUNED,
    quiet: bool = True,
) -> Any:
    """The rows with the columns answer, confidence (for labels) and error added, asked as the run's test was.

    target: a run directory or a model. rows: a list of dicts, or a pandas DataFrame; the same comes back, in
    the same order, as a copy. Rows need no answers. confidence: the probability of the answer among the
    labels, in [0, 1]. columns, system, unsure_below, candidate: as the flags of `finetooth predict`. Raises
    FinetoothError.
    """
    console = terminal(stderr=True, quiet=quiet)
    given = Options(columns, system, None, unsure_below, candidate)
    asked = _asking(str(target), given, console)
    given = _with_threshold(given, asked)
    table = clean_columns(from_memory(rows))
    names = _added_columns(asked, table)
    answers = _answered(asked, questions_of(asked, table, given), None, console)
    cells = [_cells(answers[place], names, given) for place in range(1, len(table) + 1)]
    if hasattr(rows, "assign"):
        by_column = zip(*cells, strict=True) if cells else [()] * len(names)
        return rows.assign(**dict(zip(names.values(), map(list, by_column), strict=True)))
    added = [dict(zip(names.values(), one, strict=True)) for one in cells]
    return [{**row, **more} for row, more in zip(rows, added, strict=True)]


def _asking(target: str, options: Options, console: Console) -> Asking:
    """How the target is asked. Raises ConfigError for a threshold that it cannot have."""
    if options.candidate == BAG_OF_WORDS:
        asked = word_counts.of_run(Path(target), console)
    else:
        asked, _ = asks.of_target(target, console)
    if options.unsure_below is not None and not asked.labels:
        raise ConfigError(
            "--unsure-below needs a run whose answers are labels: free text has no confidence. Leave it out."
        )
    if options.unsure_below is not None and UNSURE in asked.labels:
        raise ConfigError(
            f"--unsure-below writes {UNSURE!r}, and this run has a label of that name. Leave it out, and use "
            "the column confidence."
        )
    return asked if options.system is None else replace(asked, system=options.system, systems=())


def _with_threshold(options: Options, asked: Asking) -> Options:
    return replace(options, unsure_below=asked.unsure_below) if options.unsure_below is None else options


def _sheet(source: str, encoding: str) -> Sheet:
    """The sheet of a file, or of stdin. Raises DataError, in which the flag of an encoding is this verb's."""
    try:
        if source == STDIN:
            return Sheet.of_stream(sys.stdin.buffer.read(), encoding)
        return Sheet.read(Path(source), encoding)
    except DataError as error:
        raise DataError(_ENCODING.sub(r"`--encoding \1`", str(error))) from None


def questions_of(asked: Asking, table: Table, options: Options) -> list[Question]:
    """The rows as questions. DataError where a column is missing, ConfigError for a wrong mapping."""
    for name, role in (options.columns or {}).items():
        if role not in CANONICAL:
            raise ConfigError(f"--columns: {name}: {role}: the role must be one of {', '.join(CANONICAL)}.")
        if name not in table.columns:
            raise DataError(
                f"--columns: {table.name} has no column {name!r}. It has: {listed(table.columns)}."
            )
    questions = read_questions(table, asked.format, _mapping(asked, options), asked.unread)
    if asked.always and not (questions.has_system or asked.system):
        raise DataError(
            f"{table.name}: the rows that the run was trained on have a system message each, and these have "
            'none. Add a column `system`, name it with --columns "{COLUMN: system}", or give one for all: '
            "--system TEXT"
        )
    return questions.rows


def _mapping(asked: Asking, options: Options) -> dict[str, str]:
    """The run's mapping of columns, in which that of the options replaces roles."""
    given = dict(options.columns or {})
    kept = {name: role for name, role in (asked.columns or {}).items() if role not in given.values()}
    return {**kept, **given}


def _added_columns(asked: Asking, table: Table) -> dict[str, str]:
    names = ("answer", "confidence", "error") if asked.labels else ("answer", "error")
    return dict(zip(names, free_names(table.columns, names), strict=True))


def _answered(
    asked: Asking, questions: Sequence[Question], log: PredictionLog | None, console: Console
) -> dict[int, RowAnswer]:
    """The answers of all rows by place, each logged as it comes; those in the log are not asked again."""
    answers = dict(log.known) if log is not None else {}
    todo = [question for question in questions if question.place not in answers]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=console.quiet) as bar:
        shown = bar.add_task("predict", total=len(questions), completed=len(answers))
        for place, answer in answer_rows(asked, todo):
            answers[place] = answer
            if log is not None:
                log.add(place, answer)
            bar.update(shown, completed=len(answers))
    return answers


def _cells(answer: RowAnswer, names: Mapping[str, str], options: Options) -> list[Any]:
    """The cells of the added columns, in their order."""
    text, confidence, error = answer.cells(options.unsure_below)
    return [text, confidence, error] if "confidence" in names else [text, error]


def _written(
    sheet: Sheet, answers: Mapping[int, RowAnswer], names: Mapping[str, str], options: Options
) -> bytes:
    cells: dict[int, list[Any]] = {}
    for place, answer in answers.items():
        if answer.answer is not None and not sheet.can_write(answer.answer):
            answer = replace(answer, error=f"{sheet.encoding} lacks characters of the answer; they are ?")
        cells[place] = _cells(answer, names, options)
    return sheet.with_columns(list(names.values()), cells)


def _write_stdout(content: bytes) -> None:
    """The bytes as they are; a stream of text without a buffer gets them decoded."""
    sys.stdout.flush()
    if hasattr(sys.stdout, "buffer"):
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    else:
        sys.stdout.write(content.decode("utf-8", "replace"))
