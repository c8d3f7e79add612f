"""`finetooth compare`: which rows two runs share, what is computed on them, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from html_for_tests import Page, harmless
from made_up_run import made_up_run

from finetooth.cli.app import invoke
from finetooth.commands.compare import CompareReport, _adjust, run
from finetooth.errors import ConfigError, DataError, GradeError
from finetooth.evaluation.statistics import compare, midp_mcnemar
from finetooth.evaluation.verdict_words import points
from finetooth.rundir import read_json, read_jsonl, write_json, write_jsonl


def made(folder: Path, name: str, tuned: float, test: bool = True) -> Path:
    path = made_up_run(folder / name, name, tuned, test)
    write_json(path / "data" / "split.json", {"train": 2_100})
    return path


PAIR = {
    **{"scores": [0.5, 0.6], "n": 50, "units": 50, "difference": 0.1, "low": 0.01, "high": 0.2, "mde": 0.1},
    **{"left_out": {}, "baseline": "a", "candidate": "b", "verdict": "better"},
}


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    return made(tmp_path, "first", 0.7), made(tmp_path, "second", 0.86)


def tuned_scores(path: Path, split: str = "validation") -> dict[str, float]:
    records = read_jsonl(path / "evaluate" / split / "records.jsonl")
    return {line["id"]: line["score"] for line in records if line["candidate"] == "tuned"}


def rewritten(path: Path, change: Any) -> None:
    """Put every line of a .jsonl file through `change`; None takes it out."""
    lines = [change(index, line) for index, line in enumerate(read_jsonl(path))]
    write_jsonl(path, [line for line in lines if line is not None])


def expected(first: Path, second: Path, ids: list[str], split: str = "validation") -> Any:
    one, two = tuned_scores(first, split), tuned_scores(second, split)
    return compare([one[id] for id in ids], [two[id] for id in ids])


def assert_is(found: dict[str, Any], want: Any) -> None:
    for name in ("n", "difference", "low", "high", "p", "gained", "lost"):
        assert found[name] == getattr(want, name), name


def test_runs_of_the_same_rows_are_compared_row_by_row(runs: tuple[Path, Path]) -> None:
    report = run(runs, False)
    (found,) = report.comparisons
    assert_is(found, expected(*runs, sorted(tuned_scores(runs[0]))))
    assert found["verdict"] == "better" and found["n"] == 240
    assert not any(found["left_out"].values())
    assert found["words"].startswith(f"Better: {runs[1]} scores ")
    assert report.split == "validation"
    back = run(runs[::-1], False).comparisons[0]
    assert (back["difference"], back["verdict"]) == (-found["difference"], "worse")


def test_a_run_is_not_better_by_form_alone(runs: tuple[Path, Path]) -> None:
    """Planted: all answers are written freely, and those of the first run that are wrong are so in form."""
    first, second = runs
    for path, score in ((first, 1.0), (second, None)):
        rewritten(
            path / "evaluate" / "validation" / "records.jsonl",
            lambda index, line, score=score: {**line, "lenient": score or line["score"]},
        )
    (found,) = run(runs, False).comparisons
    assert (found["verdict"], found["strict_verdict"]) == ("not proven", "better")
    assert "The gain is in form, not content. Of " in found["words"]
    _adjust([found, {**found, "p": 0.9}, {**found, "p": 0.04}])
    assert "in form, not content" in found["words"]
    weak = {**found, "p": 0.04, "verdict": "better", "strict_verdict": "better"}
    _adjust([weak, {**found, "p": 0.9}])
    assert weak["verdict"] == "not proven" and "in form" not in weak["words"]


def test_only_rows_with_the_same_content_count(runs: tuple[Path, Path]) -> None:
    """Planted: three questions were changed under the same ids, five rows are in one run only."""
    first, second = runs

    def planted(index: int, line: dict[str, Any]) -> dict[str, Any]:
        if index < 3:
            line["context"][0]["content"] += " Please."
        return line

    rewritten(second / "data" / "validation.jsonl", planted)
    gone = {f"validation-{index:04}" for index in range(10, 15)}
    for name in ("data/validation.jsonl", "evaluate/validation/records.jsonl"):
        rewritten(second / name, lambda index, line: None if line["id"] in gone else line)
    (found,) = run(runs, False).comparisons
    ids = [id for id in tuned_scores(first) if id not in gone][3:]
    assert_is(found, expected(first, second, ids))
    assert found["n"] == 240 - 3 - 5
    assert found["left_out"] == {
        "only_in_baseline": 5,
        "only_in_candidate": 0,
        "other_content": 3,
        "not_graded": 0,
    }
    assert "5 only in" in found["words"] and "3 with the same id and different content" in found["words"]


def test_an_answer_that_changed_is_another_row(runs: tuple[Path, Path]) -> None:
    def changed(index: int, line: dict[str, Any]) -> dict[str, Any]:
        return {**line, "answers": [{"text": "other", "role": "target"}]} if index == 0 else line

    rewritten(runs[1] / "data" / "validation.jsonl", changed)
    assert run(runs, False).comparisons[0]["left_out"]["other_content"] == 1


def test_a_failed_grader_leaves_the_verdict_open(runs: tuple[Path, Path]) -> None:
    records = runs[1] / "evaluate" / "validation" / "records.jsonl"
    first = next(line["id"] for line in read_jsonl(records) if line["candidate"] == "tuned")
    rewritten(
        records,
        lambda index, line: (
            {**line, "score": None} if (line["id"], line["candidate"]) == (first, "tuned") else line
        ),
    )
    (found,) = run(runs, False).comparisons
    assert found["n"] == 239 and found["left_out"]["not_graded"] == 1
    assert found["verdict"] == "not proven"


def test_few_rows_carry_no_verdict(runs: tuple[Path, Path]) -> None:
    for name in ("data/validation.jsonl", "evaluate/validation/records.jsonl"):
        rewritten(runs[1] / name, lambda index, line: line if line["id"] < "validation-0029" else None)
    (found,) = run(runs, False).comparisons
    assert found["n"] == 29 and found["verdict"] == "not proven"
    assert "too few rows for a verdict, which needs 30" in found["words"]


def test_runs_without_a_common_row_are_refused(runs: tuple[Path, Path]) -> None:
    for name in ("data/validation.jsonl", "evaluate/validation/records.jsonl"):
        rewritten(runs[1] / name, lambda index, line: {**line, "id": f"other-{line['id']}"})
    with pytest.raises(GradeError, match="share no row of the validation split"):
        run(runs, False)


def test_scores_of_two_kinds_are_refused(runs: tuple[Path, Path]) -> None:
    summary = runs[1] / "evaluate" / "validation" / "summary.json"
    write_json(summary, {**read_json(summary), "grader": "f1"})
    with pytest.raises(GradeError, match="graded by f1 and label"):
        run(runs, False)


def test_the_sealed_test_is_compared_only_where_every_run_opened_it(
    tmp_path: Path, runs: tuple[Path, Path]
) -> None:
    before = [(path / "ledger.jsonl").read_bytes() for path in runs]
    report = run(runs, True)
    assert report.split == "test"
    assert_is(report.comparisons[0], expected(*runs, sorted(tuned_scores(runs[0], "test")), "test"))
    assert [(path / "ledger.jsonl").read_bytes() for path in runs] == before, "no look was added"
    closed = made(tmp_path, "closed", 0.9, test=False)
    with pytest.raises(ConfigError, match=f"finetooth evaluate {closed} --sealed"):
        run([runs[0], closed], True)
    assert not any(event["event"] == "opened" for event in read_jsonl(closed / "ledger.jsonl"))


def test_a_result_that_the_ledger_does_not_know_is_refused(runs: tuple[Path, Path]) -> None:
    summary = runs[1] / "evaluate" / "test" / "summary.json"
    write_json(summary, {**read_json(summary), "n": 521})
    with pytest.raises(ConfigError, match="ledger has no look"):
        run(runs, True)


def test_a_changed_test_is_refused(runs: tuple[Path, Path]) -> None:
    sealed = runs[1] / "data" / "sealed.jsonl"
    sealed.write_text(sealed.read_text().replace("PIN", "pin"))
    with pytest.raises(DataError, match="not the file that was sealed"):
        run(runs, True)


def test_several_comparisons_are_adjusted() -> None:
    """Holm 1979: (0.01, 0.03, 0.04) become 3 x 0.01, 2 x 0.03, and 0.06 again, not below the one before."""
    pairs: list[dict[str, Any]] = [{**PAIR, "p": p} for p in (0.03, 0.04, 0.01)]
    _adjust(pairs)
    assert [pair["p_adjusted"] for pair in pairs] == pytest.approx([0.06, 0.06, 0.03])
    assert [pair["verdict"] for pair in pairs] == ["not proven", "not proven", "better"]
    alone = [{**PAIR, "p": 0.04}]
    _adjust(alone)
    assert alone[0]["verdict"] == "better"


def test_runs_beside_the_compared_ones_count_as_choices(tmp_path: Path, runs: tuple[Path, Path]) -> None:
    alone = run(runs, False).comparisons[0]
    for number in range(3):
        made(tmp_path, f"more-{number}", 0.7 + number / 100, test=number == 0)
    other = made(tmp_path, "other-grader", 0.8)
    summary = other / "evaluate" / "validation" / "summary.json"
    write_json(summary, {**read_json(summary), "grader": "f1"})
    made(tmp_path / "elsewhere", "far", 0.8)
    write_json(made(tmp_path, "damaged", 0.8) / "evaluate" / "validation" / "summary.json", [])
    report = run(runs, False)
    assert report.others == ["more-0", "more-1", "more-2"]
    (found,) = report.comparisons
    assert found["p"] == alone["p"] and found["p_adjusted"] == pytest.approx(4 * alone["p"])
    assert "adjusted p" in found["words"] and "adjusted" not in alone["words"]
    assert (
        "4 comparisons (Holm): 1 made here, and those with 3 other runs" in report.to_json()["adjusted_for"]
    )
    assert run(runs, True).others == ["damaged", "more-0", "other-grader"], "those that opened the test"


@pytest.mark.parametrize("count", [400, pytest.param(4_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("equal", [10, 20])
def test_the_best_of_equal_runs_is_not_called_better(equal: int, count: int) -> None:
    """Planted: the best is compared with the first as if there had been no others."""
    random = np.random.default_rng(equal)
    found = {0: 0, equal - 2: 0}
    for _ in range(count):
        skill = random.normal(0, 1, 300)
        right = (skill + random.normal(0, 0.7, (equal, 300)) > 0).astype(int)
        best = right[1 + right[1:].sum(1).argmax()]
        p = midp_mcnemar(int((best > right[0]).sum()), int((best < right[0]).sum()))
        difference = float((best - right[0]).mean())
        for others in found:
            pair: dict[str, Any] = {**PAIR, "difference": difference, "p": p}
            pair["verdict"] = "better" if difference > 0 and p < 0.05 else "not proven"
            _adjust([pair], others)
            found[others] += pair["verdict"] == "better"
    assert found[equal - 2] / count <= 0.035 + 2 * (0.035 * 0.965 / count) ** 0.5
    assert found[0] / count >= 0.1


def test_what_differs_in_the_settings_is_listed(runs: tuple[Path, Path]) -> None:
    config = runs[1] / "config.yaml"
    config.write_text(config.read_text().replace("rank: 16", "rank: 32").replace("seed: 1", "seed: 2"))
    write_json(runs[1] / "data" / "split.json", {"train": 2_000})
    write_json(runs[0] / "environment.json", {"model": {"digest": "a" * 64}})
    write_json(runs[1] / "environment.json", {"model": {"digest": "b" * 64}})
    assert run(runs, False).differences == {
        "train.rank": [16, 32],
        "seed": [1, 2],
        "training rows": [2_100, 2_000],
        "base weights (sha256)": ["a" * 12, "b" * 12],
    }


def test_paths_below_the_working_directory_are_relative(
    runs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task's `split_from: runs/first` is stored with its whole path."""
    monkeypatch.chdir(tmp_path)
    config = runs[1] / "config.yaml"
    kept = f"validation: 0.1\n  split_from: {tmp_path}/runs/first"
    config.write_text(config.read_text().replace("validation: 0.1", kept))
    assert run(runs, False).differences == {"data.split_from": [None, "runs/first"]}


