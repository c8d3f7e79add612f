"""Graders: pure functions `(Example, text) -> Score`, at once metric, reward and data filter.

A model's bad answer is wrong: value 0. A grader that crashes says nothing about the model: Score(error),
never a value. A user's own grader is named "package.module:function" and may return a Score, a bool or a
number in [0, 1].
"""

from __future__ import annotations

import inspect
import math
import re
import sys
from collections.abc import Callable
from decimal import Decimal
from importlib import import_module
from numbers import Real
from pathlib import Path
from typing import Any

from finetooth.errors import GradeError
from finetooth.rundir import sha256_file
from finetooth.types import Example, Score

Grader = Callable[[Example, str], Score]

# A minus that follows a digit or a letter is a dash ("2024-05-06", "A-3"); thousands come in full groups.
NUMBER = re.compile(
    r"(?:(?<![\w.])(?P<sign>[-−]))?[$€£]?"
    r"(?P<digits>\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?(?:[eE][+-]?\d{1,3}(?!\w))?|(?<!\d)\.\d+)"
)


def exact(example: Example, text: str) -> Score:
    """1 when the answer is an expected one. Case counts, the amount of white space does not."""
    wanted = [" ".join(answer.split()) for answer in _wanted(example)]
    if not wanted:
        return _nothing_expected()
    got = " ".join(text.split())
    right = got in wanted
    return Score(float(right), "" if right else "differs", got, wanted[0])


def label(example: Example, text: str) -> Score:
    """1 when the answer is the row's label; upper and lower case and white space around it do not count."""
    wanted = _wanted(example)
    if not wanted:
        return _nothing_expected()
    got = " ".join(text.split())
    want = " ".join(wanted[0].split())
    right = got.casefold() == want.casefold()
    return Score(float(right), "" if right else "another label", got, want)


def number(example: Example, text: str) -> Score:
    """1 when the answer's last number equals that of the expected answer (after `####` where used).

    Understood are signs, decimals, exponents, thousands ("1,234.5") and a currency sign; "50%" is 50.
    """
    wanted = _wanted(example)
    if not wanted:
        return _nothing_expected()
    want = last_number(wanted[0].rsplit("####", 1)[-1])
    if want is None:
        return Score(None, error=f"the expected answer holds no number: {wanted[0][:80]!r}")
    got = last_number(text)
    if got is None:
        return Score(0.0, "no number in the answer", "", _plain(want))
    return Score(float(got == want), "" if got == want else "another number", _plain(got), _plain(want))


def last_number(text: str) -> Decimal | None:
    """The last number written in the text, None when there is none."""
    found = list(NUMBER.finditer(text))
    if not found:
        return None
    value = Decimal(found[-1]["digits"].replace(",", ""))
    return -value if found[-1]["sign"] else value


BUILT_IN: dict[str, Grader] = {"exact": exact, "label": label, "number": number}


def resolve(name: str, format: str, folder: Path | None = None) -> tuple[str, Grader]:
    """The grader of this name, and the name that `auto` became for rows of this data format.

    folder: where a user's own module may lie (the command line passes the working directory). Every returned
    grader turns its own crash into Score(error). GradeError when the name means nothing.
    """
    if name == "auto":
        name = _default(format)
    if name in BUILT_IN:
        return name, guarded(BUILT_IN[name])
    if ":" not in name:
        raise GradeError(
            f"evaluate.grader: {name!r} is unknown. Expected auto, {', '.join(BUILT_IN)} or your own "
            "function as package.module:function."
        )
    return name, guarded(_load(name, folder))


def source(name: str, folder: Path | None = None) -> str:
    """What a user's own grader does, as the digest of its file; "" for a grader of finetooth.

    A mended grader is another one: a result that the old one gave does not stand for it.
    """
    if ":" not in name:
        return ""
    module = inspect.getmodule(_load(name, folder))
    file = getattr(module, "__file__", None)
    return sha256_file(Path(file)) if file else ""


def guarded(function: Callable[[Example, str], Any]) -> Grader:
    """The same grader, whose crash, or result that is no score, becomes Score(error)."""

    def grade(example: Example, text: str) -> Score:
        try:
            result = function(example, text)
        except (Exception, SystemExit) as error:
            return Score(None, error=f"{type(error).__name__}: {error}")
        return _checked(result, example)

    return grade


def _checked(result: Any, example: Example) -> Score:
    score = result if isinstance(result, Score) else Score(None, want=example.target)
    if isinstance(result, Score):
        if result.error is not None:
            return Score(None, result.reason, result.got, result.want, result.error)
        result = result.value
    # NumPy's bool is not a Real
    if type(result).__name__ in ("bool", "bool_"):
        result = float(result)
    if not isinstance(result, Real):
        found = type(result).__name__
        return Score(None, error=f"returned {found}, expected a Score, a bool or a number from 0 to 1")
    value = float(result)
    if math.isnan(value) or not 0 <= value <= 1:
        return Score(None, error=f"returned {value}, expected a number from 0 to 1")
    return Score(value, score.reason, score.got, score.want)


def _default(format: str) -> str:
    if format == "labels":
        return "label"
    if format in ("qa", "alpaca", "chat"):
        return "exact"
    raise GradeError(
        f"evaluate.grader: auto finds no grader for rows of the format {format!r}: they have no expected "
        "answer to compare with. Give one: `--evaluate.grader package.module:function`."
    )


def _load(name: str, folder: Path | None) -> Callable[[Example, str], Any]:
    module_name, _, attribute = name.partition(":")
    if folder is not None and str(folder.resolve()) not in sys.path:
        sys.path.append(str(folder.resolve()))  # last: a user's file never hides an installed package
    where = f" (looked in {folder.resolve()} and the installed packages)" if folder else ""
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        missing = f"there is no module {error.name!r}{where}"
        raise GradeError(f"evaluate.grader: {name!r} cannot be loaded: {missing}.") from None
    except Exception as error:
        crash = f"importing {module_name} failed with {type(error).__name__}: {error}"
        raise GradeError(f"evaluate.grader: {name!r} cannot be loaded: {crash}.") from error
    function = getattr(module, attribute, None)
    if not callable(function):
        found = "no such name" if function is None else type(function).__name__
        raise GradeError(
            f"evaluate.grader: {name!r} cannot be loaded: expected a function {attribute!r} in "
            f"{module.__file__ or module_name}, found {found}."
        )
    checked: Callable[[Example, str], Any] = function
    return checked


def _wanted(example: Example) -> list[str]:
    return [answer.text for answer in example.answers if answer.role in ("target", "reference")]


def _nothing_expected() -> Score:
    return Score(None, error="the row has no expected answer")


def _plain(value: Decimal) -> str:
    return format(value.normalize(), "f") if abs(value.adjusted()) < 40 else str(value)
