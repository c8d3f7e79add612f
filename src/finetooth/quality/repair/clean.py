"""Applies the operations of `data.clean` in order: rows kept, changed, and dropped with a reason."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from finetooth.config.cleaning import Operation
from finetooth.data.examples import content_id, source_location
from finetooth.data.split import uniform
from finetooth.errors import DataError
from finetooth.privacy.masking import mask, redact
from finetooth.quality.repair.text_repair import fix_encoding, normalise_space, strip_html
from finetooth.quality.rules.text import empty_answers, empty_questions, texts
from finetooth.types import Example

TEXT: Mapping[str, Callable[[str], str]] = {
    "fix_encoding": fix_encoding,
    "strip_html": strip_html,
    "normalise_space": normalise_space,
    "mask_pii": mask,
}
SHOWN = 5  # example changes per operation
_LONGEST = 300  # maximum characters shown of a text
_STYLES: tuple[dict[str, Any], ...] = tuple(
    {"ensure_ascii": ascii, "separators": separators, "indent": indent}
    for indent, separators in ((None, (", ", ": ")), (None, (",", ":")), (2, (",", ": ")), (4, (",", ": ")))
    for ascii in (False, True)
)


@dataclass(frozen=True, slots=True)
class Change:
    """A text before and after an operation, with personal data and secrets masked."""

    id: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class CleaningStep:
    """Result of one operation: rows kept (including changed ones), dropped and changed, with examples."""

    operation: str
    kept: int
    dropped: int
    changed: int
    examples: tuple[Change, ...] = ()
    note: str = ""

    def plus(self, other: CleaningStep) -> CleaningStep:
        """The combined result for this source and another."""
        return CleaningStep(
            self.operation,
            self.kept + other.kept,
            self.dropped + other.dropped,
            self.changed + other.changed,
            (*self.examples, *other.examples)[:SHOWN],
            " ".join(filter(None, (self.note, other.note))),
        )

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "operation": self.operation,
            "kept": self.kept,
            "dropped": self.dropped,
            "changed": self.changed,
            "examples": [{"id": one.id, "before": one.before, "after": one.after} for one in self.examples],
            "note": self.note,
        }


@dataclass(frozen=True, slots=True)
class CleaningResult:
    """The remaining rows in order, the result of each operation, and why each dropped row was, by id."""

    examples: list[Example]
    steps: tuple[CleaningStep, ...] = ()
    dropped: Mapping[str, str] = field(default_factory=dict)


def merge_steps(sources: Sequence[Sequence[CleaningStep]]) -> list[CleaningStep]:
    """The result of each operation summed over several sources, in the order of the first."""
    steps: dict[str, CleaningStep] = {}
    for step in (step for steps in sources for step in steps):
        old = steps.get(step.operation)
        steps[step.operation] = step if old is None else old.plus(step)
    return list(steps.values())


def clean(examples: Sequence[Example], operations: Sequence[Operation], seed: int) -> CleaningResult:
    """The rows after the operations, applied in the given order.

    Text operations apply to messages, answers, reasoning and tool-call arguments; a row whose question or
    answer becomes empty is dropped. A label changes together with its tag, except by mask_pii, which skips
    labels. Deterministic for given rows, operations and seed. Raises DataError if no row has the column of
    balance.
    """
    rows = list(examples)
    steps: list[CleaningStep] = []
    dropped: dict[str, str] = {}
    for operation in operations:
        if operation.name in TEXT:
            rows, step, dropped_here = _over_texts(rows, operation.name)
        else:
            rows, step, dropped_here = _over_rows(rows, operation, seed)
        steps.append(step)
        dropped |= dropped_here
    return CleaningResult(rows, tuple(steps), dropped)


# --- texts ---


def _over_texts(rows: Sequence[Example], name: str) -> tuple[list[Example], CleaningStep, dict[str, str]]:
    kept: list[Example] = []
    shown: list[Change] = []
    dropped: dict[str, str] = {}
    changed = 0
    for row in rows:
        new = changed_row(row, name)
        if _emptied(row, new):
            dropped[row.id] = f"{name} left its question or answer empty"
            continue
        kept.append(new)
        if new is not row:
            changed += 1
            if len(shown) < SHOWN:
                shown.append(_change(row, new, name))
    return kept, CleaningStep(name, len(kept), len(dropped), changed, tuple(shown)), dropped


def changed_row(row: Example, name: str) -> Example:
    """The example after a text operation; the same object if nothing changed."""
    operation = TEXT[name]
    label = row.tags.get("label")
    context = tuple(
        replace(one, content=map_text(one.content, operation), more=_more(one.more, operation))
        for one in row.context
    )
    tags: Mapping[str, Any] = row.tags
    if label is None:
        answers = tuple(
            replace(one, text=map_text(one.text, operation), more=_more(one.more, operation))
            for one in row.answers
        )
    else:
        new = label if name == "mask_pii" else operation(label) or label
        answers = tuple(
            replace(answer, text=new) if answer.text == label else answer for answer in row.answers
        )
        tags = {**row.tags, "label": new}
    if context == row.context and answers == row.answers:
        return row
    return replace(row, context=context, answers=answers, tags=tags)


def _more(more: Mapping[str, Any], operation: Callable[[str], str]) -> Mapping[str, Any]:
    """Reasoning and tool calls; names and ids of calls are kept, since other messages refer to them."""
    found = dict(more)
    for key in ("reasoning_content", "tool_calls"):
        if key in found:
            found[key] = map_text(found[key], operation, kept=("id", "name", "type"))
    return found if found != dict(more) else more


def map_text(value: Any, operation: Callable[[str], str], kept: Sequence[str] = ()) -> Any:
    """A JSON value with the operation applied to every string except keys and values of keys in `kept`.

    In a string that is itself a JSON object or list, the operation is applied to the strings inside.
    """
    if isinstance(value, str):
        return _over_text(value, operation)
    if isinstance(value, Mapping):
        return {
            key: inner if key in kept else map_text(inner, operation, kept) for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return type(value)(map_text(inner, operation, kept) for inner in value)
    return value


def _over_text(text: str, operation: Callable[[str], str]) -> str:
    if text.lstrip()[:1] not in ("{", "["):
        return operation(text)
    try:
        value = json.loads(text, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError):
        return operation(text)
    if (new := map_text(value, operation)) == value:
        return text
    style = next((style for style in _STYLES if json.dumps(value, **style) == text.strip()), _STYLES[0])
    return json.dumps(new, **style)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("duplicate key")
    return dict(pairs)


def _emptied(old: Example, new: Example) -> bool:
    """Whether a text operation left a turn empty that had text before."""
    return any(a.strip() and not b.strip() for a, b in zip(texts(old), texts(new), strict=True))


def _change(old: Example, new: Example, name: str) -> Change:
    pairs = zip(texts(old), texts(new), strict=True)
    one, other = next(((a, b) for a, b in pairs if a != b), ("(reasoning or a tool call)", "(changed)"))
    end = min(len(one), len(other))
    at = next((k for k in range(end) if one[k] != other[k]), end)
    hide = redact if name == "mask_pii" else mask
    return Change(old.id, _window(hide(one), at), _window(mask(other), at))


def _window(text: str, at: int) -> str:
    """The part of a long text around a position."""
    if len(text) <= _LONGEST:
        return text
    start = max(0, min(at - _LONGEST // 3, len(text) - _LONGEST))
    end = start + _LONGEST
    return ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")


# --- rows ---


def _over_rows(
    rows: Sequence[Example], operation: Operation, seed: int
) -> tuple[list[Example], CleaningStep, dict[str, str]]:
    note = ""
    if operation.name == "dedupe":
        dropped = _copies(rows)
    elif operation.name == "drop_empty":
        dropped = _empties(rows)
    else:
        dropped, note = _surplus(rows, operation, seed)
    kept = [row for row in rows if row.id not in dropped]
    return kept, CleaningStep(operation.name, len(kept), len(dropped), 0, (), note), dropped


def _copies(rows: Sequence[Example]) -> dict[str, str]:
    """Rows with the same normalised context and answers as an earlier row."""
    first: dict[str, Example] = {}
    dropped = {}
    for row in rows:
        earlier = first.setdefault(content_id(row), row)
        if earlier is not row:
            dropped[row.id] = f"a copy of {source_location(earlier)}"
    return dropped


def _empties(rows: Sequence[Example]) -> dict[str, str]:
    """Rows whose answer, or whose question without a system message, has no content."""
    alone = [row for row in rows if not any(message.role == "system" for message in row.context)]
    empty_question_ids = set(empty_questions(rows)) & {row.id for row in alone}
    empty_answer_ids = empty_answers(rows)
    return {
        row.id: "its answer has no content" if row.id in empty_answer_ids else "its question has no content"
        for row in rows
        if row.id in empty_answer_ids or row.id in empty_question_ids
    }


def _surplus(rows: Sequence[Example], operation: Operation, seed: int) -> tuple[dict[str, str], str]:
    """Surplus rows of the larger classes, chosen by a hash; rows without a class are kept."""
    classes: dict[str, list[Example]] = {}
    for row in rows:
        value = _class(row, operation.by)
        if value:
            classes.setdefault(value, []).append(row)
    if not classes:
        if not rows:
            return {}, ""
        known = sorted({key for row in rows for key in row.tags} - {"file", "line", "sheet_row"})
        raise DataError(
            f"data.clean: balance: no row has {operation.by!r}. "
            + (
                f"The rows have: {', '.join(known[:20])}."
                if known
                else "The rows have no columns to balance by."
            )
        )
    counts = Counter({name: len(members) for name, members in classes.items()})
    smallest = min(sorted(classes), key=lambda name: counts[name])
    most = math.floor(operation.max_ratio * counts[smallest])
    dropped = {}
    for name in sorted(classes):
        keyed = sorted(classes[name], key=lambda row: (uniform(seed, f"balance\0{content_id(row)}"), row.id))
        for row in keyed[most:]:
            dropped[row.id] = f"{operation.by} {redact(name)[:60]!r} has more than {most:,} rows"
    note = (
        f"The smallest class by {operation.by} is {redact(smallest)[:60]!r} with {counts[smallest]:,} rows, "
        f"so no class keeps more than {most:,}."
    )
    return {row.id: dropped[row.id] for row in rows if row.id in dropped}, note


def _class(row: Example, by: str) -> str:
    """The row's value of a column; a column whose name finetooth reserves is stored as `name_`."""
    value = row.tags.get(by, row.tags.get(f"{by}_"))
    return "" if value is None else str(value)
