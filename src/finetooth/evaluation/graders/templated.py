"""Graders written as data, in the format of OpenAI's fine-tuning API: string_check, text_similarity, multi.

Templates may contain `{{ item.PATH }}` (from the row) and `{{ sample.PATH }}` (from the answer). item has the
row's extra columns by name, and `input` (the last message), `output` (the expected answer) and `messages`.
sample has `output_text`, and `output_json` where that text is JSON. multi is a formula over other graders.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from finetooth.errors import GradeError
from finetooth.evaluation.graders import overlap
from finetooth.evaluation.graders.shared import Grader
from finetooth.types import Example, Score

PLACEHOLDER = re.compile(r"\{\{\s*(item|sample)((?:\.\w+|\[\d+\])+)\s*\}\}")
STEP = re.compile(r"\.(\w+)|\[(\d+)\]")
OPERATIONS: dict[str, Callable[[str, str], bool]] = {
    "eq": lambda text, reference: text == reference,
    "ne": lambda text, reference: text != reference,
    "like": lambda text, reference: reference in text,
    "ilike": lambda text, reference: reference.casefold() in text.casefold(),
}
FUNCTIONS: dict[str, Callable[..., float]] = {
    "min": min,
    "max": max,
    "abs": abs,
    "floor": math.floor,
    "ceil": math.ceil,
    "exp": math.exp,
    "sqrt": math.sqrt,
    "log": math.log,
}
OPERATORS: dict[type[ast.AST], Callable[..., float]] = {
    ast.Add: lambda left, right: left + right,
    ast.Sub: lambda left, right: left - right,
    ast.Mult: lambda left, right: left * right,
    ast.Div: lambda left, right: left / right,
    ast.Pow: lambda left, right: left**right,
    ast.USub: lambda value: -value,
    ast.UAdd: lambda value: value,
}


class _NoSample(Exception):
    """The answer lacks a field that a template reads, so it is wrong."""


def declarative_grader(spec: Mapping[str, Any]) -> tuple[str, Grader]:
    """The display name and the grader of a specification with `type`. GradeError for an invalid one."""
    kind = spec["type"]
    if kind not in KINDS:
        raise _invalid(str(kind), f"is not a grader type; expected {', '.join(KINDS)}")
    make, needed, optional = KINDS[kind]
    missing = sorted(needed - spec.keys())
    unknown = sorted(map(str, spec.keys() - needed - optional - {"type", "name"}))
    if missing or unknown:
        problem = f"{missing[0]} is missing" if missing else f"{unknown[0]} is unknown"
        raise _invalid(kind, f"{problem}; it takes {', '.join(sorted(needed | optional | {'name'}))}")
    name = spec.get("name")
    return f"{name} ({kind})" if name else f"({kind})", make(spec)


def _invalid(kind: str, why: str) -> GradeError:
    return GradeError(f"evaluate.grader: {kind} {why}.")


def _string_check(spec: Mapping[str, Any]) -> Grader:
    operation = OPERATIONS.get(spec["operation"])
    if operation is None:
        raise _invalid(
            "string_check", f"operation must be {', '.join(OPERATIONS)}, found {spec['operation']!r}"
        )

    def compare(got: str, want: str) -> Score:
        right = operation(got, want)
        return Score(float(right), "" if right else f"not {spec['operation']}", got, want)

    return _filled(spec, compare)


def _text_similarity(spec: Mapping[str, Any]) -> Grader:
    metric = str(spec["evaluation_metric"])
    measure = _metric(metric)
    threshold = spec.get("pass_threshold")
    if threshold is not None and (isinstance(threshold, bool) or not isinstance(threshold, int | float)):
        raise _invalid("text_similarity", f"pass_threshold must be a number, found {threshold!r}")

    def compare(got: str, want: str) -> Score:
        value = min(1.0, max(0.0, measure(got, want)))
        passed = value if threshold is None else float(value >= threshold)
        return Score(passed, f"{metric} {value:.3f}", got, want)

    return _filled(spec, compare)


def _metric(name: str) -> Callable[[str, str], float]:
    if name == "fuzzy_match":
        return overlap.fuzzy
    if name == "bleu":
        return overlap.sentence_bleu
    if name == "gleu":
        return overlap.gleu
    if name == "rouge_l":
        return lambda text, answer: overlap.rouge(text, answer, None)
    if found := re.fullmatch(r"rouge_([1-5])", name):
        return lambda text, answer: overlap.rouge(text, answer, int(found[1]))
    why = "is not supported" if name in ("cosine", "meteor") else "is unknown"
    raise _invalid(
        "text_similarity",
        f"evaluation_metric {name!r} {why}; expected fuzzy_match, bleu, gleu, rouge_1 to 5 and rouge_l",
    )


def _filled(spec: Mapping[str, Any], compare: Callable[[str, str], Score]) -> Grader:
    """A grader of the two texts with their templates filled. A field that the row lacks is an error."""
    for key in ("input", "reference"):
        if not isinstance(spec[key], str):
            raise _invalid(str(spec["type"]), f"{key} must be a text, found {spec[key]!r}")

    def grade(example: Example, text: str) -> Score:
        try:
            got, want = (
                PLACEHOLDER.sub(lambda match: _value(match[1], match[2], example, text), spec[key])
                for key in ("input", "reference")
            )
            return compare(got, want)
        except _NoSample as error:
            return Score(0.0, f"the answer has no {error}", text)
        except LookupError as error:
            return Score(None, error=f"the row has no {error.args[0]}")

    return grade


def _value(root: str, path: str, example: Example, text: str) -> str:
    value: Any
    if root == "item":
        messages = [{"role": message.role, "content": message.content} for message in example.context]
        value = {"messages": messages, "input": messages[-1]["content"] if messages else ""}
        value |= ({"output": example.target} if example.answers else {}) | dict(example.tags)
    else:
        value = {"output_text": text}
        with suppress(ValueError, RecursionError):
            value["output_json"] = json.loads(text)
    for name, index in STEP.findall(path):
        try:
            value = value[name] if name else value[int(index)]
        except (LookupError, TypeError):
            if root == "sample":
                raise _NoSample(f"sample{path}") from None
            raise LookupError(f"item{path}") from None
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _multi(spec: Mapping[str, Any]) -> Grader:
    """calculate_output over the named graders' values. An error of one of them is an error of the whole."""
    given = spec["graders"]
    if not isinstance(given, Mapping) or not given or not all(isinstance(g, Mapping) for g in given.values()):
        raise _invalid("multi", f"graders must be {{name: {{type: ...}}}}, found {given!r:.80}")
    if any(grader.get("type") in (None, "multi") for grader in given.values()):
        raise _invalid("multi", "takes only graders of the other types")
    graders = {str(name): declarative_grader(grader)[1] for name, grader in given.items()}
    tree = _parse_formula(str(spec["calculate_output"]), graders.keys())

    def grade(example: Example, text: str) -> Score:
        scores = {name: grader(example, text) for name, grader in graders.items()}
        for name, score in scores.items():
            if score.value is None:
                return Score(None, error=f"{name}: {score.error}")
        values = {name: float(score.value or 0.0) for name, score in scores.items()}
        reason = ", ".join(f"{name} {value:.3g}" for name, value in values.items())
        try:
            return Score(float(_evaluate(tree, values)), reason, text, example.target)
        except (ArithmeticError, ValueError, TypeError) as error:
            return Score(None, error=f"{spec['calculate_output']}: {error} ({reason})")

    return grade


