"""Graders that are written as data, in the shape that the fine-tuning API of OpenAI knows: string_check,
text_similarity, and multi, a formula over several of them.

Texts may hold `{{ item.PATH }}`, of the row, and `{{ sample.PATH }}`, of the answer. item has the row's
further columns under their names, and `input` (the last question), `output` (the expected answer) and
`messages`. sample has `output_text`, and `output_json` where that text is JSON.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from finetooth.errors import GradeError
from finetooth.evaluation.graders import overlap
from finetooth.types import Example, Score

Grader = Callable[[Example, str], Score]
HOLE = re.compile(r"\{\{\s*(item|sample)((?:\.\w+|\[\d+\])+)\s*\}\}")
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
    """The answer does not have what a template asks for: it is wrong."""


def declarative_grader(spec: Mapping[str, Any]) -> tuple[str, Grader]:
    """What to call a grader that is written as data, and the grader. GradeError where it cannot be."""
    kind = spec["type"]
    if kind not in KINDS:
        raise _refused(str(kind), f"is no type of grader here; there are {', '.join(KINDS)}")
    make, needed, optional = KINDS[kind]
    missing = sorted(needed - spec.keys())
    unknown = sorted(map(str, spec.keys() - needed - optional - {"type", "name"}))
    if missing or unknown:
        what = f"{missing[0]} is missing" if missing else f"{unknown[0]} is unknown"
        raise _refused(kind, f"{what}; it takes {', '.join(sorted(needed | optional | {'name'}))}")
    name = spec.get("name")
    return f"{name} ({kind})" if name else f"({kind})", make(spec)


def _refused(kind: str, why: str) -> GradeError:
    return GradeError(f"evaluate.grader: {kind} {why}.")


def _checks(spec: Mapping[str, Any]) -> Grader:
    operation = OPERATIONS.get(spec["operation"])
    if operation is None:
        raise _refused("string_check", f"operation is {', '.join(OPERATIONS)}, found {spec['operation']!r}")

    def compare(got: str, want: str) -> Score:
        right = operation(got, want)
        return Score(float(right), "" if right else f"not {spec['operation']}", got, want)

    return _filled(spec, compare)


def _compares(spec: Mapping[str, Any]) -> Grader:
    metric = str(spec["evaluation_metric"])
    measure = _metric(metric)
    least = spec.get("pass_threshold")
    if least is not None and (isinstance(least, bool) or not isinstance(least, int | float)):
        raise _refused("text_similarity", f"pass_threshold is a number, found {least!r}")

    def compare(got: str, want: str) -> Score:
        value = min(1.0, max(0.0, measure(got, want)))
        told = f"{metric} {value:.3f}"
        return Score(value if least is None else float(value >= least), told, got, want)

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
    why = "needs a model or word lists that are not here" if name in ("cosine", "meteor") else "is unknown"
    raise _refused(
        "text_similarity",
        f"evaluation_metric {name!r} {why}; there are fuzzy_match, bleu, gleu, rouge_1 to 5 and rouge_l",
    )


def _filled(spec: Mapping[str, Any], compare: Callable[[str, str], Score]) -> Grader:
    """A grader of the two texts with their holes filled. What the row lacks is an error, never a score."""
    for key in ("input", "reference"):
        if not isinstance(spec[key], str):
            raise _refused(str(spec["type"]), f"{key} is a text with templates, found {spec[key]!r}")

    def grade(example: Example, text: str) -> Score:
        try:
            return compare(_fill(spec["input"], example, text), _fill(spec["reference"], example, text))
        except _NoSample as error:
            return Score(0.0, f"the answer has no {error}", text)
        except LookupError as error:
            return Score(None, error=f"the row has no {error.args[0]}")

    return grade


def _fill(template: str, example: Example, text: str) -> str:
    return HOLE.sub(lambda hole: _value(hole[1], hole[2], example, text), template)


def _value(root: str, path: str, example: Example, text: str) -> str:
    value = _item(example) if root == "item" else _sample(text)
    for name, index in STEP.findall(path):
        try:
            value = value[name] if name else value[int(index)]
        except (LookupError, TypeError):
            if root == "sample":
                raise _NoSample(f"sample{path}") from None
            raise LookupError(f"item{path}") from None
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _item(example: Example) -> Any:
    messages = [{"role": message.role, "content": message.content} for message in example.context]
    own = {"messages": messages, "input": messages[-1]["content"] if messages else ""}
    return own | ({"output": example.target} if example.answers else {}) | dict(example.tags)


def _sample(text: str) -> Any:
    try:
        return {"output_text": text, "output_json": json.loads(text)}
    except (ValueError, RecursionError):
        return {"output_text": text}


def _formula(spec: Mapping[str, Any]) -> Grader:
    """Each grader's value under its name, put into calculate_output. An error of one is one of the whole."""
    given = spec["graders"]
    if not isinstance(given, Mapping) or not given or not all(isinstance(g, Mapping) for g in given.values()):
        raise _refused("multi", f"graders are named: {{name: {{type: ...}}}}, found {given!r:.80}")
    if any(grader.get("type") in (None, "multi") for grader in given.values()):
        raise _refused("multi", "takes graders of the other types")
    graders = {str(name): declarative_grader(grader)[1] for name, grader in given.items()}
    tree = _parsed(str(spec["calculate_output"]), graders.keys())

    def grade(example: Example, text: str) -> Score:
        scores = {name: grader(example, text) for name, grader in graders.items()}
        for name, score in scores.items():
            if score.value is None:
                return Score(None, error=f"{name}: {score.error}")
        values = {name: float(score.value or 0.0) for name, score in scores.items()}
        told = ", ".join(f"{name} {value:.3g}" for name, value in values.items())
        try:
            return Score(float(_calculated(tree, values)), told, text, example.target)
        except (ArithmeticError, ValueError, TypeError) as error:
            return Score(None, error=f"{spec['calculate_output']}: {error} ({told})")

    return grade


