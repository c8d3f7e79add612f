"""COPRO, an optimiser of instructions from DSPy (Khattab et al. 2023, arXiv:2310.03714): the extra `dspy`.

It lets a model write several instructions at a time, knowing the scores of those before. DSPy sees a program
whose answers are the graded answers of a bench, so that rows, budget and calibration stay the search's. What
the model reads is instructions and their scores, and no row.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from types import SimpleNamespace
from typing import Any

from finetooth.errors import ConfigError
from finetooth.evaluation.prompting.optimizer import Bench, BudgetSpent
from finetooth.evaluation.prompting.trials import RowResult

BREADTH, DEPTH = 5, 4  # instructions of a round, and rounds, whatever the budget


class Copro:
    """The optimiser COPRO. reflect: asks the model that writes instructions."""

    def __init__(self, reflect: Callable[[str], str]) -> None:
        self._reflect = reflect
        self._failure: Exception | None = None

    def __call__(self, bench: Bench) -> None:
        """Propose instructions until the budget is spent, all rounds are over, or none can be read any more.

        Raises what `reflect` or the bench raises, and ConfigError where no instruction can be read at all.
        """
        # litellm, which DSPy brings, would fetch a list of prices from an address that nobody has named.
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        import dspy

        spent, known = False, dict[str, Sequence[RowResult]]()
        program = dspy.Predict(dspy.Signature("question -> answer", bench.start or None))
        # DSPy has one of its own for "", and strips every instruction that it tries.
        first = program.signature.instructions.strip('"').strip()

        failed = self._failed

        class Asked(dspy.Module):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.program = program

            def forward(self, row: int) -> Any:
                nonlocal spent
                text = self.program.signature.instructions
                try:
                    if text not in known:  # all rows at once: they share their prompt
                        known[text] = bench(bench.start if text == first else text, bench.rows)
                except BudgetSpent:
                    spent = True
                    raise
                except Exception as error:
                    raise failed(error) from None
                return dspy.Prediction(score=known[text][bench.rows.index(row)].score)

        rows = [dspy.Example(row=row).with_inputs("row") for row in bench.rows]
        copro = dspy.COPRO(
            prompt_model=self._language_model(dspy),
            metric=lambda row, answer, trace=None: answer.score,
            breadth=BREADTH,
            depth=DEPTH,
        )
        settings = {"num_threads": 1, "display_progress": False}
        try:
            with _quiet(), dspy.context(max_errors=1, provide_traceback=False, disable_history=True):
                copro.compile(Asked(), trainset=rows, eval_kwargs=settings)
        except Exception as error:  # DSPy has its own for errors in a program
            if self._failure is not None:
                raise self._failure from None
            if not (spent or bench.finished):
                raise ConfigError(
                    f"--with dspy: the model wrote no instruction that can be read: {error}"
                ) from error

    def _failed(self, error: Exception) -> Exception:
        """Keep an error that is not DSPy's, which would swallow it."""
        self._failure = self._failure or error
        return error

    def _language_model(self, dspy: Any) -> Any:
        def ask(messages: Sequence[dict[str, str]]) -> str:
            try:
                return self._reflect("\n\n".join(message["content"] for message in messages))
            except Exception as error:
                raise self._failed(error) from None

        class Reflecting(dspy.BaseLM):  # type: ignore[misc]
            def forward(self, prompt: str | None = None, messages: Any = None, **options: Any) -> Any:
                asked = messages or [{"role": "user", "content": prompt or ""}]
                texts = [ask(asked) for _ in range(options.get("n") or 1)]
                choices = [
                    SimpleNamespace(message=SimpleNamespace(content=text), finish_reason="stop")
                    for text in texts
                ]
                return SimpleNamespace(choices=choices, usage={}, model=self.model)

        return Reflecting(model="reflection")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without DSPy's log and what it prints: the search has a progress bar, and its errors are raised."""
    log = logging.getLogger("dspy")
    before = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        log.setLevel(before)
