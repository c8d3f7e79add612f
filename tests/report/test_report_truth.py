"""Every figure on the first page, in the Markdown and in the model card is what the run's files say.

The checker (tests/support/report_truth.py) computes apart from src/. It is tested by planted errors: in the
files, in the code, and in each figure of a true page.
"""

from __future__ import annotations

import random
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import yaml
from made_up_run import LABELS, made_up_run
from measured_run import with_measured_parts
from report_facts import Facts
from report_truth import NUMBER, detail_problems, flip_problems, problems
from report_words import PageWords, words_of_markdown

from finetooth.analysis.confusions import Confusion
from finetooth.commands import report
from finetooth.evaluation.calibration import Calibration, Decisions, decide, measure
from finetooth.evaluation.graders import BUILT_IN
from finetooth.evaluation.retention import PanelScores, retention
from finetooth.evaluation.slices import WeakSlices
from finetooth.evaluation.verdict_words import points
from finetooth.report import (
    answers,
    flips_part,
    general_part,
    robustness_part,
    run_page,
    seeds_part,
    slices_part,
)
from finetooth.rundir import read_json, read_jsonl, write_json, write_jsonl, write_text

ROOM = tempfile.TemporaryDirectory()
TRAINED = {"best_step": 132, "selected_by": "score", "steps": 528}


def rewrite(path: Path, change: Callable[[dict], dict]) -> None:
    write_json(path, change(read_json(path)))


def full_run(path: Path, **options: object) -> Path:
    """A run with everything that a first page can show; made once for the same options."""
    made = _made_full(tuple(options.items())) if "others" not in options else _full(path, **options)
    return made if "others" in options else Path(shutil.copytree(made, path))


@cache
def _made_full(options: tuple[tuple[str, object], ...]) -> Path:
    return _full(Path(ROOM.name) / str(len(list(Path(ROOM.name).iterdir()))), **dict(options))


def _full(path: Path, **options: object) -> Path:
    run = made_up_run(path, **options)
    write_json(run / "train" / "result.json", TRAINED)
    (run / "train" / "adapter").mkdir()
    write_json(run / "train" / "adapter" / "adapter_config.json", {})
    lines = [
        {**line, "computed_tokens": 400 + line["step"]} if "loss" in line else line
        for line in read_jsonl(run / "train" / "metrics.jsonl")
    ]
    write_jsonl(run / "train" / "metrics.jsonl", lines)
    text = (
        (run / "config.yaml").read_text().replace("evaluate:", "evaluate:\n  price_in: 0.4\n  price_out: 1.6")
    )
    write_text(run / "config.yaml", text)
    base, tuned = (random.Random(seed) for seed in (1, 2))
    scores = [PanelScores(np.array([one.random() for _ in range(120)]), np.ones(12)) for one in (base, tuned)]
    write_json(run / "evaluate" / "retention.json", retention(*scores, 0.1))
    findings = [{"severity": one, "rule": "r"} for one in ("review", "info", "review")]
    write_jsonl(run / "data" / "findings.jsonl", findings)
    write_json(run / "data" / "check.json", {"allowed": ["leak"]})
    split = "test" if (run / "evaluate" / "test").is_dir() else "validation"
    write_json(run / "evaluate" / split / "timing.json", {"zero-shot": 0.123, "tuned": 0.0912})
    confident(run, split)
    return with_measured_parts(run)


def confident(run: Path, split: str) -> None:
    """Give the tuned model's records a confidence, and the summary how well it holds."""
    folder, draw = run / "evaluate" / split, random.Random(3)
    records = [*read_jsonl(folder / "records.jsonl")]
    tuned = [line for line in records if line["candidate"] == "tuned"]
    logp = [{one: draw.gauss(0, 1) + 3 * (one == line["text"]) for one in LABELS} for line in tuned]
    for line, row in zip(tuned, logp, strict=True):
        row[line["text"]] = max(row.values()) + 0.01
    decisions = Decisions.of(logp, [line["want"] for line in tuned], [line["score"] == 1 for line in tuned])
    calibration = Calibration(1.3, 240, "", 0.6)
    for line, sure in zip(tuned, decisions.confidence_R(1.3), strict=True):
        line["confidence"] = round(float(sure), 4)
    write_jsonl(folder / "records.jsonl", records)
    write_json(run / "evaluate" / "calibration.json", calibration.to_json())
    found = {**measure(decisions, calibration), "decision": decide(decisions, calibration, 5, 2)}
    for file in (folder / "summary.json", run / "evaluate" / "summary.json"):
        rewrite(file, lambda summary: {**summary, "calibration": found})


