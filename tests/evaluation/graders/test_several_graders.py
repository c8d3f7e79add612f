"""Several graders, scores between right and wrong, groups, cut-off answers: in summary, page and terminal."""

import io
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import sacrebleu
from html_for_tests import page_of
from made_up_run import made_up_run
from rich.console import Console

from finetooth.data.examples import to_json
from finetooth.errors import GradeError
from finetooth.evaluation.candidates import Prediction
from finetooth.evaluation.graders import BUILT_IN
from finetooth.evaluation.runner import Evaluation, evaluate, row_groups
from finetooth.report.terminal import terminal_table
from finetooth.rundir import read_json, read_jsonl, write_jsonl, write_text
from finetooth.types import Answer, Example, Message

PLACES = ["Aromi", "Bibimbap House", "Clowns", "The Mill", "Zizzi", "Fitzbillies"]
FOODS = ["Chinese", "English", "Italian", "French", "Indian"]
WHERE = ["by the river", "in the city centre", "near Crowne Plaza"]


def described(n: int, group: int = 1) -> list[Example]:
    draw = random.Random(n)
    found = []
    for index in range(n):
        words = f"{draw.choice(PLACES)} serves {draw.choice(FOODS)} food {draw.choice(WHERE)}."
        tags = {"group": f"g{index // group}"} if group > 1 else {}
        found.append(Example(f"id{index:03}", (Message("user", f"q{index}"),), (Answer(words),), tags))
    return found


@dataclass
class Writer:
    """Replaces each word of the expected answer by another with this probability."""

    name: str
    wrong: float
    cut: float = 0.0
    notes: list[str] = field(default_factory=list)

    def predict(self, examples: Sequence[Example]) -> Iterator[Prediction]:
        draw = random.Random(self.name)
        for index, example in enumerate(examples):
            words = [
                draw.choice(["pub", "menu", "cheap", "kids"]) if draw.random() < self.wrong else word
                for word in example.target.split()
            ]
            stop = "length" if draw.random() < self.cut else "stop"
            yield Prediction(index, " ".join(words), 20, len(words), stop)


def run(
    n: int = 80, group: int = 1, tuned: float = 0.1, cut: float = 0.0, grader: str = "rouge", **more: object
) -> Evaluation:
    candidates = [Writer("zero-shot", 0.5, cut), Writer("few-shot-4", 0.3), Writer("tuned", tuned)]
    return evaluate(described(n, group), candidates, BUILT_IN[grader], grader, "validation", **more)


def test_every_grader_has_its_score_interval_and_difference_and_the_first_decides() -> None:
    others = {name: BUILT_IN[name] for name in ("exact", "f1", "bleu")}
    summary = run(secondary_graders=others).summary
    assert summary["comparison"]["verdict"] == "better"
    assert summary["comparison"]["baseline"] == "few-shot-4"
    also = summary["comparison"]["also"]
    assert list(also) == ["exact", "f1", "bleu"]
    for entry in summary["candidates"]:
        for name in others:
            one = entry["also"][name]
            assert 0 <= one["low"] <= one["score"] <= one["high"] <= 1
    few, tuned = summary["candidates"][1:]
    for name, difference in also.items():
        assert difference["difference"] == pytest.approx(
            tuned["also"][name]["score"] - few["also"][name]["score"]
        )
        assert difference["low"] < difference["difference"] < difference["high"]
        assert "verdict" not in difference
    primary = run(grader="f1").summary
    assert primary["candidates"][2]["score"] == tuned["also"]["f1"]["score"]
    assert primary["candidates"][2]["low"] == tuned["also"]["f1"]["low"]


def test_the_corpus_score_stands_beside_the_mean() -> None:
    result = run(grader="bleu", secondary_graders={"chrf": BUILT_IN["chrf"]})
    entry = result.summary["candidates"][2]
    texts = [record.text for record in result.records if record.candidate == "tuned"]
    wants = [example.target for example in described(80)]
    assert entry["corpus"]["value"] == pytest.approx(sacrebleu.corpus_bleu(texts, [wants]).score)
    assert entry["also"]["chrf"]["corpus"]["value"] == pytest.approx(
        sacrebleu.corpus_chrf(texts, [wants]).score
    )
    assert "corpus" not in run().summary["candidates"][0]


def test_an_evaluation_equals_itself() -> None:
    others = {"f1": BUILT_IN["f1"], "exact": BUILT_IN["exact"]}
    one, other = run(secondary_graders=others, group=3, n=120), run(secondary_graders=others, group=3, n=120)
    assert one == other