def test_the_command_prints_one_table_or_one_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "110")
    for name, tuned in (("first", 0.7), ("second", 0.86), ("third", 0.71)):
        made(Path("runs"), name, tuned)
    names = ["runs/first", "runs/second", "runs/third"]
    assert invoke(["compare", *names, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [each["run"] for each in result["runs"]] == names
    assert [(each["baseline"], each["candidate"]) for each in result["comparisons"]] == [
        ("runs/first", "runs/second"),
        ("runs/first", "runs/third"),
    ]
    assert invoke(["compare", *names]) == 0
    shown = capsys.readouterr().out
    (tuned,) = [line for line in shown.splitlines() if line.strip().startswith("tuned ")]
    for each in result["runs"]:
        entry = next(entry for entry in each["candidates"] if entry["name"] == "tuned")
        assert f"{100 * entry['score']:.1f}%" in tuned and f"{100 * entry['low']:.1f}%" in tuned
    assert "Better: runs/second" in shown and "Not proven: runs/third" in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["runs/first"], "takes two or more different runs"),
        (["runs/first", "runs/first"], "takes two or more different runs"),
        (["runs/first", "nowhere"], "Runs here: runs/first, runs/fresh."),
        (["runs/first", "runs/fresh"], "finetooth evaluate runs/fresh"),
        ([], "Missing argument"),
    ],
)
def test_a_mistake_is_one_message(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    made(Path("runs"), "first", 0.7)
    made_up_run(Path("runs/fresh"), evaluated=False)
    assert invoke(["compare", *arguments]) == 2
    printed = capsys.readouterr()
    assert words in printed.err and printed.out == ""


def test_the_report_says_what_it_holds(runs: tuple[Path, Path]) -> None:
    report = run(runs, False)
    assert isinstance(report, CompareReport) and report.ok
    assert json.loads(json.dumps(report.to_json(), allow_nan=False)) == report.to_json()


def test_rows_of_a_group_count_together(runs: tuple[Path, Path]) -> None:
    """240 rows of 12 customers are 12 observations: too few for a verdict that 240 would give."""
    for path in runs:
        rewritten(
            path / "data" / "validation.jsonl",
            lambda index, line: {**line, "tags": {**line["tags"], "group": f"customer {index % 12}"}},
        )
    (found,) = run(runs, False).comparisons
    assert (found["n"], found["units"], found["verdict"]) == (240, 12, "not proven")
    assert "too few clusters of rows" in found["words"]


def test_the_page_says_what_the_comparison_says(runs: tuple[Path, Path], tmp_path: Path) -> None:
    third = made(tmp_path, "third", 0.5)
    target = tmp_path / "compare.html"
    assert invoke(["compare", *map(str, [*runs, third]), "--page", str(target), "--quiet"]) == 0
    page = Page(target.read_text(encoding="utf-8"))
    assert page.open == []
    harmless(page)
    report = run([*runs, third], False)
    for found in report.comparisons:
        assert f"{points(found['difference'])} points" in page.words.replace("points points", "points")
        assert f"{found['n']:,} shared rows" in page.words
    assert f"Better than {runs[0]}: {runs[1]}" in page.words
    for each in report.runs:
        tuned = next(entry for entry in each["candidates"] if entry["name"] == "tuned")
        assert f"{100 * tuned['score']:.1f}%" in page.words
    target.write_text("mine")
    with pytest.raises(ConfigError, match="was not written by finetooth"):
        run(runs, False, target)
    assert target.read_text() == "mine"
