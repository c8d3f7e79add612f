"""Runs that are graded in other ways than right or wrong, from the task to summary.json and the page."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from models_for_tests import tiny_model_dir
from rich.console import Console

import finetooth as ft
from finetooth.commands import evaluate
from finetooth.config.load import load_task
from finetooth.errors import FinetoothError, GradeError
from finetooth.rundir import read_json, read_jsonl

QUIET = Console(quiet=True)
QUICK = {
    "train.preflight": "off",
    "train.rank": 4,
    "train.max_steps": 2,
    "evaluate.shots": [0],
    "evaluate.limit": 12,
}
PAIRS = [
    {"question": f"what is {n}?", "answer": json.dumps({"n": n, "even": n % 2 == 0}), "shelf": f"s{n // 2}"}
    for n in range(96)
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_dir(tmp_path_factory.mktemp("graders") / "model")


def run(model: Path, out: Path, grader: Any, rows: list[dict[str, Any]], **data: Any) -> Any:
    task = {"model": str(model), "data": {"train": rows, **data}, "evaluate": {"grader": grader}}
    return ft.run(task, out, QUICK, quiet=True)


@pytest.mark.full
def test_json_with_further_graders_and_perplexity(model: Path, tmp_path: Path) -> None:
    schema = {"type": "object", "required": ["n"]}
    (tmp_path / "schema.json").write_text(json.dumps(schema), encoding="utf-8")
    given = [{"name": "json", "schema": str(tmp_path / "schema.json")}, "chrf", "perplexity"]
    done = run(model, tmp_path / "run", given, PAIRS, group="shelf", test=0.4, validation=0.3)
    summary = done.summary
    assert summary["grader"] == "json (schema)"
    assert summary["split"] == "test"
    assert 1 < summary["groups"] < summary["n"] == 12
    for entry in summary["candidates"]:
        assert list(entry["also"]) == ["chrf", "perplexity"]
        one = entry["also"]["perplexity"]
        assert 1 < one["corpus"]["value"] < math.inf
        assert 0 < one["low"] < one["score"] < one["high"] < 1
    assert summary["comparison"]["verdict"] == "not proven"
    (tmp_path / "schema.json").unlink()  # the run has its own copy
    again = evaluate.run(done.path, False, QUIET).summary
    stored = read_json(done.path / "evaluate" / "validation" / "summary.json")
    assert again == stored == evaluate.run(done.path, False, QUIET).summary
    assert evaluate.run(done.path, True, QUIET).summary == summary
    page = (done.path / "report.html").read_text(encoding="utf-8")
    assert "Corpus perplexity" in page
    assert "each of which is one unit" in page


def test_perplexity_alone_leaves_out_what_has_no_likelihoods(model: Path, tmp_path: Path) -> None:
    rows = [{"text": f"{n} of fruit", "label": "ab"[n % 2]} for n in range(80)]
    done = run(model, tmp_path / "run", "perplexity", rows)
    assert [entry["name"] for entry in done.summary["candidates"]] == ["zero-shot", "tuned"]
    records = list(read_jsonl(done.path / "evaluate" / "test" / "records.jsonl"))
    assert all(record["reason"].startswith("perplexity ") for record in records)
    assert all(0 < record["score"] < 1 for record in records)


def test_a_grader_that_cannot_be_used_stops_before_training(model: Path, tmp_path: Path) -> None:
    with pytest.raises(GradeError, match="number takes tolerance"):
        run(model, tmp_path / "run", ["exact", {"name": "f1", "stem": True}], PAIRS)
    assert not (tmp_path / "run").exists()


def test_the_run_keeps_what_it_was_graded_by(model: Path, tmp_path: Path) -> None:
    grader = {"name": "regex", "pattern": r'"n": (\d+)'}
    done = run(model, tmp_path / "run", grader, PAIRS)
    assert load_task({"data": {"train": "x"}, "evaluate": {"grader": grader}}).evaluate.grader == grader
    assert done.summary["grader"] == r'regex (pattern "n": (\d+))'
    other = {"model": str(model), "data": {"train": PAIRS}, "evaluate": {"grader": "exact"}}
    with pytest.raises(FinetoothError, match=r"evaluate\.grader is"):
        ft.run(other, tmp_path / "run", QUICK, quiet=True)
    loose = {"model": str(model), "data": {"train": PAIRS}, "evaluate": {"grader": {"name": "regex"}}}
    with pytest.raises(FinetoothError, match=r"evaluate\.grader is"):
        ft.run(loose, tmp_path / "run", QUICK, quiet=True)


@pytest.mark.full
def test_auto_among_several_graders_is_what_it_is_alone(model: Path, tmp_path: Path) -> None:
    rows = [{"text": f"{n} of fruit", "red": n % 2, "big": n % 3 == 0} for n in range(80)]
    columns = {"red": "label", "big": "label"}
    for name, grader in (("alone", "auto"), ("among", ["auto", "f1"])):
        assert run(model, tmp_path / name, grader, rows, columns=columns).summary["grader"] == "labels"
