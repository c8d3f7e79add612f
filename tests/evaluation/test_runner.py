"""One code path for all candidates: the summary, the choice of a baseline, the verdict in words."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pytest
from gate import gate
from scipy import stats

from finetooth.errors import GradeError
from finetooth.evaluation.baselines import BagOfWords, Majority
from finetooth.evaluation.candidates import Prediction
from finetooth.evaluation.graders import BUILT_IN, guard
from finetooth.evaluation.runner import Evaluation, evaluate
from finetooth.evaluation.statistics import compare, minimum_detectable_effect
from finetooth.evaluation.summary import CandidateResult, Grades, best_prompting, non_inferior, summarise
from finetooth.evaluation.verdict_words import foresight_words
from finetooth.types import Answer, Example, Message, Score


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


def test_the_baseline_is_the_strongest_prompt_and_all_are_compared() -> None:
    candidates = [
        Fixed("majority", range(99)),
        Fixed("few-shot-4", range(50)),
        Fixed("zero-shot", range(50)),
        Fixed("tuned", range(90)),
    ]
    summary = run(*candidates).summary
    assert best_prompting(summary) == "few-shot-4"
    assert summary["comparison"]["baseline"] == "few-shot-4"
    assert [one["baseline"] for one in summary["comparisons"]] == ["few-shot-4", "zero-shot"]
    assert summary["comparison"]["verdict"] == "better"
    assert "It is better than every one of the 2 prompts." in summary["words"]


def test_better_takes_better_than_every_prompt_and_names_the_one_in_the_way() -> None:
    """few-shot-4 scores highest; zero-shot scores less, but disagrees with tuned on many more rows."""
    strongest, other = Fixed("few-shot-4", range(50)), Fixed("zero-shot", [*range(38), *range(90, 100)])
    summary = run(strongest, other, Fixed("tuned", [*range(50), *range(60, 68)])).summary
    first, second = summary["comparisons"]
    assert (first["baseline"], first["verdict"]) == ("few-shot-4", "better")
    assert (second["baseline"], second["verdict"]) == ("zero-shot", "not proven")
    assert summary["comparison"] == {**first, "verdict": "not proven"}
    assert "it is not proven better than zero-shot (48.0%): the difference is +10.0" in summary["words"]
    assert summary["words"].startswith(
        "Not proven: the tuned model scores 58.0%, the best prompt (few-shot-4)"
    )
    assert f"true difference of {100 * second['mde']:.1f} points" in summary["words"]


def test_worse_takes_a_stricter_level_the_more_prompts_there_are() -> None:
    tuned = Fixed("tuned", [*range(2, 50), 70, 71, 90])
    prompts = [Fixed(f"few-shot-{k}", [*range(50), *range(70, 77)]) for k in (1, 2, 4, 8)]
    alone, all_four = run(prompts[0], tuned).summary, run(*prompts, tuned).summary
    assert 0.05 / 4 < alone["comparison"]["p"] < 0.05 and alone["comparison"]["verdict"] == "worse"
    assert {one["verdict"] for one in all_four["comparisons"]} == {"not proven"}
    assert all_four["comparison"]["verdict"] == "not proven"
    assert "To be called worse than one of 4 prompts takes p < 0.013" in all_four["words"]
    much = run(*prompts, Fixed("tuned", range(20))).summary
    assert much["comparison"]["verdict"] == "worse"
    assert "proven worse than few-shot-1 and few-shot-2" in much["words"]


@pytest.mark.parametrize("count", [150, pytest.param(2_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("rates", gate([(0.6, 0.55), (0.6,) * 8], [(0.6, 0.55)]))
def test_many_prompts_make_no_false_verdict(rates: tuple[float, ...], count: int) -> None:
    """The tuned model is as good as the best prompt. Planted: compare with the winner on 40 other rows."""
    random = np.random.default_rng(len(rates))
    names = [f"few-shot-{k}" for k in range(len(rates))]
    found: list[str] = []
    planted = 0
    for _ in range(count):
        skill = stats.norm.ppf([*rates, max(rates)])[:, None]
        shared, own = random.normal(0, 1, 216), random.normal(0, 1, (len(rates) + 1, 216))
        right = ((shared + own) / 2**0.5 < skill).astype(float)
        results = [
            CandidateResult(name, [Prediction(row, "") for row in range(216)], Grades([*map(Score, scores)]))
            for name, scores in zip([*names, "tuned"], right.tolist(), strict=True)
        ]
        found.append(summarise(results, "own", "test")["comparison"]["verdict"])
        chosen = int((random.normal(0, 2**0.5, (len(rates), 40)) < 2**0.5 * skill[:-1]).sum(1).argmax())
        planted += compare(right[chosen], right[-1]).verdict == "better"
    slack = 2 * (0.035 * 0.965 / count) ** 0.5
    assert found.count("better") / count <= 0.035 + slack
    assert found.count("worse") / count <= 0.035 + slack
    assert len(set(rates)) == 1 or planted / count >= 0.05


def test_not_proven_says_what_could_have_been_seen() -> None:
    result = run(Fixed("zero-shot", range(50)), Fixed("tuned", range(2, 55)), n=100)
    assert result.summary["comparison"]["verdict"] == "not proven"
    mde = result.summary["comparison"]["mde"]
    assert f"80% power to detect a true difference of {100 * mde:.1f} points" in result.summary["words"]


def test_words_for_few_rows_worse_and_nothing_to_compare() -> None:
    few = run(Fixed("zero-shot", range(0)), Fixed("tuned", range(29)), n=29)
    assert few.summary["words"].startswith("Not proven: 29 rows are too few")
    worse = run(Fixed("zero-shot", range(90)), Fixed("tuned", range(40)))
    assert worse.summary["words"].startswith("Worse than the best prompt: the tuned model scores 40.0%")
    assert "−50.0 points" in worse.summary["words"]
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


def test_what_a_test_can_show_is_said_before_it_is_opened() -> None:
    words = foresight_words(216, None)
    assert words.startswith("With 216 rows, the test can show a true difference of about 8.4 points")
    assert words.endswith("if the two disagree on 20% of the rows); 860 rows would show 4.3.")
    assert "too few to prove anything, which takes 30" in foresight_words(29, None)
    seen = run(Fixed("zero-shot", range(50)), Fixed("tuned", range(2, 55)), n=100).summary
    mde = minimum_detectable_effect(400, 0.07)
    assert f"about {100 * mde:.1f} points" in foresight_words(400, seen)
    assert "by the 100 validation rows" in foresight_words(400, seen)
    strict = minimum_detectable_effect(400, 0.07, 0.01)
    assert f"about {100 * strict:.1f} points" in foresight_words(400, seen, 0.01)
    alone = run(Fixed("zero-shot", range(50))).summary
    assert foresight_words(216, alone) == words


def test_a_margin_shows_non_inferiority_or_says_that_it_does_not() -> None:
    prompts = [Fixed("zero-shot", range(150)), Fixed("few-shot-4", range(120))]
    tuned = Fixed("tuned", [*range(148), 160, 170])
    near = run(*prompts, tuned, Fixed("start", range(150)), n=300, margin=0.05).summary
    assert near["non_inferior"] == {"margin": 0.05, "prompts": True, "start": True}
    assert near["comparison"]["verdict"] == "not proven"
    assert "By the declared margin of 5 points it is not inferior to any prompt and start." in near["words"]
    strict = run(*prompts, tuned, n=300, margin=0.01).summary
    assert strict["non_inferior"] == {"margin": 0.01, "prompts": False}
    low = f"{100 * min(one['low'] for one in strict['comparisons']):+.1f}".replace("-", "−")
    assert f"not shown to be non-inferior to any prompt (the lower bound is {low})" in strict["words"]
    assert "non_inferior" not in run(*prompts, tuned, n=300).summary
    few = run(Fixed("zero-shot", range(20)), Fixed("tuned", range(20)), n=29, margin=0.5).summary
    assert few["non_inferior"]["prompts"] is False


@pytest.mark.parametrize("count", [400, pytest.param(4_000, marks=pytest.mark.slow)])
def test_a_model_worse_by_the_margin_is_seldom_called_non_inferior(count: int) -> None:
    random = np.random.default_rng(4)
    shown = 0
    for gained, lost, same in random.multinomial(400, [0.06, 0.10, 0.84], count):
        base, candidate = [0] * gained + [1] * (lost + same), [1] * gained + [0] * lost + [1] * same
        shown += non_inferior([asdict(compare(base, candidate))], 0.04)
    assert shown / count <= 0.035 + 2 * (0.035 * 0.965 / count) ** 0.5
    assert shown > 0
