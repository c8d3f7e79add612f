"""One code path for all candidates: the summary, the choice of a baseline, the verdict in words."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest

from finetooth.errors import GradeError
from finetooth.evaluation.baselines import BagOfWords, Majority
from finetooth.evaluation.candidates import Prediction
from finetooth.evaluation.graders import BUILT_IN, guard
from finetooth.evaluation.runner import Evaluation, evaluate
from finetooth.evaluation.summary import best_prompting
from finetooth.types import Answer, Example, Message


@dataclass
class Fixed:
    """Right on the given rows."""

    name: str
    right: Sequence[int]
    stop: str = "stop"
    notes: list[str] = field(default_factory=list)

    def predict(self, examples: Sequence[Example]) -> Iterator[Prediction]:
        self.notes.append("said while answering")
        for index in reversed(range(len(examples))):
            yield Prediction(index, examples[index].target if index in self.right else "no", 10, 3, self.stop)


def rows(n: int) -> list[Example]:
    return [Example(f"id{i}", (Message("user", f"q{i}"),), (Answer(f"a{i}"),)) for i in range(n)]


def run(*candidates: Fixed, n: int = 100, **more: object) -> Evaluation:
    return evaluate(rows(n), candidates, BUILT_IN["exact"], "exact", "validation", **more)


def test_the_summary_has_the_names_of_the_contract(tmp_path: Path) -> None:
    result = run(Fixed("zero-shot", range(31)), Fixed("tuned", range(16, 100), stop="length"))
    result.write(tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert (summary["n"], summary["grader"], summary["split"]) == (100, "exact", "validation")
    first, second = summary["candidates"]
    assert {"name", "score", "low", "high", "errors", "prompt_tokens", "completion_tokens"} <= set(first)
    assert (first["name"], first["score"], first["truncated"]) == ("zero-shot", 0.31, 0)
    assert (second["score"], second["truncated"], second["notes"]) == (0.84, 100, ["said while answering"])
    assert first["low"] < 0.31 < first["high"]
    comparison = summary["comparison"]
    assert {"baseline", "candidate", "difference", "low", "high", "p", "verdict"} <= set(comparison)
    assert (comparison["gained"], comparison["lost"]) == (69, 16)
    assert comparison["difference"] == pytest.approx(0.53)
    assert comparison["verdict"] == "better"
    lines = (tmp_path / "records.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["id"] for record in records] == [f"id{i}" for i in range(100)] * 2
    names = "id candidate text score error reason got want prompt_tokens completion_tokens stop"
    assert list(records[0]) == names.split()
    assert sum(record["score"] for record in records[:100]) == 31


def test_the_baseline_is_the_best_prompting_candidate_or_the_named_one() -> None:
    candidates = [
        Fixed("majority", range(99)),
        Fixed("few-shot-4", range(50)),
        Fixed("zero-shot", range(50)),
        Fixed("tuned", range(60)),
    ]
    free = run(*candidates)
    assert best_prompting(free.summary) == "few-shot-4"
    assert free.summary["comparison"]["baseline"] == "few-shot-4"
    assert run(*candidates, baseline_name="zero-shot").summary["comparison"]["baseline"] == "zero-shot"
    with pytest.raises(GradeError, match="'few-shot-8' was not evaluated"):
        run(*candidates, baseline_name="few-shot-8")


def test_not_proven_says_what_could_have_been_seen() -> None:
    result = run(Fixed("zero-shot", range(50)), Fixed("tuned", range(2, 55)), n=100)
    assert result.summary["comparison"]["verdict"] == "not proven"
    mde = result.summary["comparison"]["mde"]
    assert f"80% power to detect a true difference of {100 * mde:.1f} points" in result.summary["words"]


def test_words_for_few_rows_worse_looks_and_nothing_to_compare() -> None:
    few = run(Fixed("zero-shot", range(0)), Fixed("tuned", range(29)), n=29)
    assert few.summary["words"].startswith("Not proven: 29 rows are too few")
    worse = run(Fixed("zero-shot", range(90)), Fixed("tuned", range(40)), look=3)
    assert worse.summary["words"].startswith("Worse than the best prompt: the tuned model scores 40.0%")
    assert "−50.0 points" in worse.summary["words"]
    assert worse.summary["words"].endswith(
        "look 3 at the sealed test: each further look weakens its evidence."
    )
    alone = run(Fixed("zero-shot", range(90)))
    assert alone.summary["comparison"] is None
    assert alone.summary["words"].startswith("No verdict")


def test_a_bag_of_words_that_does_as_well_is_said() -> None:
    candidates = [Fixed("zero-shot", range(10)), Fixed("tuned", range(80))]
    assert "bag of words" not in run(*candidates, Fixed("bag-of-words", range(30))).summary["words"]
    equal = run(*candidates, Fixed("bag-of-words", range(79))).summary
    assert equal["comparison"]["verdict"] == "better"
    assert "not proven better than a bag of words with logistic regression (79.0%)" in equal["words"]
    higher = run(*candidates, Fixed("bag-of-words", range(95))).summary["words"]
    assert "scores higher still (95.0%)" in higher


def test_further_graders_are_shown_beside_the_first() -> None:
    result = run(Fixed("zero-shot", range(10)), secondary_graders={"number": BUILT_IN["number"]})
    also = result.summary["candidates"][0]["also"]["number"]
    assert also["score"] == 0.1
    assert also["errors"] == 0


def test_every_row_is_answered_once() -> None:
    class Forgetful(Fixed):
        def predict(self, examples: Sequence[Example]) -> Iterator[Prediction]:
            return iter(list(super().predict(examples))[:-1])

    class Twice(Fixed):
        def predict(self, examples: Sequence[Example]) -> Iterator[Prediction]:
            yield from super().predict(examples)
            yield Prediction(3, "again")

    with pytest.raises(GradeError, match="tuned answered 99 of 100 rows"):
        run(Forgetful("tuned", range(3)))
    with pytest.raises(GradeError, match="answered row 3 twice"):
        run(Twice("tuned", range(3)))
    with pytest.raises(GradeError, match="different names"):
        run(Fixed("tuned", range(3)), Fixed("tuned", range(3)))


def test_progress_counts_to_the_end() -> None:
    seen: list[tuple[str, int, int]] = []
    run(Fixed("zero-shot", range(5)), n=7, progress=lambda *step: seen.append(step))
    assert seen == [("zero-shot", done, 7) for done in range(1, 8)]


SPAM = ["win a prize now", "free money click", "cheap pills offer", "claim your prize money"]
HAM = ["see you at lunch", "the meeting is at noon", "call mum tonight", "thanks for the lift"]


def labelled(texts: Sequence[str], name: str) -> list[Example]:
    return [Example(text, (Message("user", text),), (Answer(name),)) for text in texts]


def test_the_cheap_baselines_learn_from_the_train_split_alone() -> None:
    train = labelled(SPAM, "spam") + labelled([*HAM, "one more"], "ham")
    test = labelled(["free prize money"], "spam") + labelled(["lunch at noon tonight"], "ham")
    result = evaluate(
        test, [Majority(train), BagOfWords(train)], guard(BUILT_IN["label"]), "label", "validation"
    )
    assert [record.text for record in result.records] == ["ham", "ham", "spam", "ham"]
    assert [asdict(record)["prompt_tokens"] for record in result.records] == [0] * 4
    assert [entry["score"] for entry in result.summary["candidates"]] == [0.5, 1.0]


def test_a_single_label_needs_no_classifier() -> None:
    bag = BagOfWords(labelled(SPAM, "spam"))
    assert {answer.text for answer in bag.predict(labelled(HAM, "ham"))} == {"spam"}
    assert bag.notes == ["the train split has one label only, which is always the answer"]


def test_answers_on_which_the_grader_failed_are_counted_and_choose_no_baseline() -> None:
    """A candidate that could be graded on 3 of 100 answers is not the best prompt by those 3."""

    def grade(example: Example, text: str) -> bool:
        if text == "no" and int(example.id[2:]) >= 3:
            raise ValueError("planted")
        return text == example.target

    candidates = [Fixed("zero-shot", range(3)), Fixed("few-shot-4", range(90)), Fixed("tuned", range(100))]
    result = evaluate(rows(100), candidates, grade, "own", "validation").summary
    assert [entry["errors"] for entry in result["candidates"]] == [97, 10, 0]
    assert best_prompting(result) == result["comparison"]["baseline"] == "few-shot-4"
    assert result["comparison"]["verdict"] == "not proven"
    assert "107 answers" in result["words"]
    assert "97 of 100 of zero-shot, 10 of 100 of few-shot-4 are left out" in result["words"]
    assert "over the 90 rows that both have a score for" in result["words"]
