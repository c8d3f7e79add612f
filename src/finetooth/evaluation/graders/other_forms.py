"""What `check` shows of a grader: how it reads the data's numbers, and grades other forms of its answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from finetooth.config.evaluate_keys import GRADER_SECONDS
from finetooth.evaluation.graders.label_sets import expected_labels
from finetooth.evaluation.graders.named import (
    PERPLEXITY,
    PREFERENCE,
    GraderSpec,
    is_custom,
    resolve,
    without_options,
)
from finetooth.evaluation.graders.numbers import Mark, decimal_mark, final_quantity, found_mark
from finetooth.types import Example

SAMPLED = 1000  # expected answers in which the decimal mark is looked for
FORMS = 5  # answers shown in another form
SHORT = 60  # characters of one
LONGEST = 5_000  # characters of an expected answer that is shown in other forms

Form = Callable[[str], str]
_FENCED: Form = "```\n{}\n```".format
_ANY: list[Form] = ['"{}"'.format, "**{}**".format, "{}.".format, "Answer: {}".format, _FENCED]
_FORMS: dict[str, list[Form]] = {
    "number": [
        "The answer is {}.".format,
        "**{}**".format,
        "{} (see step 2)".format,
        "#### {}".format,
        lambda text: f"\\boxed{{{text}}} in 2024",
    ],
    "labels": [
        lambda text: " and ".join(expected_labels(text).values()),
        lambda text: "\n".join(f"- {label}" for label in expected_labels(text).values()),
        lambda text: "\n".join(
            f"{at}. {label}" for at, label in enumerate(expected_labels(text).values(), 1)
        ),
        lambda text: json.dumps(list(expected_labels(text).values()), ensure_ascii=False),
        "Labels: {}.".format,
    ],
    "json": [
        "Here is the JSON: {}".format,
        "```json\n{}\n```".format,
        "```json\n{}".format,
        "{}\nI hope this helps.".format,
        "\ufeff{}".format,
    ],
    "contains": ["It is {}.".format, "{}, I think".format, '"{}"'.format, "**{}**".format, _FENCED],
}


def settled(spec: GraderSpec, examples: Sequence[Example]) -> GraderSpec:
    """The specification; of `number`, with the decimal mark that the examples' expected answers show."""
    if _decimal(spec) is not None or without_options(_name(spec)) != "number":
        return spec
    mark = found_mark(row.target for row in _spread(examples, SAMPLED))
    given = {} if isinstance(spec, str) else dict(spec)
    return {**given, "name": "number", "decimal": ","} if mark == "," else spec


def number_doubts(spec: GraderSpec, examples: Sequence[Example]) -> tuple[list[str], list[str]]:
    """The errors and the warnings about how `number` reads expected answers, in words."""
    if _name(spec) != "number" or not examples:
        return [], []
    rows = _spread(examples, SAMPLED)
    mark = _decimal(spec)
    read = [(row, found) for row in rows if (found := final_quantity(row.target, mark or "."))]
    unclear = [row for row, found in read if found.ambiguous]
    shows = {found.mark: row for row, found in read if found.mark}
    if unclear and len(shows) == 2 and mark is None:
        examples_of = " and ".join(f"{_short(row.target)} (row {row.id})" for row in shows.values())
        return [
            f"number: expected answers show both decimal marks, such as {examples_of}, so "
            f"{_short(unclear[0].target)} (row {unclear[0].id}) could mean either. Say which: "
            '{name: number, decimal: ","} or decimal: "."'
        ], []
    warnings = []
    if unclear and not shows and mark is None and any("." in row.target for row in unclear):
        row = next(row for row in unclear if "." in row.target)
        warnings.append(
            f"number reads {_short(row.target)} (row {row.id}) with a decimal point, as no other answer "
            'shows the mark. If it separates thousands: {name: number, decimal: ","}'
        )
    for kind in ("time", "date", "range", "series"):
        same = [row for row, found in read if found.kind == kind]
        if same:
            warnings.append(
                f"number compares {len(same)} of {len(rows)} expected answers as a {kind}, such as "
                f"{_short(same[0].target)} (row {same[0].id}): right is what has all its parts"
            )
    return [], warnings


def shown_forms(
    spec: GraderSpec,
    format: str,
    examples: Sequence[Example],
    folder: Path | None,
    seconds: float = GRADER_SECONDS,
) -> list[str]:
    """How the grader grades five expected answers in other forms, and one that belongs to another row.

    [] for graders that take no text of an answer: custom ones, perplexity and those written as data.
    """
    name, grade = resolve(spec, format, folder, seconds)
    kind = without_options(name)
    rows = [
        row
        for row in examples
        if row.target.strip()
        and len(row.target) <= LONGEST
        and not any(answer.more for answer in row.answers)
    ]
    by_data = not isinstance(spec, str) and "type" in spec
    if not rows or by_data or is_custom(name) or kind in (PERPLEXITY, PREFERENCE):
        return []
    tried = _spread(rows, FORMS)
    shown = []
    for at, form in enumerate(_FORMS.get(kind, _ANY)):
        row = tried[at % len(tried)]
        shown.append(_graded(name, row, form(row.target), grade(row, form(row.target)).value))
    other = next((row for row in rows if row.target != tried[0].target), None)
    if other is not None:
        shown.append(_graded(name, tried[0], other.target, grade(tried[0], other.target).value))
    return shown


def _graded(name: str, row: Example, text: str, value: float | None) -> str:
    verdict = "cannot be graded" if value is None else {0.0: "wrong", 1.0: "right"}.get(value, f"{value:.2f}")
    return f"Grader {name}: {_short(text)} for {_short(row.target)}: {verdict}"


def _spread(rows: Sequence[Example], most: int) -> Sequence[Example]:
    """At most so many rows, evenly, as files may be sorted."""
    return rows[:: -(-len(rows) // most)] if rows else rows


def _name(spec: GraderSpec) -> str:
    return spec if isinstance(spec, str) else str(spec.get("name", ""))


def _decimal(spec: GraderSpec) -> Mark | None:
    """The decimal mark that the specification names, None for auto."""
    if isinstance(spec, str) or _name(spec) != "number":
        return None
    return decimal_mark(spec.get("decimal", "auto"))


def _short(text: str) -> str:
    return repr(text if len(text) <= SHORT else text[: SHORT - 1] + "…")
