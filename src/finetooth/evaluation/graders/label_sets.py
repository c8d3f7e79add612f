"""The grader of several labels: the sets of labels that expected answers and answers name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

from finetooth.evaluation.graders.forms import fold, folded, normalise_text, unfenced, without_prefix
from finetooth.evaluation.graders.shared import difference, expected_answers, no_expected_answer
from finetooth.types import Example, Score

Labels = dict[str, str]  # label in one case -> label as written, in order

# What may stand between the labels of an answer, and after the last letter of one.
_LEAD = re.compile(
    r"(?:[\s,;|/、\"'`*•\[\](){}]|[-&+]\s|#(?=\w)|\d{1,3}[.)]\s|(?:and|und|et|y)\s)*", re.IGNORECASE
)
_BETWEEN = r"\s*(?:[,;\n|/、]|\s(?:and|und|et|y|[&+])\s|\s#(?=\w)|$)"
_AFTER = re.compile(rf"[\"'`*\])}}]*\.?[\"'`*\])}}]*{_BETWEEN}", re.IGNORECASE)
_UNKNOWN = re.compile(rf"[^\n]+?(?={_BETWEEN})", re.IGNORECASE)
_MARKS = " \"'`*[]"
_NONE = {"none", "no label", "no labels", "n/a", "-", "[]", "{}", "empty", "(none)"}


def labels(example: Example, text: str, strict: bool = False) -> Score:
    """F1 of the set of labels in the answer against the expected set. Ignores order and case.

    Expected labels are a JSON list, or separated by line ends, else semicolons, else commas. In an answer
    they may also stand in a list with marks or numbers, in quotes or emphasis, or be joined by "and"; an
    expected label that holds a comma or an "and" stays one. strict: the answer is separated by commas,
    semicolons or line ends, or is a JSON list.
    """
    scores = []
    for answer in expected_answers(example):
        want = _separated(answer) if strict else expected_labels(answer)
        got = _separated(text) if strict else answered_labels(text, want)
        shared = len(got.keys() & want.keys())
        value = 2 * shared / (len(got) + len(want)) if got or want else 1.0
        missing = [want[key] for key in want if key not in got]
        wrong = [got[key] for key in got if key not in want]
        reason = difference(missing, wrong, "not expected")
        scores.append(Score(value, reason, ", ".join(got.values()), ", ".join(want.values())))
    return max(scores, key=lambda score: score.value or 0.0) if scores else no_expected_answer()


def label_names(answers: Iterable[str]) -> tuple[str, ...]:
    """The distinct labels of answers with several labels each, sorted."""
    return tuple(sorted({label for answer in answers for label in expected_labels(answer).values()}))


def expected_labels(text: str) -> Labels:
    """The labels of an expected answer, which is written in one way: a list in JSON, or one separator."""
    listed = _listed(text)
    if listed is not None:
        return _set(listed)
    separator = next((one for one in "\n;" if one in text.strip()), ",")
    return _set(text.split(separator))


def answered_labels(text: str, known: Labels) -> Labels:
    """The labels of an answer in any usual form. known: labels that are recognised whole."""
    text = without_prefix(unfenced(fold(text)).strip())
    listed = _listed(text)
    if listed is not None:
        return _set(listed)
    if not known and normalise_text(text).casefold().rstrip(".") in _NONE:
        return {}
    lines = "\n".join(normalise_text(line) for line in text.splitlines())
    folds = {folded(label).casefold(): label for label in known.values()}
    lengths = sorted(set(map(len, folds)), reverse=True)
    lower = lines.casefold()
    lines = lines if len(lines) == len(lower) else lower  # folding some letters changes the length
    found: list[str] = []
    at = _LEAD.match(lower).end()  # type: ignore[union-attr]  # it matches the empty text
    while at < len(lower):
        label = next(
            (one for size in lengths if (one := lower[at : at + size]) in folds and _ends(lower, at + size)),
            None,
        )
        if label is None and (chunk := _UNKNOWN.match(lower, at)):
            found.append(lines[at : chunk.end()].rstrip(". "))
            at = max(chunk.end(), at + 1)
        elif label is not None:
            found.append(folds[label])
            at += len(label)
        end = _AFTER.match(lower, at)
        at = end.end() if end else at
        at = max(at, _LEAD.match(lower, at).end())  # type: ignore[union-attr]
        if label is None and end is None:
            at += 1
    return _set(found)


def _ends(text: str, at: int) -> bool:
    return _AFTER.match(text, at) is not None


def _listed(text: str) -> list[str] | None:
    """The items of a JSON list, or of an object that holds one list and nothing else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None  # not JSON, or nested too deeply
    if isinstance(value, dict) and len(value) == 1:
        value = next(iter(value.values()))
    return [str(part) for part in value] if isinstance(value, list) else None


def _set(parts: Sequence[str]) -> Labels:
    texts = (folded(part).strip(_MARKS) for part in parts)
    return {part.casefold(): part for part in texts if part}


def _separated(text: str) -> Labels:
    parts = re.split(r"[,;\n]", text)
    try:
        listed = json.loads(text)
        parts = [str(part) for part in listed] if isinstance(listed, list) else parts
    except (ValueError, RecursionError):
        pass
    found = (normalise_text(part).strip(" \"'[]") for part in parts)
    return {part.casefold(): part for part in found if part}
