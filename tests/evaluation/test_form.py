"""Content against form: what leniency forgives, what it must not, and verdicts that form cannot bring."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import pytest

from finetooth.evaluation.answer_content import MOST_FORMS, contents
from finetooth.evaluation.candidates import Prediction
from finetooth.evaluation.form import by_form_alone, lenient_scores, remaining, settle
from finetooth.evaluation.graders import resolve, without_options
from finetooth.evaluation.runner import evaluate
from finetooth.evaluation.statistics import compare
from finetooth.types import Answer, Example, Message

STRICT = {"name": "exact", "strict": True}
FORMS = [
    '"{}"',
    "“{}”",
    "- {}",
    "1. {}",
    "**{}**",
    "{}.",
    "Answer: {}",
    "The answer is **{}**.",
    "{} (see step 2)",
    "```\n{}\n```",
    "Sure! Here is the answer:\n\n{}\n\nI hope this helps!",
    "The calculation gives it.\n```\n{}\n```",
    "{}\n\nThis is the sum of both.",
    "It is {}.",
    "\u200b{}\u00a0",
]


def row(want: str, number: int = 0, label: bool = False) -> Example:
    tags = {"label": want} if label else {}
    return Example(f"r{number}", (Message("user", f"{number}?"),), (Answer(want),), tags)


def scores(spec: object, pairs: Sequence[tuple[Example, str]]) -> list[tuple[float | None, float | None]]:
    """Of each answer: the score as it is, and the score when its form is forgiven."""
    name, grader = resolve(spec, "qa")  # type: ignore[arg-type]
    strict = [grader(*pair) for pair in pairs]
    lenient = lenient_scores(without_options(name), grader, pairs, strict)
    return [(one.value, other.value) for one, other in zip(strict, lenient, strict=True)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("want", ["8", "Paris", "-12.5", "New York"])
def test_another_form_of_the_right_answer_is_right_when_form_is_forgiven(form: str, want: str) -> None:
    ((strict, lenient),) = scores(STRICT, [(row(want), form.format(want))])
    assert lenient == 1
    assert strict == 0 or form == FORMS[-1]
    assert len(contents(form.format(want))) <= MOST_FORMS


@pytest.mark.parametrize("form", FORMS)
def test_another_form_of_a_wrong_answer_stays_wrong(form: str) -> None:
    pairs = [(row(want), form.format(got)) for want, got in [("8", "9"), ("Paris", "Pari"), ("8", "18")]]
    assert scores(STRICT, pairs) == [(0, 0)] * 3


@pytest.mark.parametrize(
    ("want", "got"),
    [
        ("8", "not 8"),
        ("8", "It is not 8."),
        ("8", "The answer is not 8."),
        ("8", "8 or 9"),
        ("8", "either 8 or 9"),
        ("8", "8 (or 9)"),
        ("8", "8. Actually, it is 9."),
        ("8", "The answer is 8. No, the answer is 9."),
        ("8", "Answer: 8\nAnswer: 9"),
        ("8", "```\n8\n```\nThis is wrong."),
        ("8", "```\n8\n```\nor\n```\n9\n```"),
        ("8", "8 (9 at most)"),
        ("102", "10²"),
        ("H2O", "H₂O₂"),
        ("12", "1½"),
        ("Georgia", "Georgia (country)"),
        ("Paris", "I don't know whether the answer is Paris."),
        ("yes", "no"),
        ("good", "This is not good"),
        ("8", "-8"),
        ("Paris", "paris"),
        ("8", ""),
    ],
)
def test_other_content_is_never_forgiven(want: str, got: str) -> None:
    assert scores(STRICT, [(row(want), got)]) == [(0, 0)]


def test_a_number_that_is_denied_is_no_answer() -> None:
    pairs = [(row("8"), "not 8"), (row("8"), "It is not 8."), (row("8"), "8 or 9"), (row("8"), "8, not 7")]
    assert [lenient for _, lenient in scores("number", pairs)] == [0, 0, 0, 1]
    assert scores("number", [(row("8"), "eight (see step 8)"), (row("8"), "8 (see step 2)")])[1] == (1, 1)


def test_an_answer_that_names_another_label_is_not_forgiven() -> None:
    strict = {"name": "label", "strict": True}
    names = ["billing", "billing dispute", "delivery", "other"]
    others = [(row(name, at, True), name) for at, name in enumerate(names)]
    pairs = [
        (row("billing", 9, True), "The label is billing."),
        (row("billing dispute", 9, True), "**Billing dispute**\n\nThis is a complaint."),
        (row("billing", 9, True), "billing\n\nIt is about a delivery."),
        (row("billing", 9, True), "billing (as in billing dispute)"),
        (row("billing", 9, True), "billing/delivery"),
        (row("other", 9, True), "delivery"),
    ]
    lenient = [found for _, found in scores(strict, [*others, *pairs])][len(others) :]
    assert lenient == [1, 1, 0, 0, 0, 0]


def test_json_is_forgiven_its_wrapping_and_not_its_values() -> None:
    spec = {"name": "json", "strict": True}
    want = row('{"name": "Ada", "age": 36}')
    right = [
        'Here is the JSON: {"name": "Ada", "age": 36}',
        '```json\n{"name": "Ada", "age": 36}\n```\nI hope this helps!',
        "{'name': 'Ada', 'age': 36,}",
        '{"age": 36, "name": “Ada”}'.replace("“", '"').replace("”", '"'),
    ]
    wrong = [
        '{"name": "Ada", "age": "36"}',
        "{'name': 'Ada', 'age': 37}",
        '{"name": "Ada", "age": 36} or {"name": "Ada", "age": 37}',
        '{"name": "Ada", "years": 36}',
        "name: Ada, age: 36",
        "{'name': 'Ada', 'age': float('nan')}",
    ]
    assert [lenient for _, lenient in scores(spec, [(want, text) for text in right])] == [1] * len(right)
    found = scores(spec, [(want, text) for text in wrong])
    assert all(lenient is not None and lenient < 1 for _, lenient in found), found


def test_partial_scores_rise_by_form_alone_and_errors_stay() -> None:
    ((strict, lenient),) = scores("f1", [(row("the cat sat"), "Sure! Here is the answer:\n\nthe cat sat")])
    assert strict is not None and lenient is not None and strict < lenient == 1
    assert scores("json", [(row("no json"), "{}")]) == [(None, None)]
    assert scores("exact", [(row("a"), "x" * 50_000)]) == [(0, 0)]


@dataclass
class Says:
    """A candidate that writes given answers. written: freely, and not as a chosen label."""

    name: str
    texts: Sequence[str]
    written: bool = True
    notes: list[str] = field(default_factory=list)

    def predict(self, examples: Sequence[Example]) -> Iterator[Prediction]:
        return (Prediction(at, text, 9, 3, written=self.written) for at, text in enumerate(self.texts))


def verdict_of(prompt: Sequence[str], tuned: Sequence[str], written: bool = True) -> dict:
    examples = [row(f"answer {at}", at) for at in range(len(tuned))]
    name, grader = resolve(STRICT, "qa")
    candidates = [Says("zero-shot", prompt, written), Says("tuned", tuned, written)]
    return evaluate(examples, candidates, grader, name, "test").summary


def test_the_summary_says_how_much_of_a_gain_is_form() -> None:
    draw = random.Random(1)
    right = [f"answer {at}" for at in range(300)]
    quoted = [draw.choice(FORMS[:-1]).format(text) if at % 2 else text for at, text in enumerate(right)]
    alone = verdict_of(quoted, right)
    comparison = alone["comparison"]
    assert (comparison["verdict"], comparison["strict_verdict"]) == ("not proven", "better")
    assert comparison["difference"] == 0.5 and comparison["lenient"]["difference"] == 0
    assert alone["words"].startswith(
        "Not proven: the gain is in form, not content. Of 50.0 points, 0.0 remain"
    )
    assert [entry["lenient"]["score"] for entry in alone["candidates"]] == [1.0, 1.0]
    part = verdict_of([text if at % 4 else "wrong" for at, text in enumerate(quoted)], right)
    assert part["comparison"]["verdict"] == "better"
    assert "Of 75.0 points, 25.0 remain when form is forgiven" in part["words"]
    none = verdict_of([text if at % 4 else "wrong" for at, text in enumerate(right)], right)
    assert "the difference is the same when form is forgiven" in none["words"]


def test_chosen_labels_have_no_form() -> None:
    right = [f"answer {at}" for at in range(60)]
    summary = verdict_of([f'"{text}"' for text in right], right, written=False)
    assert summary["comparison"]["verdict"] == "better"
    assert not {"lenient", "strict_verdict"} & {*summary["comparison"], *summary["candidates"][0]}


def test_worse_stays_worse_since_answers_are_used_as_they_are() -> None:
    worse = {"difference": -0.3, "low": -0.4, "high": -0.2, "p": 0.001, "verdict": "worse"}
    same = {"difference": 0.0, "low": -0.1, "high": 0.1, "p": 1.0, "verdict": "not proven"}
    settled = settle(worse, same)
    assert settled["verdict"] == "worse" and not by_form_alone(settled)
    assert "the difference is +0.0 points" in remaining(settled)


def simulated(gain: float, reps: int, n: int = 500, other_form: float = 0.3) -> float:
    """How often the verdict is `better` where the prompt writes this share of its right answers otherwise.

    Every text is graded once; the verdicts are those of the comparisons and `settle`.
    """
    texts = ["answer", "wrong", *(form.format("answer") for form in FORMS[:-1])]
    graded = np.array(scores(STRICT, [(row("answer"), text) for text in texts]), dtype=float)
    random = np.random.default_rng(20)
    better = 0
    for _ in range(reps):
        both = random.random(n) < 0.8  # rows on which the two agree, up to the gain
        one = random.random(n) < 0.6
        other = np.where(both, one, random.random(n) < 0.6)
        other |= ~other & (random.random(n) < gain / 0.4)
        form = np.where(random.random(n) < other_form, random.integers(2, len(texts), n), 0)
        prompt, tuned = graded[np.where(one, form, 1)], graded[np.where(other, 0, 1)]
        strict, lenient = (compare(prompt[:, way], tuned[:, way]) for way in (0, 1))
        settled = settle(asdict(strict), asdict(lenient))
        better += settled["verdict"] == "better"
    return better / reps


def test_equal_content_in_other_forms_is_better_in_at_most_3_5_percent() -> None:
    assert simulated(gain=0.0, reps=1000) <= 0.035


def test_a_gain_of_15_points_in_content_is_still_better() -> None:
    assert simulated(gain=0.15, reps=200) >= 0.98
