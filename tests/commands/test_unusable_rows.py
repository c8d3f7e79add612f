"""Rows that a template cannot render or ask: set aside and counted in training, evaluation and check."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from contexts_for_tests import checked
from models_for_tests import tiny_model_dir
from rich.console import Console

from finetooth.commands import evaluate, train
from finetooth.config.task import build_task
from finetooth.data.render.renderer import Renderer
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.errors import DataError
from finetooth.quality.prepare import assemble
from finetooth.rundir import read_json, read_jsonl, write_jsonl

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


def row(k: int, **more: Any) -> dict[str, Any]:
    said = [{"role": "user", "content": f"{k} ways?"}, {"role": "assistant", "content": "left"}]
    return {"id": f"r{k}", "messages": said, **more}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_dir(tmp_path_factory.mktemp("model"))


def test_a_row_that_cannot_be_asked_is_left_out_of_the_evaluation_and_said(
    model: Path, tmp_path: Path
) -> None:
    """Planted: one test row with tools, which the template does not write; it ended the run."""
    test = [row(k, **({"tools": [TOOL]} if k == 103 else {})) for k in range(100, 106)]
    data = {"train": [row(k) for k in range(20)], "test": test, "validation": 0}
    training = {"max_steps": 1, "preflight": "off"}
    task = build_task(
        {"model": str(model), "data": data, "train": training, "evaluate": {"shots": [0], "max_tokens": 4}}
    )
    console = Console(file=io.StringIO(), width=200)
    train.run(task, tmp_path / "run", console)
    evaluate.run(tmp_path / "run", True, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "1 of 6 rows cannot be rendered and are left out: r103 (rows, line 4)" in text
    assert "leaves out the tools" in text
    assert read_json(tmp_path / "run" / "evaluate" / "test" / "summary.json")["n"] == 5
    records = read_jsonl(tmp_path / "run" / "evaluate" / "test" / "records.jsonl")
    assert {record["id"] for record in records} == {row["id"] for row in test} - {"r103"}


def test_one_bad_row_of_many_does_not_stop_a_run_because_it_fell_on_the_smaller_side(model: Path) -> None:
    """Planted: 1 of 300 rows is 0.3%, and 3% of the validation side alone."""
    rows = [row(k) for k in range(300)]
    validation = build_task({"model": str(model), "data": {"train": rows}})
    side = assemble(validation).sides["validation"]
    bad = next(entry for entry in rows if entry["id"] == side[0].id)
    bad["tools"] = [TOOL]
    report = checked(build_task({"model": str(model), "data": {"train": rows}}))
    (finding,) = [one for one in report.findings if one.rule == "not-rendered"]
    assert report.ok and finding.severity == "review" and "1 row cannot be rendered" in finding.summary
    renderer = Renderer(Tokenizer.load(model))
    sides = assemble(build_task({"model": str(model), "data": {"train": rows}})).sides
    with pytest.raises(DataError, match="more than 1%"):
        renderer.render_all(sides["validation"])
    seen = len(sides["train"]) + len(sides["validation"])
    assert len(renderer.render_all(sides["validation"], seen).rejected) == 1


def test_the_check_says_no_where_training_does(model: Path) -> None:
    """Planted: long conversations, whose many turns made the bad ones look few."""
    turns = [{"role": role, "content": "left"} for _ in range(10) for role in ("user", "assistant")]
    talks = [{"messages": [{"role": "user", "content": f"{k}?"}, *turns[1:]]} for k in range(60)]
    for talk in talks[:3]:
        talk["tools"] = [TOOL]  # type: ignore[assignment,list-item]
    report = checked(build_task({"model": str(model), "data": {"train": talks, "test": 0}}))
    assert not report.ok and any("3 rows cannot be rendered" in problem for problem in report.problems)


def test_dropped_rows_are_listed_whatever_their_id(model: Path, tmp_path: Path) -> None:
    """Planted: ids with the mark that separates a row's turns."""
    long = {"content": "ways " * 400, "role": "user"}
    rows = [row(k) for k in range(40)] + [
        {"id": name, "messages": [long, {"role": "assistant", "content": f"{name}"}]} for name in ("a#1", "b")
    ]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    data = {"train": str(tmp_path / "rows.jsonl"), "test": 0, "validation": 0, "overlong": "drop"}
    task = {"model": str(model), "data": data, "train": {"max_steps": 1, "preflight": "off"}}
    train.run(build_task(task), tmp_path / "run", Console(file=io.StringIO()))
    lines = (tmp_path / "run" / "data" / "rejected.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["row"]["id"] for line in lines] == ["a#1", "b"]
