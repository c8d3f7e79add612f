"""`finetooth compare RUN RUN...`: the scores of runs, which tuned model is better, and how settings differ.

Runs are compared on the rows that they share, with the same id and content: validation rows, or rows of the
sealed test where every run has already opened it. Nothing is evaluated again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.text import Text

from finetooth.config.values import first_few
from finetooth.errors import ConfigError, FinetoothError
from finetooth.evaluation import form
from finetooth.evaluation.prompts import ZERO_SHOT
from finetooth.evaluation.recipes import MODELS_ONLY, compared_words
from finetooth.evaluation.statistics import ALPHA, MIN_ROWS, holm
from finetooth.evaluation.summary import BAG_OF_WORDS, MAJORITY, TUNED
from finetooth.evaluation.verdict_words import percent, points
from finetooth.report import compare_page, html
from finetooth.report.compare_table import scores_table, settings_table
from finetooth.report.terminal import COLOURS
from finetooth.rundir import read_json, read_jsonl
from finetooth.runs import next_steps, workspace
from finetooth.runs.paired import RunScores, differences, paired, read_scores

ORDER = (MAJORITY, BAG_OF_WORDS, ZERO_SHOT)  # then the others in their order, the tuned model last


@dataclass(frozen=True, slots=True)
class CompareReport:
    """The runs in the order given; comparisons of every later run with the first one.

    others: evaluated runs beside these on the same rows, from which these may have been chosen.
    """

    split: str
    runs: list[dict[str, Any]]
    comparisons: list[dict[str, Any]]
    differences: dict[str, list[Any]]
    others: list[str] = field(default_factory=list)
    page: Path | None = None
    ok: bool = True

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return {
            "split": self.split,
            "runs": self.runs,
            "comparisons": self.comparisons,
            "differences": self.differences,
            "other_runs": self.others,
            "adjusted_for": self.adjustment,
            "claim": self.claim,
            "report": None if self.page is None else str(self.page),
        }

    def print(self, console: Console) -> None:
        """Scores, comparisons in words, and the settings that differ."""
        console.print(Group(scores_table(self.split, self.runs, self.candidate_names()), Text()))
        for comparison in self.comparisons:
            text = comparison["words"]
            words = Text(text)
            words.stylize(COLOURS[comparison["verdict"]], 0, text.find(":") + 1)
            console.print(words)
        for line in filter(None, (self.adjustment, self.claim)):
            console.print(line, style="dim")
        if self.split == "test":
            console.print("A sealed test that was used to choose among runs is spent: use a new one next.")
        console.print()
        console.print(settings_table([each["run"] for each in self.runs], self.differences))
        if self.page is not None:
            console.print(f"\nReport: {self.page}", highlight=False, markup=False, soft_wrap=True)

    @property
    def claim(self) -> str:
        """What the comparisons are about where no recipe has several seeds; "" where one is compared."""
        return "" if any(pair.get("recipe") for pair in self.comparisons) else MODELS_ONLY

    @property
    def adjustment(self) -> str:
        """What the p values are adjusted for, in words; "" for one comparison of the only two runs."""
        count, others = len(self.comparisons), len(self.others)
        if count + others < 2:
            return ""
        words = f"p values are adjusted for {count + others} comparisons (Holm)"
        if not others:
            return f"{words}."
        beside = "another run" if others == 1 else f"{others} other runs"
        return (
            f"{words}: {count} made here, and those with {beside} in the same folder that answered these "
            f"rows ({first_few(self.others, 3)}), since the best of several runs looks better than it is."
        )

    def candidate_names(self) -> list[str]:
        """All candidates of all runs: baselines first, the tuned model last."""
        found = [entry["name"] for each in self.runs for entry in each["candidates"]]
        known = [name for name in ORDER if name in found]
        return [*dict.fromkeys([*known, *(name for name in found if name != TUNED), TUNED])]


def run(paths: Sequence[Path], sealed: bool, page: Path | None = None) -> CompareReport:
    """Compare the tuned models of evaluated runs, every later one with the first.

    p values are adjusted for the comparisons made, and for those that could have been: with every other run
    in the same folders that answered these rows (validation: any, test: those that opened it).

    page: a file for the result as a page, which is replaced only if it is such a page.

    Raises ConfigError for a run that was not evaluated, or has not opened its sealed test; GradeError where
    two runs share no row.
    """
    if len({path.resolve() for path in paths}) < len(paths) or len(paths) < 2:
        raise ConfigError("compare takes two or more different runs: finetooth compare RUN RUN")
    split = "test" if sealed else "validation"
    missing = [path for path in paths if not (path / "evaluate" / split / "summary.json").is_file()]
    if missing:
        flag = " --sealed" if sealed else ""
        todo = []
        for path in missing:
            trained = workspace.trained_path(path) is not None
            todo += [] if trained else [f"  {next_steps.of_run(path)}"]
            todo.append(f"  finetooth evaluate {path}{flag}")
        problem = "The sealed test was not opened" if sealed else "Not evaluated yet"
        raise ConfigError("\n".join([f"{problem} in {', '.join(map(str, missing))}. First:", *todo]))
    runs = [read_scores(path, split) for path in paths]
    pairs = [paired(runs[0], other) for other in runs[1:]]
    others = _others(paths, runs[0])
    _adjust(pairs, len(others))
    listed = [{"run": str(each.path), **each.summary} for each in runs]
    report = CompareReport(split, listed, pairs, differences([each.settings for each in runs]), others, page)
    if page is not None:
        html.write_page(page, compare_page.render(report.to_json(), report.candidate_names()))
    return report


def _others(paths: Sequence[Path], first: RunScores) -> list[str]:
    """The other runs in the folders of these that answered rows of the first one, under the same grader."""
    found, given = [], {path.resolve() for path in paths}
    split, grader = first.summary["split"], first.summary["grader"]
    for folder in sorted({path.parent for path in given}):
        for file in sorted(folder.glob(f"*/evaluate/{split}/summary.json")):
            path = file.parents[2]
            if path in given:
                continue
            with suppress(FinetoothError, OSError, ValueError, KeyError, TypeError):  # damaged: not a choice
                records = read_jsonl(file.with_name("records.jsonl"))
                ids = {line["id"] for line in records if line["candidate"] == TUNED}
                if read_json(file)["grader"] == grader and len(ids & first.score_I.keys()) >= MIN_ROWS:
                    found.append(path.name)
    return found


def _adjust(pairs: list[dict[str, Any]], others: int = 0) -> None:
    """Adjust for multiple comparisons (Holm 1979): `p_adjusted` decides beside `p`; then add the words.

    others: comparisons that were not made, and count as if their p values were larger than all of these. So
    the error rate holds also where these were chosen for being the best.
    """
    for tests in (pairs, [pair["recipe"] for pair in pairs if pair.get("recipe")]):
        for one, adjusted in zip(tests, holm([float(one["p"]) for one in tests], others), strict=True):
            one["p_adjusted"] = adjusted
            if adjusted >= ALPHA:
                one |= {"verdict": "not proven"} | (
                    {"strict_verdict": "not proven"} if "lenient" in one else {}
                )
    for pair in pairs:
        pair["words"] = _words(pair, adjusted=len(pairs) + others > 1)


def _words(pair: Mapping[str, Any], adjusted: bool) -> str:
    base, other = map(percent, pair["scores"])
    p = "p < 0.001" if pair["p_adjusted"] < 0.001 else f"p = {pair['p_adjusted']:.3f}"
    p = f"adjusted {p}" if adjusted else p
    words = (
        f"{pair['verdict'].capitalize()}: {pair['candidate']} scores {other}, {pair['baseline']} {base} on "
        f"the {pair['n']:,} rows that they share; the paired difference is {points(pair['difference'])} "
        f"points, 95% confidence interval {points(pair['low'])} to {points(pair['high'])} ({p})."
    )
    if again := pair.get("asked_again"):
        words += (
            f" It scores higher on {pair['gained']:,} rows and lower on {pair['lost']:,}; asked again, "
            f"{again['changed']} of {again['rows']} answers changed."
        )
    if pair["units"] < MIN_ROWS:
        unit = "rows" if pair["units"] == pair["n"] else "clusters of rows"
        words += f" These are too few {unit} for a verdict, which needs {MIN_ROWS}."
    elif form.by_form_alone(pair):
        words += f" The gain is in form, not content. {form.remaining(pair)}"
    elif pair["verdict"] == "not proven":
        words += f" The test has 80% power to detect a true difference of {100 * pair['mde']:.1f} points."
    if pair["verdict"] != "not proven" and (remaining := form.remaining(pair)):
        words += f" {remaining}"
    if pair.get("recipe"):
        words += f" {compared_words(pair['recipe'], adjusted)}"
    names = {
        "only_in_baseline": f"only in {pair['baseline']}",
        "only_in_candidate": f"only in {pair['candidate']}",
        "other_content": "with the same id and different content",
        "not_graded": "on which a grader failed, so nothing is proven",
    }
    left = [f"{count:,} {names[key]}" for key, count in pair["left_out"].items() if count]
    return f"{words} Rows left out: {'; '.join(left)}." if left else words