def _parsed(formula: str, names: Any) -> ast.expr:
    try:
        tree = ast.parse(formula.replace("^", "**").strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError):
        raise _refused("multi", f"calculate_output cannot be read: {formula!r}") from None
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        fine = isinstance(node, ast.BinOp | ast.UnaryOp | ast.Load | ast.operator | ast.unaryop)
        if isinstance(node, ast.operator | ast.unaryop):
            fine = type(node) in OPERATORS
        elif isinstance(node, ast.Name):
            fine = node.id in (FUNCTIONS if id(node) in called else names)
        elif isinstance(node, ast.Constant):
            fine = isinstance(node.value, int | float) and not isinstance(node.value, bool)
        elif isinstance(node, ast.Call):
            fine = isinstance(node.func, ast.Name) and not node.keywords
        if not fine:
            raise _refused(
                "multi",
                f"calculate_output takes numbers, the names {', '.join(names)}, + - * / ^ and "
                f"{', '.join(FUNCTIONS)}; found {ast.unparse(node) or type(node).__name__!r} in {formula!r}",
            )
    return tree


def _calculated(node: ast.expr, values: Mapping[str, float]) -> float:
    if isinstance(node, ast.Constant):
        return float(node.value)  # type: ignore[arg-type]
    if isinstance(node, ast.Name):
        return values[node.id]
    if isinstance(node, ast.Call):
        assert isinstance(node.func, ast.Name)
        return FUNCTIONS[node.func.id](*(_calculated(part, values) for part in node.args))
    if isinstance(node, ast.UnaryOp):
        return OPERATORS[type(node.op)](_calculated(node.operand, values))
    assert isinstance(node, ast.BinOp)
    return OPERATORS[type(node.op)](_calculated(node.left, values), _calculated(node.right, values))


KINDS: dict[str, tuple[Callable[[Mapping[str, Any]], Grader], set[str], set[str]]] = {
    "string_check": (_checks, {"input", "reference", "operation"}, set()),
    "text_similarity": (_compares, {"input", "reference", "evaluation_metric"}, {"pass_threshold"}),
    "multi": (_formula, {"graders", "calculate_output"}, set()),
}
