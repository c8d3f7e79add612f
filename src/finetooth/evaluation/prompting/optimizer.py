"""Optimisers of instructions: what they may ask, and GEPA; copro.py has DSPy's.

An optimiser writes instructions for the best prompt that a search has found so far, and reads the graded
answers of selection rows. An instruction that all of these rows have answered is a candidate of the search;
the confirmation rows are never shown.

GEPA (Agrawal et al. 2025, arXiv:2507.19457) lets a model reflect on answers and their feedback. It comes from
the package `gepa`, an extra.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from finetooth.errors import ConfigError, GradeError
from finetooth.evaluation.prompting.demonstrations import question_text
from finetooth.evaluation.prompting.trials import RowResult
from finetooth.types import Example

MINIBATCH = 6  # rows whose answers one reflection reads
REFLECTIONS = 20  # at most, whatever the budget
SHOWN = 1_500  # characters of a text that is shown to the reflection model
RIGHT = 0.999  # a score that leaves nothing to explain
PART = "instruction"  # of a candidate, as GEPA names it


class BudgetSpent(Exception):
    """The optimiser asked for more answers than it may have."""


@dataclass
class Bench:
    """Where an optimiser tries instructions: answers to selection rows, within a budget.

    start: the instruction to improve, whose answers to all rows are known. rows: the selection rows. budget:
    how many answers may be asked for; the same again are free.
    """

    start: str
    rows: Sequence[int]
    budget: int
    _ask: Callable[[str, Sequence[int]], Sequence[RowResult]]
    _answered: dict[str, set[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._answered[self.start] = {*self.rows}

    def __call__(self, instruction: str, rows: Sequence[int]) -> Sequence[RowResult]:
        """The graded answers of these rows under the instruction; wrong where it does not fit into the model.

        Raises BudgetSpent before the first answer too many.
        """
        if not {*rows} <= {*self.rows}:
            raise ValueError("only selection rows may be asked")
        known = self._answered.setdefault(instruction, set())
        if len({*rows} - known) > self.left:
            raise BudgetSpent
        try:
            results = self._ask(instruction, rows)
        except GradeError:
            if instruction == self.start:
                raise
            return [RowResult(0.0) for _ in rows]
        known |= {*rows}
        return results

    @property
    def asked(self) -> int:
        """Answers so far."""
        return sum(map(len, self._answered.values())) - len(self.rows)

    @property
    def left(self) -> int:
        """Answers that may still be asked for."""
        return self.budget - self.asked

    @property
    def finished(self) -> list[str]:
        """The instructions that all rows have answered, in the order in which they were proposed."""
        return [text for text, rows in self._answered.items() if text != self.start and rows == {*self.rows}]


Optimizer = Callable[[Bench], None]


def require_package(name: str) -> None:
    """Raise ConfigError where an optimiser's package is not installed."""
    if find_spec(name) is None:
        raise ConfigError(f"--with {name}: the package is not installed: pip install 'finetooth[{name}]'")


@dataclass
class Gepa:
    """The optimiser GEPA. examples: by the bench's row numbers. reflect: asks the reflection model."""

    examples: Sequence[Example]
    reflect: Callable[[str], str]
    seed: int
    reflections: int = field(default=0, init=False)
    _failure: Exception | None = field(default=None, init=False)

    def __call__(self, bench: Bench) -> None:
        """Propose instructions until the budget does not cover another. Raises what `reflect` raises."""
        import gepa

        rows = [*bench.rows]
        size = min(MINIBATCH, len(rows))

        def done(state: Any) -> bool:  # an iteration may ask a minibatch, then all other rows
            spent = bench.left < len(rows) or self.reflections >= REFLECTIONS
            return spent or self._failure is not None

        gepa.optimize(
            seed_candidate={PART: bench.start},
            trainset=rows,
            valset=rows,
            adapter=_Adapter(bench, self.examples),
            reflection_lm=self._reflect,
            reflection_minibatch_size=size,
            stop_callbacks=done,
            # its own count also has answers that are known: it ends a search that asks for no others
            max_metric_calls=len(rows) + 2 * REFLECTIONS * size + bench.budget,
            logger=_Quiet(),
            seed=self.seed,
        )
        if self._failure is not None:
            raise self._failure

    def _reflect(self, prompt: str) -> str:
        if self._failure is not None:  # GEPA goes on after errors
            raise self._failure
        self.reflections += 1
        try:
            return self.reflect(prompt)
        except Exception as error:
            self._failure = error
            raise


class _Adapter:
    """What GEPA calls: answers of an instruction, and what the reflection model reads of them."""

    propose_new_texts = None

    def __init__(self, bench: Bench, examples: Sequence[Example]) -> None:
        self._bench, self._examples = bench, examples

    def evaluate(self, batch: list[int], candidate: Mapping[str, str], capture_traces: bool = False) -> Any:
        from gepa.core.adapter import EvaluationBatch

        results = self._bench(candidate[PART], batch)
        traces = [*zip(batch, results, strict=True)] if capture_traces else None
        scores = [one.score for one in results]
        return EvaluationBatch([one.text for one in results], scores, traces)

    def make_reflective_dataset(
        self, candidate: Mapping[str, str], batch: Any, parts: list[str]
    ) -> dict[str, list[dict[str, str]]]:
        return {PART: [self._record(*trace) for trace in batch.trajectories]}

    def _record(self, row: int, result: RowResult) -> dict[str, str]:
        expected = self._examples[row].target.strip()[:SHOWN]
        wrong = f"This scores {result.score:.2g} of 1. The expected answer is: {expected}"
        return {
            "Inputs": question_text(self._examples[row])[:SHOWN],
            "Generated Outputs": result.text[:SHOWN],
            "Feedback": "This is right." if result.score >= RIGHT else wrong,
        }


class _Quiet:
    def log(self, message: str) -> None:
        """Nothing: the search has a progress bar."""