def shown(run: Path) -> dict[str, str]:
    """The words of the three views."""
    page = PageWords(report.run(run).path.read_text("utf-8"))
    views = {"markdown": report.as_markdown(run, None), "card": report.as_model_card(run, None)}
    return {"page": page.words, **{name: words_of_markdown(one.text) for name, one in views.items()}}


def untrue(run: Path, views: bool = False) -> list[str]:
    """What the checker finds on the page, and if `views` in the Markdown and the card, too."""
    facts, html = Facts(run), report.run(run).path.read_text("utf-8")
    found = shown(run).values() if views else [PageWords(html).words]
    wrong = [problem for words in found for problem in problems(facts, words)]
    return [*wrong, *flip_problems(facts, PageWords(html).flips), *detail_problems(run, html)]


@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param({"tuned": 0.58}, marks=pytest.mark.full),  # not proven
        pytest.param({"tuned": 0.2}, marks=pytest.mark.full),  # worse
        pytest.param({"tuned": 0.8}, marks=pytest.mark.full),  # word counts do as well
        pytest.param({"test": False}, marks=pytest.mark.full),
        pytest.param({"others": {"exact": BUILT_IN["exact"]}}, marks=pytest.mark.full),
    ],
)
def test_every_figure_is_that_of_the_files(tmp_path: Path, options: dict) -> None:
    run = full_run(tmp_path / "run", **options)
    assert untrue(run, views=True) == []
    assert all(len(re.findall(NUMBER, words)) > 80 for words in shown(run).values())


def test_a_run_with_little_in_it(tmp_path: Path) -> None:
    run = made_up_run(tmp_path)
    page = PageWords(report.run(run).path.read_text("utf-8"))
    assert problems(Facts(run), page.words) == [] and flip_problems(Facts(run), page.flips) == []


def test_no_figure_can_be_changed_unnoticed(tmp_path: Path) -> None:
    """Each figure of each view is raised in its last digit, one at a time."""
    run = full_run(tmp_path / "run")
    facts, names = Facts(run), re.compile(r"few-shot-\d|95% (?:CI|confidence)|100 rows like|80% power|1,000")
    for view, words in shown(run).items():
        assert problems(facts, words) == [], view
        missed = []
        for match in re.finditer(NUMBER, words):
            if any(name.start() <= match.start() < name.end() for name in names.finditer(words)):
                continue
            at = max(index for index in range(*match.span()) if words[index].isdigit())
            other = str((int(words[at]) + 1) % 10)
            if not problems(facts, words[:at] + other + words[at + 1 :]):
                missed.append(words[max(0, at - 40) : at + 10])
        assert missed == [], view


def swap_scores(run: Path) -> None:
    """Two candidates' scores change places in the summary, and so in all views."""

    def swapped(summary: dict) -> dict:
        by_name = {one["name"]: one for one in summary["candidates"]}
        first, second = by_name["zero-shot"], by_name["tuned"]
        for key in ("score", "low", "high"):
            first[key], second[key] = second[key], first[key]
        return summary

    rewrite(run / "evaluate" / "test" / "summary.json", swapped)


def another_n(run: Path) -> None:
    rewrite(run / "evaluate" / "test" / "summary.json", lambda summary: {**summary, "n": 519})


def tokens_of_another(run: Path) -> None:
    def mixed(summary: dict) -> dict:
        summary["candidates"][3]["prompt_tokens"] = summary["candidates"][2]["prompt_tokens"]
        return summary

    rewrite(run / "evaluate" / "test" / "summary.json", mixed)


def a_wider_difference(run: Path) -> None:
    def wider(summary: dict) -> dict:
        for one in (summary["comparison"], *summary["comparisons"]):
            one["difference"] += 0.01
        return summary

    rewrite(run / "evaluate" / "test" / "summary.json", wider)


def a_changed_record(run: Path) -> None:
    lines = [*read_jsonl(run / "evaluate" / "test" / "records.jsonl")]
    right = next(line for line in lines if line["candidate"] == "tuned" and line["score"] == 1)
    right["score"] = 0.0
    write_jsonl(run / "evaluate" / "test" / "records.jsonl", lines)


@pytest.mark.parametrize(
    "plant", [swap_scores, another_n, tokens_of_another, a_wider_difference, a_changed_record]
)
def test_an_error_in_the_files_is_found(tmp_path: Path, plant: Callable[[Path], None]) -> None:
    run = full_run(tmp_path / "run")
    plant(run)
    assert untrue(run)


