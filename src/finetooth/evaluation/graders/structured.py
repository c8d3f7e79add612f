"""The grader for answers in JSON: valid at all, valid by a schema, and equal field by field."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from finetooth.errors import GradeError
from finetooth.evaluation.graders.basic import SHOWN, expected_answers, no_expected_answer, normalise_text
from finetooth.types import Example, Score

FENCE = re.compile(r"\s*```[\w-]*[ \t]*\n(.*?)\n?[ \t]*```\s*", re.DOTALL)
DEEPEST = 100  # containers in one another; Python's stack ends at some hundreds
SHORT = 60  # letters of a value in a reason
Place = tuple[str | int, ...]
Leaf = tuple[Place, str, Any]  # where, kind, value; so that true is not 1, and 1 is 1.0


class _NotJson(ValueError):
    """Why a text is not one JSON value."""


def parse(text: str) -> Any:
    """The one JSON value of a text, which a Markdown code fence may surround. ValueError for all else.

    Refused although Python reads them: NaN and infinities, a key given twice, nesting beyond 100 levels.
    """
    fenced = FENCE.fullmatch(text)
    try:
        value = json.loads(
            fenced[1] if fenced else text,
            object_pairs_hook=_unique,
            parse_constant=_no_number,
            parse_float=_finite,
        )
    except RecursionError:
        raise _NotJson("nested too deeply") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise _NotJson(f"{error.msg[:1].lower()}{error.msg[1:]} at {where}") from None
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [inner for outer in level for inner in _inner(outer)]
        if not level:
            return value
    raise _NotJson("nested too deeply")


def _inner(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    count = Counter(key for key, _ in pairs)
    if len(count) < len(pairs):
        raise _NotJson(f"the key {count.most_common(1)[0][0]!r} is given twice")
    return dict(pairs)


def _no_number(text: str) -> Any:
    raise _NotJson(f"{text} is not a number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    return value if abs(value) != float("inf") else _no_number(text)


def json_fields(example: Example, text: str, problem: Callable[[Any], str] = lambda value: "") -> Score:
    """F1 of the fields of the answer against those of the expected JSON; 0 when it is not JSON.

    A field is a path and its value: text, number, true, false, null or an empty container. Places in a list
    count. problem: what is wrong with a value by a schema, "" for nothing; a wrong value is worth 0. With
    several expected answers the best counts.
    """
    expected = expected_answers(example)
    if not expected:
        return no_expected_answer()
    wants = []
    for answer in expected:
        try:
            wants.append(parse(answer))
        except ValueError as error:
            return Score(None, error=f"the expected answer is not JSON ({error}): {answer[:80]!r}")
    try:
        got = parse(text)
    except ValueError as error:
        return Score(0.0, f"not JSON: {error}", normalise_text(text), _compact(wants[0]))
    broken = problem(got)
    if broken:
        return Score(0.0, broken, _compact(got), _compact(wants[0]))
    return max((_compared(got, want) for want in wants), key=lambda score: score.value or 0.0)


def _compared(got: Any, want: Any) -> Score:
    got_leaves, want_leaves = set(_leaves(got)), set(_leaves(want))
    shared = len(got_leaves & want_leaves)
    value = 2 * shared / (len(got_leaves) + len(want_leaves))
    found = {path: (kind, leaf) for path, kind, leaf in got_leaves}
    wrong = []
    for path, kind, leaf in _leaves(want):
        if path not in found:
            wrong.append(f"{_named(path)}: missing")
        elif (path, kind, leaf) not in got_leaves:
            wrong.append(f"{_named(path)}: got {_short(*found[path])}, want {_short(kind, leaf)}")
    known = {path for path, _, _ in want_leaves}
    wrong += [f"{_named(path)}: not expected" for path, _, _ in _leaves(got) if path not in known]
    more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
    return Score(value, "; ".join(wrong[:SHOWN]) + more, _compact(got), _compact(want))


def _leaves(value: Any, path: Place = ()) -> Iterator[Leaf]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    elif isinstance(value, list) and value:
        for index, inner in enumerate(value):
            yield from _leaves(inner, (*path, index))
    elif isinstance(value, bool | dict | list) or value is None:
        yield path, "constant", json.dumps(value)
    else:
        yield path, "text" if isinstance(value, str) else "number", value


def _named(path: Place) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return "".join(parts).removeprefix(".") or "the value"


def _short(kind: str, value: Any) -> str:
    text = value if kind == "constant" else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHORT else text[: SHORT - 1] + "…"


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))


def schema_validator(schema: Any) -> Callable[[Any], str]:
    """What is wrong with a value by a JSON Schema, in words; "" when nothing is.

    References go inside the schema only: nothing is ever fetched. GradeError when it is no schema.
    """
    from jsonschema import SchemaError, validators  # here: few need it
    from referencing import Registry

    if not isinstance(schema, Mapping | bool):
        raise GradeError(f"evaluate.grader: json: schema is a JSON Schema or its file, found {schema!r}.")
    checks = validators.validator_for(schema, validators.Draft202012Validator)
    try:
        checks.check_schema(schema)
    except SchemaError as error:
        raise GradeError(f"evaluate.grader: json: this is no JSON Schema: {error.message}") from None
    validator = checks(schema, registry=Registry())

    def problem(value: Any) -> str:
        errors = sorted(validator.iter_errors(value), key=lambda error: [str(part) for part in error.path])
        if not errors:
            return ""
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        return f"not by the schema: {_named(tuple(errors[0].path))}: {errors[0].message}{more}"

    return problem
