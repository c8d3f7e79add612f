"""Which base model for this data: what each candidate did on a sample of rows, and advice in a sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from finetooth.config.task import EMBEDDED
from finetooth.config.values import format_count
from finetooth.evaluation.bits_per_byte import Bits, per_byte
from finetooth.evaluation.statistics import MIN_ROWS
from finetooth.evaluation.summary import BAG_OF_WORDS, MAJORITY
from finetooth.evaluation.verdict_words import percent

if TYPE_CHECKING:
    from rich.console import Console

GIB = 1 << 30
MOSTLY_DONE = 0.9  # a bag of words whose interval lies above it does most of the task


@dataclass(frozen=True, slots=True)
class BaseResult:
    """One base model, untrained, asked as `zero-shot`. bits: per byte of the expected answers.

    bits_R: of each row of the sample, NaN where it could not be asked. rows: how many could. score: as in
    summary.json. seconds: for each answer. memory: bytes that its
    training takes; fits: whether there are so many. context: in tokens.
    """

    name: str
    bits: Bits
    score: Mapping[str, Any]
    rows: int
    seconds: float
    parameters: int
    memory: int
    fits: bool
    context: int
    licence: str
    notes: Sequence[str]
    bits_R: np.ndarray = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """The numbers as plain JSON values; a bound that is not known is null."""
        names = ("name", "rows", "seconds", "parameters", "memory", "fits", "context", "licence")
        low, high = (bound if math.isfinite(bound) else None for bound in (self.bits.low, self.bits.high))
        return {
            **{name: getattr(self, name) for name in names},
            "bits_per_byte": {"value": self.bits.value, "low": low, "high": high},
            "score": dict(self.score),
            "notes": list(self.notes),
        }

    @property
    def bits_words(self) -> tuple[str, str]:
        """Bits per byte and their interval, for tables."""
        known = math.isfinite(self.bits.high)
        interval = f"{max(0.0, self.bits.low):.2f} – {self.bits.high:.2f}" if known else "–"
        return f"{self.bits.value:.2f}", interval

    @property
    def score_words(self) -> tuple[str, str]:
        """The score and its interval, for tables."""
        if self.score["score"] is None:
            return "–", "–"
        return percent(self.score["score"]), f"{percent(self.score['low'])} – {percent(self.score['high'])}"

    @property
    def cost_words(self) -> tuple[str, str, str, str]:
        """Seconds for each answer, memory, context and licence, for tables."""
        memory = f"{self.memory / GIB:.1f} GiB{'' if self.fits else ', too much'}"
        return f"{self.seconds:.3g}", memory, f"{self.context:,}", self.licence or "not known"


@dataclass(frozen=True, slots=True)
class BaseRanking:
    """The candidates in the order of their bits per byte, the fewest first.

    rows: of the sample, in validation and in training rows, whose ids are `ids`. fitted: training rows of the
    baselines, which are entries of summary.json. failed: candidates without a result -> why. method: of
    training, of which the memory is told. chosen, advice: the base to start from, and why.
    """

    name: str
    source: str
    grader: str
    rows: Mapping[str, int]
    ids: Sequence[str]
    results: Sequence[BaseResult]
    failed: Mapping[str, str]
    baselines: Sequence[Mapping[str, Any]]
    fitted: int
    method: str
    chosen: str | None = None
    advice: str = ""
    page: Path | None = None

    @property
    def ok(self) -> bool:
        """Whether there is a base to start from."""
        return bool(self.results)

    def advised(self, bytes_R: np.ndarray, groups: Sequence[str] | None) -> BaseRanking:
        """The same in order, with advice. bytes_R, groups: of the sample's rows."""
        results = sorted(self.results, key=lambda result: result.bits.value)
        chosen, words = advise(results, bytes_R, groups)
        return replace(self, results=results, chosen=chosen, advice=words)

    @property
    def sample(self) -> str:
        """The sample in words."""
        parts = [f"{count:,} {side}" for side, count in self.rows.items() if count]
        return f"{' and '.join(parts)} rows, none of the sealed test"

    @property
    def baseline_words(self) -> str:
        """Whether a bag of words does the task already; "" for tasks without labels."""
        by_name = {entry["name"]: entry for entry in self.baselines}
        if BAG_OF_WORDS not in by_name:
            return ""
        words, most = by_name[BAG_OF_WORDS], by_name[MAJORITY]
        found = (
            f"A bag of words with logistic regression, fitted to {format_count(self.fitted, 'training row')} "
            f"outside the sample, scores {percent(words['score'])} on it (95% confidence interval "
            f"{percent(words['low'])} to {percent(words['high'])}): "
        )
        if words["low"] >= MOSTLY_DONE:
            return f"{found}it does most of this task already, and is far cheaper."
        if words["low"] <= most["score"]:
            return f"{found}not proven better than always the most frequent label ({percent(most['score'])})."
        return f"{found}a tuned model has to beat that."

    def to_json(self) -> dict[str, Any]:
        """The ranking as plain JSON values."""
        return {
            "rows": dict(self.rows),
            "ids": list(self.ids),
            "grader": self.grader,
            "models": [result.to_json() for result in self.results],
            "failed": [{"name": name, "reason": reason} for name, reason in self.failed.items()],
            "baselines": [dict(entry) for entry in self.baselines],
            "chosen": self.chosen,
            "advice": self.advice,
            "baseline": self.baseline_words,
            "page": None if self.page is None else str(self.page),
        }

    def print(self, console: Console) -> None:
        """Quality and cost as two tables, what could not be measured, and the advice."""
        from rich.table import Table
        from rich.text import Text

        quality = ("model", "bits per byte", "95% CI", f"zero-shot {self.grader}", "95% CI")
        cost = ("model", "s per answer", f"memory ({self.method})", "context", "licence")
        for headings, cells in (
            (quality, [(one.name, *one.bits_words, *one.score_words) for one in self.results]),
            (cost, [(one.name, *one.cost_words) for one in self.results]),
        ):
            table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
            for heading in headings:
                table.add_column(heading, justify="left" if heading in ("model", "licence") else "right")
            for row in cells:
                table.add_row(*map(Text, row), style="bold" if row[0] == self.chosen else None)
            if cells:
                console.print(table)
                console.print()
        for line in self.notes:
            console.print(line, style="dim", markup=False, highlight=False, soft_wrap=True)
        for text in filter(None, (self.advice, self.baseline_words)):
            console.print(text, markup=False, highlight=False)
        if self.page is not None:
            console.print(f"With a plot: {self.page}", markup=False, highlight=False, soft_wrap=True)

    @property
    def notes(self) -> list[str]:
        """What a reader of the numbers should know: the sample, candidates that failed, rows left out."""
        lines = [f"On {self.sample}. Fewer bits per byte of the expected answers are better."]
        lines += [f"{one.name}: {note}" for one in self.results for note in one.notes]
        return [*lines, *(f"{name} is left out: {reason}" for name, reason in self.failed.items())]


