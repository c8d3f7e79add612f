"""What every grader needs: the expected answers of a row, and the words of a reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from finetooth.types import Example, Score

Grader = Callable[[Example, str], Score]
SHOWN = 5  # missing or unexpected items that a reason lists


def expected_answers(example: Example) -> list[str]:
    """The expected answers of a row, any of which is right."""
    return [answer.text for answer in example.answers if answer.role in ("target", "chosen", "reference")]


def no_expected_answer() -> Score:
    """The score of a row without an expected answer, which is an error."""
    return Score(None, error="the row has no expected answer")


def difference(missing: Sequence[str], wrong: Sequence[str], wrong_name: str) -> str:
    """The missing and the wrong items of an answer as a reason, at most five of each."""
    parts = []
    for name, items in (("missing", missing), (wrong_name, wrong)):
        if items:
            more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
            parts.append(f"{name}: {', '.join(items[:SHOWN])}{more}")
    return "; ".join(parts)