def test_an_error_in_the_code_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that flip the wrong way round, bounds that change places, and a line with a figure of its own."""
    run = full_run(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(flips_part, "KINDS", ("broken", "fixed", "still wrong", "still right"))
        found = untrue(run)
        assert found and any("the bar has" in one for one in found)
    with monkeypatch.context() as patch:
        table = run_page.score_table

        def mixed(*given: object) -> dict:
            made = table(*given)
            made["rows"][0]["low"], made["rows"][0]["high"] = made["rows"][0]["high"], made["rows"][0]["low"]
            return made

        patch.setattr(run_page, "score_table", mixed)
        assert untrue(run)
    with monkeypatch.context() as patch:
        labels = answers.label_table

        def turned(matrix: Confusion) -> list[dict]:
            return [{**one, "recall": one["precision"], "precision": one["recall"]} for one in labels(matrix)]

        patch.setattr(answers, "label_table", turned)
        assert any("not in the table of labels" in one for one in untrue(run))
    with monkeypatch.context() as patch:
        line = run_page.Line("Robustness", "Typos cost 2.1 points.")
        patch.setattr(run_page, "LINES", (*run_page.LINES, lambda evidence: line))
        assert any("2.1" in one for one in untrue(run))


def test_the_front_matter_of_the_card_has_the_figures_of_the_records(tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    run = full_run(tmp_path / "run", others={"exact": BUILT_IN["exact"]})
    facts, card = Facts(run), ModelCard(report.as_model_card(run, None).text)
    low, high = facts.interval("tuned")
    results = {one.metric_type: one for one in card.data.eval_results}
    assert results.keys() == {"accuracy", "exact_match"}
    for one in results.values():
        assert one.metric_value == pytest.approx(facts.mean("tuned"), abs=5e-5)
        assert one.metric_args["confidence_interval_95"] == pytest.approx([low, high], abs=5e-5)
        assert (one.dataset_split, one.dataset_revision) == ("test", facts.sealed["sha256"])
    settings = re.search(r"```yaml\n(.*?)```", card.content, re.DOTALL)
    assert settings and yaml.safe_load(settings[1]).items() <= facts.config["train"].items()


def another_seed(run: Path) -> None:
    """One answer of the third training."""
    file = run / "seeds" / "3" / "evaluate" / "validation" / "records.jsonl"
    lines = [*read_jsonl(file)]
    write_jsonl(file, [{**lines[0], "score": 1 - lines[0]["score"]}, *lines[1:]])


def another_score(run: Path) -> None:
    def more(summary: dict) -> dict:
        first, *others = summary["recipe"]["scores"]
        return {**summary, "recipe": {**summary["recipe"], "scores": [first + 0.01, *others]}}

    rewrite(run / "evaluate" / "test" / "summary.json", more)


def a_smaller_loss(run: Path) -> None:
    def less(found: dict) -> dict:
        (tuned,) = found["candidates"]
        tuned["kinds"][0]["difference"] += 0.02
        return found

    rewrite(run / "evaluate" / "robustness.json", less)


def a_loss_left_out(run: Path) -> None:
    def fewer(found: dict) -> dict:
        (tuned,) = found["candidates"]
        tuned["kinds"][1] |= {"loses": False}
        return found

    rewrite(run / "evaluate" / "robustness.json", fewer)


def a_task_called_kept(run: Path) -> None:
    def kept(found: dict) -> dict:
        return {**found, "tasks": [{**one, "verdict": "kept"} for one in found["tasks"]]}

    rewrite(run / "evaluate" / "general.json", kept)


@pytest.mark.parametrize(
    "plant", [another_seed, another_score, a_smaller_loss, a_loss_left_out, a_task_called_kept]
)
def test_an_error_in_what_was_measured_beside_the_scores_is_found(
    tmp_path: Path, plant: Callable[[Path], None]
) -> None:
    run = full_run(tmp_path / "run")
    plant(run)
    assert untrue(run)


def test_an_error_in_the_lines_about_it_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another group, errors of the others in place of its own, the best kind and task, and turned signs."""
    run = full_run(tmp_path / "run")
    searched = slices_part.weak_slices

    def planted(*given: object, turned: bool) -> WeakSlices:
        found = searched(*given)
        (one,) = found.found
        other = (
            replace(one, error=one.others, others=one.error) if turned else replace(one, conditions=("day",))
        )
        return replace(found, found=(other,))

    plants = [(slices_part, "weak_slices", partial(planted, turned=turned)) for turned in (False, True)]
    plants += [(robustness_part, "min", max), (general_part, "min", max)]
    plants += [(seeds_part, "points", lambda value: points(-value))]
    for module, name, plant in plants:
        with monkeypatch.context() as patch:
            patch.setattr(module, name, plant, raising=False)
            assert untrue(run), (module, plant)
