"""The user's grader files and modules, loaded in the worker process; and the guard around every grader.

A custom grader is named "file.py:function" or "package.module:function" and may return a Score, a bool or a
number in [0, 1].
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from importlib import import_module, reload
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from numbers import Real
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from finetooth.errors import GradeError
from finetooth.evaluation.graders.shared import Grader
from finetooth.rundir import sha256_file
from finetooth.types import Example, Score


class GraderStopped(GradeError):
    """A grader took too long, or ended its process: it says nothing about answers."""


def guard(function: Callable[[Example, str], Any]) -> Grader:
    """The same grader; a crash, or a result that is not a score, becomes Score(error).

    Its output goes to stderr, since stdout holds results only.
    """

    def grade(example: Example, text: str) -> Score:
        try:
            with redirect_stdout(sys.stderr):
                return _checked(function(example, text), example)
        except GraderStopped:
            raise
        except (Exception, SystemExit) as error:
            return Score(None, error=_text(f"{type(error).__name__}: {error}"))

    return grade


def _checked(result: Any, example: Example) -> Score:
    score = result if isinstance(result, Score) else Score(None, want=example.target)
    texts = _text(score.reason), _text(score.got), _text(score.want)
    if isinstance(result, Score):
        if result.error is not None:
            return Score(None, *texts, _text(result.error))
        result = result.value
    if type(result).__name__ in ("bool", "bool_"):  # NumPy's bool is not a Real
        result = float(result)
    if not isinstance(result, Real):
        found = type(result).__name__
        return Score(None, error=f"returned {found}, expected a Score, a bool or a number from 0 to 1")
    value = float(result)
    if math.isnan(value) or not 0 <= value <= 1:
        return Score(None, error=f"returned {value}, expected a number from 0 to 1")
    return Score(value, *texts)


def _text(value: object) -> str:
    """A text that can be written: a custom grader may return anything, and JSON lone surrogates."""
    return "" if value is None else str(value).encode("utf-8", "replace").decode("utf-8")


def grade_all(grader: Grader, pairs: Sequence[tuple[Example, str]]) -> list[Score]:
    """The scores of several answers, which a watched grader answers together."""
    together = getattr(grader, "grade_all", None)
    if together is not None:
        scores: list[Score] = together(pairs)
        return scores
    safe = guard(grader)
    return [safe(example, text) for example, text in pairs]


class _Uncached(SourceFileLoader):
    """Compiles the source each time, as cached bytecode is matched by modification second and size only."""

    def get_code(self, fullname: str) -> CodeType:
        """The compiled current content of the file."""
        return self.source_to_code(self.get_data(self.path), self.path)


def _module_of_file(path: Path) -> ModuleType:
    """A file as a module, which may import the files beside it. A changed file is a new module. OSError."""
    path = path.resolve()
    name = f"grader {path} {sha256_file(path)}"  # unlike any other module's name
    if name not in sys.modules:
        spec = spec_from_loader(name, _Uncached(name, str(path)), origin=str(path))
        assert spec is not None and spec.loader is not None
        spec.has_location = True
        module = sys.modules[name] = module_from_spec(spec)
        if str(path.parent) not in sys.path:
            sys.path.append(str(path.parent))
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


_DIGESTS: dict[str, str] = {}  # of the files of modules that were imported by name


def _module_of_name(name: str) -> ModuleType:
    """A module by its name, imported again where its file has changed since."""
    module = import_module(name)
    if module.__file__ is not None:
        digest = sha256_file(Path(module.__file__))
        if _DIGESTS.get(name, digest) != digest:
            module = reload(module)
        _DIGESTS[name] = digest
    return module


def load(name: str, folder: Path | None) -> Callable[[Example, str], Any]:
    """The function that a name stands for. folder: where a module may be. GradeError when there is none."""
    module_name, _, attribute = name.rpartition(":")
    if folder is not None and str(folder.resolve()) not in sys.path:
        sys.path.append(str(folder.resolve()))  # last, so that a user's file never hides an installed package
    where = f" (looked in {folder.resolve()} and the installed packages)" if folder else ""
    try:
        with redirect_stdout(sys.stderr):
            is_file = module_name.endswith(".py")
            module = _module_of_file(Path(module_name)) if is_file else _module_of_name(module_name)
    except FileNotFoundError:
        raise GradeError(f"evaluate.grader: {name!r} cannot be loaded: there is no such file.") from None
    except ModuleNotFoundError as error:
        missing = f"there is no module {error.name!r}{where}"
        raise GradeError(f"evaluate.grader: {name!r} cannot be loaded: {missing}.") from None
    except (Exception, SystemExit) as error:
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
