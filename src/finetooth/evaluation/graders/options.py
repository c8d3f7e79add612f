"""The options of built-in graders: `{name: number, tolerance: 0.01, decimal: ","}`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from finetooth.errors import GradeError
from finetooth.evaluation.graders import basic, label_sets, numbers, structured
from finetooth.evaluation.graders.shared import Grader


def _strict(grader: Callable[..., Any]) -> Callable[[Mapping[str, Any]], Grader]:
    return lambda options: partial(grader, strict=_flag(options, "strict", False))


def _number(options: Mapping[str, Any]) -> Grader:
    return partial(
        numbers.number,
        tolerance=numbers.Tolerance.of(options.get("tolerance", 0)),
        decimal=numbers.decimal_mark(options.get("decimal", "auto")) or ".",
    )


def _json(options: Mapping[str, Any]) -> Grader:
    problem = structured.schema_validator(options["schema"]) if "schema" in options else lambda value: ""
    return partial(
        structured.json_fields,
        problem=problem,
        schema=options.get("schema"),
        ordered=_flag(options, "ordered", True),
        strict=_flag(options, "strict", False),
    )


def _flag(options: Mapping[str, Any], name: str, otherwise: bool) -> bool:
    value = options.get(name, otherwise)
    if not isinstance(value, bool):
        raise GradeError(f"evaluate.grader: {name} must be true or false, found {value!r}.")
    return value


# Name -> the options that it takes, and the grader for their values.
OPTIONS: dict[str, tuple[tuple[str, ...], Callable[[Mapping[str, Any]], Grader]]] = {
    "number": (("tolerance", "decimal"), _number),
    "json": (("schema", "ordered", "strict"), _json),
    "regex": (("pattern",), lambda options: basic.regex_grader(options["pattern"])),
    "exact": (("strict",), _strict(basic.exact)),
    "label": (("strict",), _strict(basic.label)),
    "labels": (("strict",), _strict(label_sets.labels)),
    "contains": (("strict",), _strict(basic.contains)),
}


def display_name(name: str, options: Mapping[str, Any]) -> str:
    """The name of a grader in OPTIONS with these options. GradeError for options that it does not take."""
    known, _ = OPTIONS[name]
    if not options or not options.keys() <= set(known):
        found = ", ".join(map(str, options.keys() - set(known))) or "no option"
        written = "".join(f", {option}: ..." for option in known)
        raise GradeError(f"evaluate.grader: {name} is written {{name: {name}{written}}}, found {found}.")
    return f"{name} ({', '.join(_shown(*option) for option in options.items())})"


def with_options(name: str, options: Mapping[str, Any]) -> Grader:
    """The grader of a name in OPTIONS with options that it takes. GradeError for a value that it does not."""
    return OPTIONS[name][1](options)


def is_watched(name: str, options: Mapping[str, Any]) -> bool:
    """Whether an option could make the grader run for ever: a regular expression or a JSON Schema."""
    return name == "regex" or "schema" in options


def _shown(option: str, value: Any) -> str:
    if option == "schema" or value is True:
        return option
    return f"not {option}" if value is False else f"{option} {value}"


def taken() -> str:
    """The graders with options and what each takes, in words."""
    return ", ".join(f"{name} takes {' and '.join(known)}" for name, (known, _) in OPTIONS.items())
