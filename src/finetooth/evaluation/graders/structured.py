"""The grader for JSON answers: valid JSON, valid against a schema, and F1 of its fields."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

from finetooth.errors import GradeError
from finetooth.evaluation.graders.forms import fold, folded, normalise_text
from finetooth.evaluation.graders.list_order import Lists, aligned
from finetooth.evaluation.graders.shared import SHOWN, expected_answers, no_expected_answer
from finetooth.types import Example, Score

FENCE = re.compile(r"\s*```[\w-]*[ \t]*\n(?P<inside>.*)```\s*", re.DOTALL)
# Where a JSON object or list can begin. Braces and brackets of a sentence ("{x}", "[see below]") are none.
OPENING = re.compile(r"\{(?=\s*[\"}])|\[(?=\s*(?:[\[\]{\"\d-]|true|false|null))")
DEEPEST = 100  # nested containers; Python's recursion limit is some hundreds
SHORT = 60  # characters of a value in a reason
MOST_ERRORS = 1000  # of one value against a schema
Place = tuple[str | int, ...]
Leaf = tuple[Place, str, Any]  # path, kind, value: true differs from 1, and 1 equals 1.0


class _NotJson(ValueError):
    """Why a text is not one JSON value."""


def parse(text: str, strict: bool = False) -> Any:
    """The one JSON value of a text. ValueError for none, for several different ones, and for broken JSON.

    An object or list may stand in a sentence, behind a BOM or in a code fence, closed or not. strict: all of
    the text is the value, optionally in a closed Markdown fence. Never taken: NaN or infinity, a duplicate
    key, more than 100 levels of nesting.
    """
    fenced = FENCE.fullmatch(text)
    try:
        return _shallow(_decoder().decode(fenced["inside"] if fenced else text))
    except RecursionError:
        raise _NotJson("nested too deeply") from None
    except json.JSONDecodeError as error:
        values = [] if strict else _embedded(fold(text))
        if not values:
            raise _not_json(error) from None
    if any(value != values[0] for value in values[1:]):
        raise _NotJson(f"there are {len(values)} different JSON values")
    return _shallow(values[0])


def _embedded(text: str) -> list[Any]:
    """The objects and lists in a text, in order. ValueError for one that is broken."""
    found = []
    at = 0
    while opening := OPENING.search(text, at):
        try:
            value, at = _decoder().raw_decode(text, opening.start())
        except RecursionError:
            raise _NotJson("nested too deeply") from None
        except json.JSONDecodeError as error:
            raise _not_json(error) from None
        found.append(value)
    return found


def _decoder() -> json.JSONDecoder:
    return json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_number, parse_float=_finite)


def _not_json(error: json.JSONDecodeError) -> _NotJson:
    return _NotJson(f"{error.msg[:1].lower()}{error.msg[1:]} at line {error.lineno}, column {error.colno}")


def _shallow(value: Any) -> Any:
    level = [value]  # the values of one depth
    for _ in range(DEEPEST + 1):
        containers = [one for one in level if isinstance(one, dict | list)]
        level = [inner for one in containers for inner in (one.values() if isinstance(one, dict) else one)]
        if not level:
            return value
    raise _NotJson("nested too deeply")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    count = Counter(key for key, _ in pairs)
    if len(count) < len(pairs):
        raise _NotJson(f"the key {count.most_common(1)[0][0]!r} is given twice")
    return dict(pairs)


def _no_number(text: str) -> Any:
    raise _NotJson(f"{text} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    return value if abs(value) != float("inf") else _no_number(text)


def json_fields(
    example: Example,
    text: str,
    problem: Callable[[Any], str] = lambda value: "",
    schema: Any = None,
    ordered: bool = True,
    strict: bool = False,
) -> Score:
    """F1 of the answer's fields against those of the expected JSON; 0 when the answer is not JSON.

    A field is a path (list indices included) and its value: text, number, true, false, null or an empty
    container. problem: the schema violation of a value, "" for none; a violation scores 0. schema: of which
    lists with uniqueItems are sets, whose order does not matter; ordered: if False, that of no list does.
    Typographic forms and white space in texts do not matter; strict: they do, and see `parse`. With several
    expected answers the best score counts.
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
        got = parse(text, strict)
    except ValueError as error:
        return Score(0.0, f"not JSON: {error}", normalise_text(text), _compact(wants[0]))
    if violation := problem(got):
        return Score(0.0, violation, _compact(got), _compact(wants[0]))
    pairs = [(got, want) if strict else (_folded(got), _folded(want)) for want in wants]
    if not ordered or schema is not None:
        pairs = [(aligned(got, want, Lists(schema, ordered)), want) for got, want in pairs]
    return max((_field_f1(*pair) for pair in pairs), key=lambda score: score.value or 0.0)


def _folded(value: Any) -> Any:
    """The value with keys and texts in one typographic form; keys that become equal stay apart."""
    if isinstance(value, dict):
        keys = {key: folded(key) for key in value}
        alike = len(set(keys.values())) < len(keys)
        return {(key if alike else keys[key]): _folded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_folded(inner) for inner in value]
    return folded(value) if isinstance(value, str) else value


def _field_f1(got: Any, want: Any) -> Score:
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
    """A function that says how a value violates a JSON Schema, "" where it does not.

    References resolve within the schema only: nothing is fetched. GradeError for an invalid schema.
    """
    from jsonschema import SchemaError, validators  # here: rarely needed
    from referencing import Registry

    if not isinstance(schema, Mapping | bool):
        raise GradeError(
            f"evaluate.grader: json: schema must be a JSON Schema or its file, found {schema!r}."
        )
    checks = validators.validator_for(schema, validators.Draft202012Validator)
    try:
        checks.check_schema(schema)
    except SchemaError as error:
        raise GradeError(f"evaluate.grader: json: this is not a JSON Schema: {error.message}") from None
    validator = checks(schema, registry=Registry())

    def problem(value: Any) -> str:
        first = islice(validator.iter_errors(value), MOST_ERRORS)  # a schema can make billions of them
        errors = sorted(first, key=lambda error: [str(part) for part in error.path])
        if not errors:
            return ""
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        return f"violates the schema: {_named(tuple(errors[0].path))}: {errors[0].message}{more}"

    return problem