def _parse_formula(formula: str, names: Any) -> ast.expr:
    try:
        tree = ast.parse(formula.replace("^", "**").strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError):
        raise _invalid("multi", f"calculate_output cannot be read: {formula!r}") from None
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        allowed = isinstance(node, ast.BinOp | ast.UnaryOp | ast.Load | ast.operator | ast.unaryop)
        if isinstance(node, ast.operator | ast.unaryop):
            allowed = type(node) in OPERATORS
        elif isinstance(node, ast.Name):
            allowed = node.id in (FUNCTIONS if id(node) in called else names)
        elif isinstance(node, ast.Constant):
            allowed = isinstance(node.value, int | float) and not isinstance(node.value, bool)
        elif isinstance(node, ast.Call):
            allowed = isinstance(node.func, ast.Name) and not node.keywords
        if not allowed:
            raise _invalid(
                "multi",
                f"calculate_output takes numbers, the names {', '.join(names)}, + - * / ^ and "
                f"{', '.join(FUNCTIONS)}; found {ast.unparse(node) or type(node).__name__!r} in {formula!r}",
            )
    return tree


def _evaluate(node: ast.expr, values: Mapping[str, float]) -> float:
    if isinstance(node, ast.Constant):
        return float(node.value)  # type: ignore[arg-type]
    if isinstance(node, ast.Name):
        return values[node.id]
    if isinstance(node, ast.Call):
        assert isinstance(node.func, ast.Name)
        return FUNCTIONS[node.func.id](*(_evaluate(part, values) for part in node.args))
    if isinstance(node, ast.UnaryOp):
        return OPERATORS[type(node.op)](_evaluate(node.operand, values))
    assert isinstance(node, ast.BinOp)
    return OPERATORS[type(node.op)](_evaluate(node.left, values), _evaluate(node.right, values))


KINDS: dict[str, tuple[Callable[[Mapping[str, Any]], Grader], set[str], set[str]]] = {
    "string_check": (_string_check, {"input", "reference", "operation"}, set()),
    "text_similarity": (_text_similarity, {"input", "reference", "evaluation_metric"}, {"pass_threshold"}),
    "multi": (_multi, {"graders", "calculate_output"}, set()),
}