def test_rows_of_a_group_count_together_and_it_is_said() -> None:
    alone, together = run(n=120).summary, run(n=120, group=4).summary
    assert "groups" not in alone
    assert together["groups"] == 30
    assert together["comparison"]["units"] == 30
    assert alone["comparison"]["units"] == 120
    assert (
        "The 120 rows form 30 clusters (rows of one group, or with identical or nearly identical prompts)"
        in together["words"]
    )
    few = run(n=120, group=6, grader="exact").summary
    assert few["comparison"]["verdict"] == "not proven"
    assert "20 clusters are too few to prove anything, which takes 30" in few["words"]
    alike = [
        Example(str(i), (Message("user", f"q{i}"),), (Answer("a"),), {"group": f"g{i}"}) for i in range(9)
    ]
    assert row_groups(alike) is None
    assert row_groups([*alike, alike[0]]) is not None
    mixed = [*alike, Example("x", (), (Answer("a"),)), Example("y", (), (Answer("b"),)), alike[2]]
    assert len(set(row_groups(mixed) or [])) == 11


def test_rows_that_ask_the_same_are_one_piece_of_evidence() -> None:
    """240 rows of 12 questions, each with 20 references: a greedy model gives 12 answers, not 240."""
    rows = [
        Example(f"id{i:03}", (Message("user", f"Describe {i % 12}!"),), (Answer(f"It is {i}"),))
        for i in range(240)
    ]
    candidates = [Writer("zero-shot", 0.6), Writer("tuned", 0.1)]
    summary = evaluate(rows, candidates, BUILT_IN["f1"], "f1", "validation").summary
    assert (summary["groups"], summary["comparison"]["units"]) == (12, 12)
    assert summary["comparison"]["verdict"] == "not proven"
    assert "or with identical or nearly identical prompts)" in summary["words"]
    copies = [replace(row, tags={"group": f"g{i}"}) for i, row in enumerate(rows)]
    assert len(set(row_groups(copies) or [])) == 12  # groups that share a question are one


def test_answers_that_were_cut_off_are_counted_and_said() -> None:
    candidates = [Writer("zero-shot", 0.3, cut=0.6), Writer("tuned", 0.1)]
    result = evaluate(described(100), candidates, BUILT_IN["rouge"], "rouge", "validation")
    cut = result.summary["candidates"][0]["truncated"]
    assert 40 < cut < 80
    assert f"Of 100 answers each, {cut} of zero-shot were truncated" in result.summary["words"]
    assert "evaluate.max_tokens" in result.summary["words"]
    assert "truncated" not in run().summary["words"]


def test_a_grader_that_fails_in_second_place_is_counted_apart() -> None:
    def fails(example: Example, text: str) -> float:
        return 1 / 0 if example.id < "id010" else 0.5

    summary = run(secondary_graders={"fails": fails, "never": lambda example, text: "?"}).summary
    assert summary["comparison"]["verdict"] == "better"
    for entry in summary["candidates"]:
        assert (entry["also"]["fails"]["score"], entry["also"]["fails"]["errors"]) == (0.5, 10)
        assert (entry["also"]["never"]["score"], entry["also"]["never"]["errors"]) == (None, 80)
    assert list(summary["comparison"]["also"]) == ["fails"]


def test_records_hold_what_every_grader_says(tmp_path: Path) -> None:
    def fails(example: Example, text: str) -> float:
        return 1 / 0

    result = run(secondary_graders={"exact": BUILT_IN["exact"], "fails": fails})
    result.write(tmp_path)
    lines = list(read_jsonl(tmp_path / "records.jsonl"))
    tuned = [line for line in lines if line["candidate"] == "tuned"]
    assert all(list(line["also"]) == ["exact", "fails"] for line in lines)
    exact = [line["also"]["exact"] for line in tuned]
    assert [one["score"] for one in exact] == [float(line["score"] == 1) for line in tuned]
    assert (
        sum(one["score"] for one in exact) / 80 == result.summary["candidates"][2]["also"]["exact"]["score"]
    )
    assert tuned[0]["also"]["fails"] == {
        "score": None,
        "error": "ZeroDivisionError: division by zero",
        "reason": "",
    }


@dataclass
class Sure:
    """Says how likely it finds each expected answer: the same for every token."""

    name: str
    nats: float
    notes: list[str] = field(default_factory=list)

    def predict(self, examples: Sequence[Example]) -> Iterator[Prediction]:
        return (Prediction(index, "x") for index in range(len(examples)))

    def answer_logprobs(self, examples: Sequence[Example]) -> Iterator[object]:

        for index in range(len(examples)):
            yield "too long" if index == 3 else np.full(1 + index % 4, self.nats + 0.1 * (index % 3))


