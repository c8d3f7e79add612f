"""`finetooth report RUN|FOLDER`: the result of a run, or of all runs in a folder, as a page and a table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from finetooth.errors import ConfigError
from finetooth.evaluation import ledger
from finetooth.evaluation.verdict_words import percent
from finetooth.report import evaluation_page, html, markdown, model_card
from finetooth.report.evidence import Evidence
from finetooth.report.overview_page import overview
from finetooth.report.run_page import first_page, page_context
from finetooth.report.terminal import COLOURS, terminal_table
from finetooth.rundir import read_json, write_text
from finetooth.runs import inputs, next_steps, workspace


@dataclass(frozen=True, slots=True)
class Report:
    """The path of the page, and the summary it shows; None before the run was evaluated.

    note: what a reader should know before the result.
    """

    path: Path
    summary: dict[str, Any] | None
    note: str = ""
    ok: bool = True

    def to_json(self) -> dict[str, Any]:
        """The page's path and the summary of the contract."""
        return {"report": str(self.path), **(self.summary or {})}

    def print(self, console: Console) -> None:
        """The score table and the verdict, and the path of the page."""
        if self.note:
            console.print(self.note, style="dim", highlight=False, markup=False, soft_wrap=True)
        if self.summary is not None:
            console.print(terminal_table(self.summary))
        else:
            told = f"Not evaluated yet. Next: {next_steps.of_run(self.path.parent)}"
            console.print(told, highlight=False, markup=False, soft_wrap=True)
        console.print(f"\nReport: {self.path}", highlight=False, markup=False, soft_wrap=True)


def of_evaluation(run_path: Path, name: str) -> Report:
    """The result of an evaluation beside the run's own, evaluate/NAME, with a page there.

    ConfigError where there is none.
    """
    summary = run_path / "evaluate" / name / "summary.json"
    if not summary.is_file():
        found = sorted(file.parent.name for file in run_path.glob("evaluate/*/summary.json"))
        raise ConfigError(f"{run_path} has no evaluation {name!r}. It has: {', '.join(found) or 'none'}.")
    ledger.require_unchanged(run_path, name)
    page = summary.with_name("report.html")
    if name in ("validation", "test"):
        raise ConfigError(f"{name} is the run's own result. To see it: finetooth report {run_path}")
    write_text(page, html.render("evaluation.html.jinja", evaluation_page.page_context(run_path, name)))
    return Report(page, read_json(summary))


@dataclass(frozen=True, slots=True)
class TextReport:
    """The result as Markdown. path: of the file that it was written to, None where it is to be printed."""

    text: str
    path: Path | None
    ok: bool = True

    def to_json(self) -> dict[str, Any]:
        """The path, or the text where there is none."""
        return {"markdown": self.text} if self.path is None else {"report": str(self.path)}

    def print(self, console: Console) -> None:
        """The text, or the path of the file."""
        shown = self.text.rstrip("\n") if self.path is None else f"Report: {self.path}"
        console.print(shown, highlight=False, markup=False, emoji=False, soft_wrap=True)


def as_markdown(run_path: Path, out: Path | None) -> TextReport:
    """The first page as Markdown. out: a file for it, which is replaced. ConfigError before an evaluation."""
    evidence = _evaluated(run_path)
    page = first_page(evidence, _changed_inputs(run_path), next_steps.again(run_path))
    text = markdown.markdown(page)
    if out is not None:
        write_text(out, text)
    return TextReport(text, out)


def as_model_card(run_path: Path, out: Path | None) -> TextReport:
    """The model card, written as README.md beside the tuned weights, or to `out`.

    ConfigError before an evaluation, for weights that were trained elsewhere without `out`, and for a file
    there that is no card of ours.
    """
    evidence = _evaluated(run_path)
    trained = workspace.trained_path(run_path)
    if trained is None:
        raise workspace.not_trained(run_path)
    if out is None and evidence.config.get("tuned"):
        raise ConfigError(f"{trained} was trained elsewhere. To write its model card: --out FILE")
    path = trained / "README.md" if out is None else out
    text = model_card.model_card(first_page(evidence), evidence, workspace.is_adapter(trained))
    model_card.write_card(path, text)
    return TextReport(text, path)


