"""Grader names and options, custom grader functions, and the guard around every grader.

A custom grader is named "file.py:function" or "package.module:function" and may return a Score, a bool or a
number in [0, 1].
"""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from importlib import import_module
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from numbers import Real
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from finetooth.config.method_keys import REWARD_MODEL
from finetooth.errors import GradeError
from finetooth.evaluation.graders import basic, label_sets, numbers, options, overlap, structured
from finetooth.evaluation.graders.shared import Grader, expected_answers
from finetooth.evaluation.graders.templated import declarative_grader
from finetooth.evaluation.preference import grade_preference
from finetooth.rundir import sha256_file
from finetooth.types import Example, Score

GraderSpec = str | Mapping[str, Any]  # a name, {name: ..., option: ...}, or {type: string_check, ...}

BUILT_IN: dict[str, Grader] = {
    "exact": basic.exact,
    "label": basic.label,
    "number": numbers.number,
    "labels": label_sets.labels,
    "contains": basic.contains,
    "json": structured.json_fields,
    "f1": overlap.f1,
    "rouge": overlap.rouge_l,
    "rouge1": overlap.rouge1,
    "rouge2": overlap.rouge2,
    "bleu": overlap.bleu,
    "chrf": overlap.chrf,
    "preference": grade_preference,
}
PREFERENCE = "preference"  # for candidates that choose between two answers: runs/preference_candidates.py
PERPLEXITY = "perplexity"  # from the model's likelihoods, without an answer: evaluation/runner.py
DEFAULTS = {
    "labels": "label",
    "several labels": "labels",
    "preference": "chrf",
    **dict.fromkeys(("qa", "alpaca", "chat", "prompt", "sharegpt"), "exact"),
}


def specs(given: GraderSpec | Sequence[GraderSpec]) -> list[GraderSpec]:
    """The graders of evaluate.grader, the primary one first."""
    return [given] if isinstance(given, str | Mapping) else list(given)


def without_options(display_name: str) -> str:
    """The name of the grader in a display name of `resolve`, without its options."""
    return display_name.partition(" (")[0]


def grading_format(columns: Mapping[str, str], format: str) -> str:
    """What `auto` resolves by: the data format, or `several labels` where several columns map to label."""
    return "several labels" if list(columns.values()).count("label") > 1 else format


def resolve(  # long: every kind of specification, in order
    spec: GraderSpec, format: str, folder: Path | None = None
) -> tuple[str, Grader]:
    """The display name and the grader of a specification; format: the grading_format, which decides `auto`.

    folder: where a custom module may be (the command line passes the working directory). Every returned
    grader turns its own crash into Score(error). GradeError for an unknown name or an invalid option.
    """
    if not isinstance(spec, str) and "type" in spec:
        display_name, grader = declarative_grader(spec)
        return display_name, guard(grader)
    given = {} if isinstance(spec, str) else dict(spec)
    name = spec if isinstance(spec, str) else given.pop("name", None)
    if not isinstance(name, str):
        raise GradeError(f"evaluate.grader: expected a name, as in {{name: json}}, found {spec}.")
    if name == "auto":
        if format not in DEFAULTS:
            raise GradeError(
                f"evaluate.grader: auto finds no grader for rows of the format {format!r}: they have no "
                "expected answer to compare with. Name one: `--evaluate.grader file.py:function`."
            )
        name = DEFAULTS[format]
    if name == REWARD_MODEL:
        raise GradeError(
            "evaluate.grader: reward_model is a reward (train.reward), not a grader: its scores have no "
            "absolute meaning, and it cannot evaluate a model that was trained to maximise it. Expected "
            "auto, preference, or another grader."
        )
    if name in options.OPTIONS and (given or name not in BUILT_IN):
        display_name, grader = options.with_options(name, given)
        return display_name, guard(grader)
    if given:
        raise GradeError(
            f"evaluate.grader: {name} takes no option, found {', '.join(given)}. Graders with one: "
            f"{options.taken()}."
        )
    if name == PERPLEXITY:
        return name, lambda example, text: Score(None, error="perplexity needs a model, not a text")
    if name in BUILT_IN:
        return name, guard(BUILT_IN[name])
    if ":" not in name:
        known = ", ".join([*BUILT_IN, "regex", PERPLEXITY])
        raise GradeError(
            f"evaluate.grader: {name!r} is unknown. Expected auto, {known} or a custom function as "
            "file.py:function or package.module:function."
        )
    return Path(name).name, guard(_load(name, folder))


def resolve_all(
    given: GraderSpec | Sequence[GraderSpec], format: str, folder: Path | None = None
) -> list[tuple[str, Grader]]:
    """The graders of evaluate.grader with their display names, the primary one first; see `resolve`."""
    graders = [resolve(spec, format, folder) for spec in specs(given)]
    names = [name for name, _ in graders]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not graders:
        problem = f"{twice[0]} is given twice" if twice else "no grader is given"
        raise GradeError(f"evaluate.grader: {problem}. Expected a grader, or a list of different ones.")
    return graders


def corpus_score(name: str, examples: Sequence[Example], texts: Sequence[str]) -> dict[str, Any] | None:
    """The corpus-level score {value, signature}; None for graders whose mean over the rows is reported."""
    if name not in ("bleu", "chrf") or not all(map(expected_answers, examples)):
        return None
    return overlap.corpus(name, examples, texts)


def grader_digest(spec: GraderSpec, folder: Path | None = None) -> str:
    """The digest of a custom grader's file; "" for a built-in grader.

    A changed grader is a different one: stored results of the old one do not count for it.
    """
    name = spec if isinstance(spec, str) else str(spec.get("name", ""))
    if ":" not in name or (not isinstance(spec, str) and "type" in spec):
        return ""
    module = inspect.getmodule(_load(name, folder))
    file = getattr(module, "__file__", None)
    return sha256_file(Path(file)) if file else ""


def is_custom(name: str) -> bool:
    """Whether a display name of `resolve` is that of a custom function, not of a grader with an option."""
    return ":" in name and "(" not in name


def guard(function: Callable[[Example, str], Any]) -> Grader:
    """The same grader; a crash, or a result that is not a score, becomes Score(error).

    Its output goes to stderr, since stdout holds results only.
    """

    def grade(example: Example, text: str) -> Score:
        try:
            with redirect_stdout(sys.stderr):
                return _checked(function(example, text), example)
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


def _load(name: str, folder: Path | None) -> Callable[[Example, str], Any]:
    module_name, _, attribute = name.rpartition(":")
    if folder is not None and str(folder.resolve()) not in sys.path:
        sys.path.append(str(folder.resolve()))  # last, so that a user's file never hides an installed package
    where = f" (looked in {folder.resolve()} and the installed packages)" if folder else ""
    try:
        with redirect_stdout(sys.stderr):
            is_file = module_name.endswith(".py")
            module = _module_of_file(Path(module_name)) if is_file else import_module(module_name)
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
