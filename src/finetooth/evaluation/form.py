"""Content against form: grades that forgive how an answer is written, and verdicts that need more than form.

Answers that a model wrote are graded twice by the same grader: as they are, and by the best of what they
stand for when form is forgiven (answer_content.py). Labels that a model chose have no form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from finetooth.evaluation.answer_content import compatible, contents
from finetooth.evaluation.graders import Grader, grade_all
from finetooth.evaluation.graders.forms import expected_readings, fold
from finetooth.evaluation.graders.shared import expected_answers
from finetooth.types import Answer, Example, Score

FORM = "quotes, list marks, code fences and words around the answer"
WHOLE = ("exact", "label")  # graders of all of the answer, for which the expected answer has other forms too
SAME = 0.0005  # differences that are equal to the digits shown


def lenient_scores(
    name: str, grader: Grader, pairs: Sequence[tuple[Example, str]], score_R: Sequence[Score]
) -> list[Score]:
    """The scores of answers when their form is forgiven, each at least that of the answer as it is.

    name: of the grader, without options. pairs: rows and answers; score_R: their scores as they are. An
    answer that names another label of these rows is not forgiven. What the grader failed on stays an error.
    """
    labels = _Labels([str(example.tags["label"]) for example, _ in pairs if example.tags.get("label")])
    found: list[tuple[int, Example, str]] = []
    for row, ((example, text), score) in enumerate(zip(pairs, score_R, strict=True)):
        if score.value is None or score.value >= 1 or labels.names_another(example, text):
            continue
        asked = _with_other_forms(example) if name in WHOLE else example
        found += [(row, asked, form) for form in (text, *contents(text))[name not in WHOLE :]]
    lenient = list(score_R)
    graded = grade_all(grader, [(example, form) for _, example, form in found])
    for (row, _, _), score in zip(found, graded, strict=True):
        if score.value is not None and score.value > (lenient[row].value or 0.0):
            lenient[row] = score
    return lenient


def _with_other_forms(example: Example) -> Example:
    """The row with the other forms of its expected answers as further right ones."""
    more = (form for one in expected_answers(example) for form in expected_readings(compatible(one)))
    return replace(example, answers=(*example.answers, *(Answer(form, "reference") for form in more)))


class _Labels:
    """The labels of the rows, to be found in answers: the longest first, as whole words."""

    def __init__(self, labels: Sequence[str]) -> None:
        names = sorted({fold(label).casefold() for label in labels}, key=len, reverse=True)
        self._any = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, names))})(?!\w)") if names else None

    def names_another(self, example: Example, text: str) -> bool:
        """Whether an answer has a label that the row has not."""
        if self._any is None:
            return False
        own = {fold(one).casefold() for one in (*expected_answers(example), str(example.tags.get("label")))}
        return any(label not in own for label in self._any.findall(fold(text).casefold()))


def settle(result: Mapping[str, Any], lenient: Mapping[str, Any] | None) -> dict[str, Any]:
    """A comparison with that of the lenient grades under `lenient`; None where no answer has a form.

    `better` needs both: a gain that vanishes when form is forgiven is one that a line of code after the
    prompt would bring. `strict_verdict` is that of the answers as they are. `worse` stays, since the answers
    are used as they are.
    """
    if lenient is None:
        return dict(result)
    kept = {key: lenient[key] for key in ("difference", "low", "high", "p", "verdict")}
    strict = result["verdict"]
    verdict = "not proven" if strict == "better" != lenient["verdict"] else strict
    return {**result, "verdict": verdict, "strict_verdict": strict, "lenient": kept}


def by_form_alone(result: Mapping[str, Any]) -> bool:
    """Whether the candidate is better as answers are written, and not proven better in what they say."""
    strict = result.get("strict_verdict")
    return bool(strict == "better" != result["verdict"]) and not result.get("withdrawn")


def remaining(result: Mapping[str, Any]) -> str:
    """How much of the difference remains when form is forgiven, as a sentence; "" where there is no form."""
    lenient = result.get("lenient")
    if lenient is None:
        return ""
    if abs(lenient["difference"] - result["difference"]) < SAME:
        return "None of this is form: the difference is the same when form is forgiven."
    interval = f"95% confidence interval {_points(lenient['low'])} to {_points(lenient['high'])}"
    if result["difference"] <= 0:
        left = _points(lenient["difference"])
        return f"When form is forgiven ({FORM}), the difference is {left} points ({interval})."
    gain, left = f"{100 * result['difference']:.1f}", _points(lenient["difference"], "")
    return f"Of {gain} points, {left} remain when form is forgiven ({FORM}; {interval})."


def _points(difference: float, sign: str = "+") -> str:
    return f"{100 * difference:{sign}.1f}".replace("-", "−")