def _evaluated(run_path: Path) -> Evidence:
    ledger.require_unchanged(run_path)
    evidence = Evidence.read(run_path)
    if evidence.summary is None:
        raise ConfigError(f"{run_path} is not evaluated yet. First: {next_steps.of_run(run_path)}")
    return evidence


def _changed_inputs(run_path: Path) -> list[str]:
    changed = inputs.changed_since(run_path)
    return [f"{one.file} has changed since this run: the result is of what it was then." for one in changed]


def run(run_path: Path) -> Report:
    """Write report.html from the run directory's present contents; sealed test rows are never read."""
    unknown = ledger.require_unchanged(run_path)
    page = run_path / "report.html"
    notes = _changed_inputs(run_path)
    context = page_context(run_path, notes, next_steps.again(run_path))
    write_text(page, html.render("report.html.jinja", context))
    summary = run_path / "evaluate" / "summary.json"
    if unknown:
        notes.append(
            f"the results on {' and '.join(unknown)} are of an older version, which kept no digests: whether "
            "they were edited is not known."
        )
    shown = "\n".join(f"note: {note}" for note in notes)
    return Report(page, read_json(summary) if summary.is_file() else None, shown)


@dataclass(frozen=True, slots=True)
class OverviewReport:
    """The runs of a folder. path: of the page. contents: as of `overview`."""

    path: Path
    contents: dict[str, Any]
    ok: bool = True

    def to_json(self) -> dict[str, Any]:
        """The page's path, and the runs by the rows that they were measured on."""
        tables = [
            {**table, "runs": [{key: run[key] for key in run if key != "bar"} for run in table["runs"]]}
            for table in self.contents["tables"]
        ]
        return {"report": str(self.path), "tables": tables, "others": self.contents["others"]}

    def print(self, console: Console) -> None:
        """A table for each set of rows, then the runs without a result."""
        for page in self.contents["tables"]:
            where = "the sealed test" if page["split"] == "test" else "the validation rows"
            title = f"{page['n']:,} rows of {where} (digest {page['rows']}), graded by {page['grader']}"
            table = Table(title=Text(title, "bold"), title_justify="left", box=None, padding=(0, 2, 0, 0))
            for name in ("run", "model", "method", "score", "95% CI", "verdict", "date"):
                table.add_column(name, justify="right" if name in ("score", "95% CI") else "left")
            for run in page["runs"]:
                score, bounds = "–", "–"
                if run["score"] is not None:
                    score, bounds = percent(run["score"]), f"{percent(run['low'])} – {percent(run['high'])}"
                verdict = Text(run["verdict"], COLOURS.get(run["verdict"], ""))
                named = map(Text, (run["name"], run["model"], run["method"], score, bounds))
                table.add_row(*named, verdict, Text(run["date"]))
            console.print(table)
            console.print()
        for run in self.contents["others"]:
            told = run["problem"] or f"no result yet. Next: {run['next']}"
            console.print(f"{run['path']}: {told}", highlight=False, markup=False, soft_wrap=True)
        if len(self.contents["tables"]) > 1:
            console.print(
                "Scores of different tables are of different rows, and cannot be compared.", style="dim"
            )
        console.print(f"\nReport: {self.path}", highlight=False, markup=False, soft_wrap=True)


def run_overview(folder: Path) -> OverviewReport:
    """Write FOLDER/report.html, an overview of the runs in it. ConfigError for a file of the user's there."""
    page = folder / "report.html"
    contents = overview(folder)
    html.write_page(page, html.render("overview.html.jinja", contents))
    return OverviewReport(page, contents)
