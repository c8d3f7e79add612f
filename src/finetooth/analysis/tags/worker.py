"""The worker's side of the user's tags: patterns and functions that could run for ever."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

from finetooth.data.watched import Answers
from finetooth.errors import GradeError
from finetooth.evaluation.graders.custom import load
from finetooth.types import Example

Found = tuple[str, int | None, int | None]  # words, start, end
_TAGS: list[Callable[[Example, str], Found | None]] = []


def _load(way: str, value: str, folder: Path | None, directory: str) -> dict[str, Any]:
    """{handle} of a loaded tag, or {error}."""
    with suppress(OSError):
        os.chdir(directory)
    try:
        _TAGS.append(_by_pattern(value) if way == "pattern" else _by_function(load(value, folder)))
    except (GradeError, re.error, RecursionError, OverflowError) as error:
        return {"error": str(error).removeprefix("evaluate.grader: ")}
    return {"handle": len(_TAGS) - 1}


def _by_pattern(value: str) -> Callable[[Example, str], Found | None]:
    pattern = re.compile(value)

    def find(example: Example, text: str) -> Found | None:
        match = pattern.search(text)
        return match and (f"matches {match[0][:60]!r}", *match.span())

    return find


def _by_function(function: Callable[[Example, str], Any]) -> Callable[[Example, str], Found | None]:
    def find(example: Example, text: str) -> Found | None:
        with redirect_stdout(sys.stderr):
            given = function(example, text)
        if isinstance(given, str):
            return (given, None, None) if given else None
        if given is None or type(given).__name__ in ("bool", "bool_"):
            return ("the function says so", None, None) if given else None
        raise TypeError(f"returned {type(given).__name__}, expected True, False or words")

    return find


def _detect(handle: int, example: Example, text: str) -> dict[str, Any]:
    """{found} of an answer, or {error}."""
    try:
        return {"found": _TAGS[handle](example, text)}
    except (Exception, SystemExit) as error:
        return {"error": f"{type(error).__name__}: {error}"}


ANSWERS: Answers = {"load": _load, "detect": _detect}