def test_lower_perplexity_is_better() -> None:
    rows = described(60)
    never = BUILT_IN["exact"]  # not asked: perplexity is of the model
    result = evaluate(rows, [Sure("zero-shot", -2.0), Sure("tuned", -1.0)], never, "perplexity", "validation")
    base, tuned = result.summary["candidates"]
    assert base["corpus"]["value"] > tuned["corpus"]["value"] > 1
    assert base["score"] < tuned["score"]
    assert result.summary["comparison"]["difference"] > 0
    assert (base["errors"], tuned["errors"]) == (1, 1)
    turned = evaluate(rows[4:], [Sure("zero-shot", -1.0), Sure("tuned", -2.0)], never, "perplexity", "test")
    assert turned.summary["comparison"]["difference"] < 0
    lengths = [1 + index % 4 for index in range(60) if index != 3]
    nats = [-2.0 + 0.1 * (index % 3) for index in range(60) if index != 3]
    total = sum(length * nat for length, nat in zip(lengths, nats, strict=True))
    assert base["corpus"]["value"] == pytest.approx(math.exp(-total / sum(lengths)))
    assert base["score"] == pytest.approx(sum(map(math.exp, nats)) / 59)


def test_a_likelihood_that_is_no_number_is_an_error_and_not_full_marks() -> None:
    class Broken(Sure):
        def answer_logprobs(self, examples: Sequence[Example]) -> Iterator[object]:
            for index in range(len(examples)):
                yield np.array([-1.0, math.nan if index < 5 else -1.0])

    never = BUILT_IN["exact"]
    candidates = [Sure("zero-shot", -2.0), Broken("tuned", 0.0)]
    result = evaluate(described(60), candidates, never, "perplexity", "validation")
    tuned = result.summary["candidates"][1]
    assert (tuned["errors"], tuned["score"]) == (5, pytest.approx(math.exp(-1)))
    assert tuned["corpus"]["value"] == pytest.approx(math.e)
    assert result.summary["comparison"]["verdict"] == "not proven"
    assert "NaN" in str(next(record.error for record in result.records if record.candidate == "tuned"))


def test_a_candidate_without_likelihoods_has_no_perplexity() -> None:
    others = {"perplexity": BUILT_IN["exact"]}
    candidates = [Writer("bag-of-words", 0.3), Sure("zero-shot", -2.0), Sure("tuned", -1.0)]
    result = evaluate(described(60), candidates, BUILT_IN["f1"], "f1", "validation", secondary_graders=others)
    bag, base, _ = result.summary["candidates"]
    assert "perplexity" not in bag.get("also", {})
    assert base["also"]["perplexity"]["corpus"]["value"] > 1
    with pytest.raises(GradeError, match="perplexity needs a language model, and bag-of-words has none"):
        evaluate(described(9), candidates[:1], BUILT_IN["f1"], "perplexity", "validation")


def test_page_and_terminal_show_every_grader(tmp_path: Path) -> None:
    others = {name: BUILT_IN[name] for name in ("exact", "f1", "chrf")}
    page = page_of(made_up_run(tmp_path, others=others))
    summary = read_json(tmp_path / "evaluate" / "summary.json")
    out = io.StringIO()
    Console(file=out, width=110).print(terminal_table(summary))
    terminal = " ".join(out.getvalue().split())
    for name in others:
        assert f"also graded by {name} candidate" in terminal
        for entry in summary["candidates"]:
            also = entry["also"][name]
            score, low, high = (f"{100 * also[key]:.1f}%" for key in ("score", "low", "high"))
            assert f"{entry['name']} {score} {low} – {high}" in terminal
            assert f"{score} {low} – {high}" in page.words
        difference = 100 * summary["comparison"]["also"][name]["difference"]
        assert f"difference {difference:+.1f}" in terminal
        assert f"tuned minus few-shot-4: {difference:+.1f} points" in page.words
    assert "corpus chrF" in terminal
    assert f"{summary['candidates'][4]['also']['chrf']['corpus']['value']:.1f}" in terminal
    assert "Corpus chrF: nrefs:1" in page.words


def test_the_page_shows_how_much_of_an_answer_is_right_and_what_is_not(tmp_path: Path) -> None:
    rows = [
        Example(
            f"id{i}",
            (Message("user", f"q{i}"),),
            (Answer(f'{{"a": {i}, "b": "x"}}'),),
            {"group": f"g{i % 8}"},
        )
        for i in range(40)
    ]

    @dataclass
    class Half(Writer):
        def predict(self, examples: Sequence[Example]) -> Iterator[Prediction]:
            for index, example in enumerate(examples):
                yield Prediction(index, example.target.replace('"x"', self.wrong))  # type: ignore[arg-type]

    candidates = [Half("zero-shot", '"x"}'), Half("tuned", '"y"')]  # type: ignore[arg-type]
    result = evaluate(rows, candidates, BUILT_IN["json"], "json", "validation")
    result.write(tmp_path / "evaluate" / "validation")
    write_jsonl(tmp_path / "data" / "validation.jsonl", map(to_json, rows))
    write_text(tmp_path / "config.yaml", "name: x\n")
    page = page_of(tmp_path)
    assert "Wrong or partly correct · 40 rows" in page.words
    assert '50.0%: b: got "y", want "x"' in page.words
    assert (
        "40 rows in 8 clusters (rows of one group, or with identical or nearly identical prompts), each"
        in page.words
    )
