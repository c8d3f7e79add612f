"""`finetooth check`: what is in the data, what would be trained on, and whether the gates let it through.

Nothing is written unless a directory is given, and neither torch nor transformers is imported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetooth.config import EMBEDDED, Task
from finetooth.data.locate import context_length, model_directory
from finetooth.data.overlong import row_limit
from finetooth.data.prepare import Assembled, assemble
from finetooth.data.render import Renderer
from finetooth.data.show import VISIBLE, row_text
from finetooth.data.survey import Sample, Survey, embedded_tokens, plain_samples, survey
from finetooth.data.tokens import Tokenizer
from finetooth.errors import ModelError
from finetooth.evaluation import graders
from finetooth.rundir import write_json, write_jsonl
from finetooth.values import source_name

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

SHOWN_LABELS = 20
SHOWN_ROWS = 5


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What `check` found. problems: what a gate says no to; labels: label -> rows per side."""

    source: str
    data: Assembled
    tokens: Survey | None
    labels: dict[str, dict[str, int]]
    problems: list[str]
    notes: list[str]
    samples: list[Sample]

    @property
    def ok(self) -> bool:
        """Whether the data is fit to train on."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return {
            "ok": self.ok,
            "source": self.source,
            "format": self.data.format,
            "rows": self.data.total,
            "sides": {side: len(rows) for side, rows in self.data.sides.items()},
            "rejected": [row.to_json() for row in self.data.rejected],
            "labels": self.labels,
            "tokens": _counts(self.tokens) if self.tokens else None,
            "samples": [sample.to_json() for sample in self.samples],
            "problems": self.problems,
            "notes": self.notes,
        }

    def print(self, console: Console) -> None:
        """Show the report to a person: tables first, then rows, the verdict last."""
        title = f"{self.source}: {self.data.total:,} rows, format {self.data.format}"
        console.print(_text(title, style="bold"))
        parts: list[RenderableType] = [_sides_table(self)]
        if self.tokens:
            parts.append(_tokens_table(self.tokens))
        if self.labels:
            parts.append(_labels_table(self.labels))
        parts += [row_text(sample) for sample in self.samples]
        parts.append(_verdict(self))
        for part in parts:
            console.print()
            console.print(part)


def run(config: Task, out: Path | None = None, tokenizer_dir: Path | None = None) -> CheckReport:
    """Check the data of a task; with `out`, also write data/check.json and data/rejected.jsonl there.

    tokenizer_dir: where the tokenizer is, when not with the task's model. Raises DataError where there is
    nothing to report on (no such file, no rows, an unknown format), GradeError for a grader that cannot be
    used, ModelError for a model that is not there.
    """
    data = assemble(config)
    refused, doubts = _grader_words(config, data)
    problems, notes = [*data.problems, *refused], [*data.notes, *doubts]
    tokens = _survey(config, data, tokenizer_dir, notes)
    if tokens:
        notes += tokens.notes
        problems += _token_problems(config, tokens, notes)
    report = CheckReport(
        source=source_name(config.data.train),
        data=data,
        tokens=tokens,
        labels=_labels(data),
        problems=problems,
        notes=notes,
        samples=tokens.samples if tokens else plain_samples(data.sides["train"]),
    )
    if out is not None:
        write_json(out / "data" / "check.json", report.to_json())
        if not (out / "data" / "split.json").is_file():
            write_jsonl(out / "data" / "rejected.jsonl", (row.to_json() for row in data.rejected))
    return report


def check_path(path: str | Path) -> CheckReport:
    """Check a data file with everything else at its default."""
    return run(Task.model_validate({"data": {"train": str(path)}}))


def _grader_words(config: Task, data: Assembled) -> list[list[str]]:
    """What `run` would refuse of the graders, and what is doubtful about them. GradeError."""
    if data.format in ("text", "unknown"):
        return [[], []]  # trained on without being graded
    kind = graders.kind(config.data.columns, data.format)
    found = graders.try_out(config.evaluate.grader, kind, data.sides["train"], Path.cwd())
    return [[f"evaluate.grader: {words}." for words in side] for side in found]


def _survey(config: Task, data: Assembled, tokenizer_dir: Path | None, notes: list[str]) -> Survey | None:
    """Token counts, or None with a note where there is no tokenizer or nothing to count."""
    if not data.sides["train"]:
        return None
    try:
        directory = tokenizer_dir or _directory(config.model)
    except ModelError as error:
        if config.model not in EMBEDDED:
            raise
        notes.append(f"No tokens counted: {error}")
        return None
    tokenizer = Tokenizer.load(directory)
    limit = row_limit(config.data.max_tokens, context_length(directory), tokenizer)
    renderer = Renderer(tokenizer, config.template, config.instruction)
    return survey(renderer, data.sides, limit, embedded_tokens(directory))


def _counts(tokens: Survey) -> dict[str, Any]:
    """The survey without its samples, which the report has itself."""
    return {name: value for name, value in asdict(replace(tokens, samples=[])).items() if name != "samples"}


def _directory(name: str) -> Path:
    """An adapter's directory brings the tokenizer along; else the model's own."""
    path = Path(name)
    adapter = name not in EMBEDDED and (path / "adapter_config.json").is_file()
    return path if adapter else model_directory(name, weights=False)


def _token_problems(config: Task, tokens: Survey, notes: list[str]) -> list[str]:
    """What the gates say about rendered rows; what is let through is noted."""
    problems: list[str] = []
    if tokens.unusable:
        reasons = "\n".join(f"  {reason}" for _, reason in tokens.unusable[:3])
        text = f"{len(tokens.unusable)} rows cannot be rendered and are set aside:\n{reasons}"
        (problems if tokens.stopped else notes).append(text)
    if tokens.unembedded:
        listed = ", ".join(map(repr, tokens.unembedded[:SHOWN_ROWS]))
        problems.append(
            f"The model has no embedding for {len(tokens.unembedded)} tokens of these rows: {listed}. They "
            "were added to the tokenizer alone. Use a template without them: `template: instruction`."
        )
    if tokens.overlong:
        listed = ", ".join(tokens.overlong[:SHOWN_ROWS])
        more = f" and {len(tokens.overlong) - SHOWN_ROWS} more" if len(tokens.overlong) > SHOWN_ROWS else ""
        text = f"{len(tokens.overlong)} rows are longer than {tokens.limit} tokens: {listed}{more}."
        if config.data.overlong == "raise":
            problems.append(f"{text} Set data.overlong: cut or drop, or a larger data.max_tokens.")
        elif config.data.overlong == "cut" and tokens.uncuttable:
            listed = ", ".join(tokens.uncuttable[:SHOWN_ROWS])
            text = f"{len(tokens.uncuttable)} rows do not fit {tokens.limit} tokens even without their"
            problems.append(
                f"{text} context: {listed}. Set data.overlong: drop, or a larger data.max_tokens."
            )
        else:
            notes.append(f"{text} data.overlong: {config.data.overlong}.")
    return problems


def _labels(data: Assembled) -> dict[str, dict[str, int]]:
    if data.format != "labels":
        return {}
    counts = {
        side: Counter(row.tags["label"] for row in rows if "label" in row.tags)
        for side, rows in data.sides.items()
    }
    everything: Counter[str] = sum(counts.values(), Counter())
    return {
        label: {side: counts[side][label] for side in counts}
        for label, _ in sorted(everything.items(), key=lambda item: (-item[1], item[0]))
    }


def _text(value: str, style: str = "") -> Text:
    """Text as a terminal may show it."""
    from rich.text import Text

    return Text(value.translate(VISIBLE), style=style)


def _table(title: Text, *columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column(columns[0])
    for column in columns[1:]:
        table.add_column(column, justify="right")
    return table


def _sides_table(report: CheckReport) -> Table:
    table = _table(_text("Rows"), "", "rows", "share")
    usable = max(sum(map(len, report.data.sides.values())), 1)
    for side, rows in report.data.sides.items():
        table.add_row(
            "test (sealed)" if side == "test" else side, f"{len(rows):,}", f"{len(rows) / usable:.0%}"
        )
    table.add_row("set aside", f"{len(report.data.rejected):,}", "")
    for reason, count in _reasons(report):
        table.add_row(_text(f"  {reason}"), f"{count:,}", "", style="dim")
    return table


def _reasons(report: CheckReport) -> Iterator[tuple[str, int]]:
    """Reasons of set-aside rows with their counts, each with the place of the first."""
    first: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for row in report.data.rejected:
        counts[row.reason] += 1
        first.setdefault(row.reason, f"{row.file}, line {row.line}")
    for reason, count in counts.most_common(SHOWN_ROWS):
        yield f"{first[reason]}: {reason}", count
    if len(counts) > SHOWN_ROWS:
        yield "other reasons", counts.total() - sum(count for _, count in counts.most_common(SHOWN_ROWS))


def _tokens_table(tokens: Survey) -> Table:

    limit = f", at most {tokens.limit:,} fit" if tokens.limit else ""
    title = f"Tokens (template: {tokens.template}, stop token {tokens.stop}{limit})"
    table = _table(_text(title), "per row", "median", "95%", "longest", "in all")
    context = tokens.row_tokens - tokens.scored_tokens
    for name, lengths, total in (
        ("context", tokens.context, context),
        ("scored: answer and stop token", tokens.scored, tokens.scored_tokens),
    ):
        table.add_row(name, f"{lengths.p50:,}", f"{lengths.p95:,}", f"{lengths.max:,}", f"{total:,}")
    table.add_row("rows too long", "", "", "", f"{len(tokens.overlong):,}")
    table.add_row("joined at the boundary", "", "", "", f"{tokens.boundary_merges:,}")
    return table


def _labels_table(labels: dict[str, dict[str, int]]) -> Table:
    sides = list(next(iter(labels.values())))
    more = f", the {SHOWN_LABELS} largest" if len(labels) > SHOWN_LABELS else ""
    table = _table(_text(f"Labels ({len(labels)}{more})"), "label", *sides)
    for label, counts in list(labels.items())[:SHOWN_LABELS]:
        table.add_row(_text(label), *(f"{counts[side]:,}" for side in sides))
    return table


def _verdict(report: CheckReport) -> Table:
    """Notes, then what the gates refuse, or that all is well."""
    from rich.table import Table

    grid = Table.grid(padding=(0, 2, 0, 0))
    for note in report.notes:
        grid.add_row(_text("note", style="yellow"), _text(note))
    for problem in report.problems:
        grid.add_row(_text("NO", style="bold red"), _text(problem))
    if report.ok:
        grid.add_row(_text("OK", style="bold green"), _text("The data is fit to train on."))
    return grid