def advise(
    results: Sequence[BaseResult], bytes_R: np.ndarray, groups: Sequence[str] | None
) -> tuple[str | None, str]:
    """The base to start from, and why. results: the fewest bits per byte first.

    Of those that fit into memory: the one with the fewest bits per byte, or a faster one that is not proven
    to need more; the embedded model only where there is no other, since it learns far less.
    """
    if not results:
        return None, "No candidate could be measured."
    fitting = [result for result in results if result.fits]
    if not fitting:
        return None, (
            f"Training none of these fits into the memory here; {results[0].name} needs the fewest bits per "
            "byte."
        )
    embedded = fitting[0] if fitting[0].name in EMBEDDED else None
    fitting = [one for one in fitting if one.name not in EMBEDDED] or fitting
    best = fitting[0]
    others = [one for one in fitting[1:] if not np.isnan(one.bits_R - best.bits_R).all()]
    more = {one.name: per_byte(one.bits_R - best.bits_R, bytes_R, groups) for one in others}
    chosen = min((best, *(one for one in others if more[one.name].low <= 0)), key=lambda one: one.seconds)
    larger = [one.name for one in fitting if one.parameters > 2 * chosen.parameters]
    # SmolLM2-135M needs more bits than milktooth on support triage before training, and learns it far better
    start = "Before training, the best is" if larger else "Start from"
    if chosen is not best:
        words = (
            f"{start} {chosen.name}: {best.name} is not proven to need fewer bits per byte "
            f"({_more(more[chosen.name])}), and takes {best.seconds / chosen.seconds:.1f} times as long for "
            "an answer."
        )
    elif others:
        words = (
            f"{start} {best.name}: it needs the fewest bits per byte of your answers. The next, "
            f"{others[0].name}, needs {_more(more[others[0].name])} more."
        )
    else:
        words = f"{start} {best.name}: no other could be compared with it and fits into the memory here."
    if embedded is not None and embedded is not best:
        words += f" {embedded.name} needs fewer before training, but is too small to learn much."
    if results[0] is not best and not results[0].fits:
        words += f" {results[0].name} needs fewer, but its training does not fit into the memory here."
    if larger:
        words += (
            f" But {' and '.join(larger)}, far larger, may learn more in training, which this does not "
            "measure: train both before you decide."
        )
    if best.rows < MIN_ROWS:
        words += f" With {best.rows} rows this is a weak comparison."
    return chosen.name, words


def _more(bits: Bits) -> str:
    if not math.isfinite(bits.high):
        return f"{bits.value:.2f}"
    return f"{bits.value:.2f} (95% confidence interval {bits.low:.2f} to {bits.high:.2f})"
