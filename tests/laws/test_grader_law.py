"""Law 8: the reference answer scores full marks; a crash is counted, never scored; n = 0 is refused."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from finetooth.errors import GradeError
from finetooth.evaluation.candidates import Prediction
from finetooth.evaluation.graders import BUILT_IN, PREFERENCE
from finetooth.evaluation.runner import evaluate
from finetooth.types import Answer, Example, Message

TARGETS = [
    "7",
    "-1,250.75",
    "card_arrival",
    "Yes",
    "a b\n c",
    "#### 12",
    "Straße 5",
    "0",
    "1e3",
    "100%",
    "É 2",
]
WRITTEN = sorted({*BUILT_IN} - {PREFERENCE})  # that one grades a decision, not a text that a model wrote


@dataclass
class Fixed:
    """Answers every row by a function of the example."""

    name: str
    right: range
    notes: list[str] = field(default_factory=list)

    def predict(self, examples: Sequence[Example]) -> Iterator[Prediction]:
        for index in reversed(range(len(examples))):
            yield Prediction(index, examples[index].target if index in self.right else "wrong", 5, 2)


def examples(n: int) -> list[Example]:
    return [Example(str(i), (Message("user", f"q{i}"),), (Answer(f"a{i}"),)) for i in range(n)]


@pytest.mark.parametrize("name", WRITTEN)
def test_the_reference_answer_scores_full_marks(name: str) -> None:
    for target in TARGETS:
        if name == "json":
            target = json.dumps({"a": [target, None], "b": 1.5})
        if name == "number" and not any(character.isdigit() for character in target):
            continue
        score = BUILT_IN[name](Example("a", (), (Answer(target),)), target)
        assert (score.value, score.error) == (1.0, None), target


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize(
    "text", ["", " ", "\0", "\ud800", "9" * 10_000, "1e999", "{" * 100, "-", "####", "٣,٤"]
)
def test_bad_model_output_is_wrong_and_no_error(name: str, text: str) -> None:
    target = '{"card": 7}' if name == "json" else "card 7"
    score = BUILT_IN[name](Example("a", (), (Answer(target),)), text)
    assert (score.value, score.error) == (0.0, None)


@pytest.mark.parametrize(("text", "value"), [("the good one", 1.0), ("the bad one", 0.0), ("", 0.5)])
def test_a_decision_between_two_answers_is_right_or_wrong_or_a_tie(text: str, value: float) -> None:
    pair = (Answer("the good one", role="chosen"), Answer("the bad one", role="rejected"))
    score = BUILT_IN[PREFERENCE](Example("a", (), pair), text)
    assert (score.value, score.error) == (value, None)


def test_what_is_no_decision_is_an_error_and_no_score() -> None:
    pair = (Answer("the good one", role="chosen"), Answer("the bad one", role="rejected"))
    score = BUILT_IN[PREFERENCE](Example("a", (), pair), "another one")
    assert score.value is None and "neither" in (score.error or "")


def test_a_crash_is_counted_and_never_scored() -> None:
    def crashes(example: Example, text: str) -> bool:
        if int(example.id) < 10:
            raise ZeroDivisionError("planted")
        return text == example.target

    candidates = [Fixed("zero-shot", range(40)), Fixed("tuned", range(100))]
    result = evaluate(examples(100), candidates, crashes, "crashes", "validation")
    zero_shot, tuned = result.summary["candidates"]
    assert (zero_shot["score"], zero_shot["errors"]) == (30 / 90, 10)
    assert (tuned["score"], tuned["errors"]) == (1.0, 10)
    assert result.summary["comparison"]["verdict"] == "not proven"
    assert "the grader failed on 20 answers" in result.summary["words"]
    failed = [record for record in result.records if record.error]
    assert {(record.score, record.error) for record in failed} == {(None, "ZeroDivisionError: planted")}
    json.dumps(result.summary, allow_nan=False)


def test_the_same_without_the_crash_is_better() -> None:
    candidates = [Fixed("zero-shot", range(40)), Fixed("tuned", range(100))]
    result = evaluate(examples(100), candidates, BUILT_IN["exact"], "exact", "validation")
    assert result.summary["comparison"]["verdict"] == "better"


def test_zero_rows_are_refused() -> None:
    with pytest.raises(GradeError, match="test split has no rows"):
        evaluate([], [Fixed("tuned", range(1))], BUILT_IN["exact"], "exact", "test")


def test_zero_graded_rows_are_refused() -> None:
    with pytest.raises(
        GradeError, match=r"failed on every one of 3 answers of tuned.*has no expected answer"
    ):
        nothing = [Example(str(i), (Message("user", "q"),), ()) for i in range(3)]
        evaluate(nothing, [Fixed("tuned", range(3))], BUILT_IN["exact"], "exact", "test")
