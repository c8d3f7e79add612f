"""The worker's side of watched graders: what is loaded here stays here, and answers by a number."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from finetooth.data.watched import Answers
from finetooth.errors import GradeError
from finetooth.evaluation.graders import options
from finetooth.evaluation.graders.custom import guard, load
from finetooth.evaluation.graders.shared import Grader
from finetooth.types import Example

_GRADERS: list[Grader] = []


def _load(kind: str, value: Any, folder: Path | None, directory: str) -> dict[str, Any]:
    """{handle, file} of a loaded grader, or {error}."""
    with suppress(OSError):
        os.chdir(directory)
    file: str | None = None
    function: Callable[[Example, str], Any]
    try:
        if kind == "function":
            function = load(value, folder)
            file = getattr(inspect.getmodule(function), "__file__", None)
        else:
            function = options.with_options(kind, value)
    except GradeError as error:
        return {"error": str(error)}
    except Exception as error:  # such as a schema that is nested too deeply
        return {"error": f"evaluate.grader: {kind} cannot be used: {type(error).__name__}: {error!s:.200}."}
    _GRADERS.append(guard(function))
    return {"handle": len(_GRADERS) - 1, "file": file}


def _grade(handle: int, example: Example, text: str) -> list[Any]:
    score = _GRADERS[handle](example, text)
    return [score.value, score.reason, score.got, score.want, score.error]


ANSWERS: Answers = {"load": _load, "grade": _grade}
