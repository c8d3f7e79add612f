"""Pairs of a run's own answers: good against bad ones of the same row, and never of the sealed test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetooth.cli.app import invoke
from finetooth.commands import pairs
from finetooth.config.load import load_task
from finetooth.config.task import Task
from finetooth.errors import ConfigError, DataError
from finetooth.quality.prepare import assemble
from finetooth.rundir import read_jsonl, write_json, write_jsonl
from finetooth.runs import workspace


def answer(id: str, text: str, score: float | None, stop: str = "stop", **more: Any) -> dict[str, Any]:
    return {"id": id, "text": text, "score": score, "stop": stop, **more}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A run of seven rows, of which the last was for validation."""
    run = tmp_path / "run"
    rows = [
        {
            "id": f"r{n}",
            "context": [{"role": "user", "content": f"q{n}"}],
            "answers": [{"text": "yes", "role": "target"}],
            "tags": {},
        }
        for n in range(7)
    ]
    rows[1]["context"].insert(0, {"role": "system", "content": "Be brief."})
    write_jsonl(run / "data" / "train.jsonl", rows[:6])
    write_jsonl(run / "data" / "validation.jsonl", rows[6:])
    workspace.save_config(
        run, Task.model_validate({"data": {"train": "rows.jsonl"}, "evaluate": {"grader": "exact"}}), {}
    )
    rollouts = [
        answer("r0", "yes", 1.0), answer("r0", "no", 0.0), answer("r0", "maybe", 0.2),
        answer("r1", "no", 0.1), answer("r1", "yes indeed", 0.9), answer("r1", "yes", 0.9),
        answer("r1", "nine", 0.0, "length"),
        answer("r2", "yes", 1.0), answer("r2", "Yes", 0.8),
        answer("r3", "no", 0.0), answer("r3", "never", 0.1),
        answer("r4", "so", 0.4), answer("r4", "yes so", 0.6),
        answer("r5", "yes", 1.0), answer("r5", " ", 0.0), answer("r5", "boom", None),
        answer("r5", "<|im_end|> yes", 0.0),
        answer("r5", "yes ", 1.0, "length"),
    ]  # fmt: skip
    write_jsonl(run / "train" / "rollouts.jsonl", rollouts)
    records = [
        answer("r6", "no", 0.0, candidate="zero-shot"),
        answer("r6", "yes", 1.0, candidate="tuned"),
        answer("r6", "yes or no", 0.0, candidate="majority"),
    ]
    write_jsonl(run / "evaluate" / "validation" / "records.jsonl", records)
    return run


def test_the_best_and_the_worst_answer_of_a_row(path: Path) -> None:
    report = pairs.run(path, None, 0.5, reference=False)
    lines = list(read_jsonl(path / "pairs.jsonl"))
    system = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "q1"}]
    assert lines == [
        {"id": "r0", "prompt": "q0", "chosen": "yes", "rejected": "no"},
        {"id": "r1", "prompt": system, "chosen": "yes", "rejected": "no"},  # of equals the latest
        {"id": "r6", "prompt": "q6", "chosen": "yes", "rejected": "no"},
    ]
    assert (report.rows, report.pairs) == (7, 3)
    assert report.without == {"only_good": 2, "only_bad": 1, "close": 1}
    assert report.unused == {"cut": 2, "unusable": 2, "not_graded": 1}
    read = assemble(load_task({"data": {"train": str(path / "pairs.jsonl"), "validation": 0, "test": 0}}))
    assert read.format == "preference" and not read.rejected
    assert [row.id for row in read.sides["train"]] == ["r0", "r1", "r6"]


def test_the_expected_answer_where_all_are_bad_and_a_smaller_margin(path: Path) -> None:
    report = pairs.run(path, None, 0.1, reference=True)
    lines = {line["id"]: (line["chosen"], line["rejected"]) for line in read_jsonl(path / "pairs.jsonl")}
    assert lines["r3"] == ("yes", "no") and report.from_reference == 1
    assert lines["r2"] == ("yes", "Yes") and lines["r4"] == ("yes so", "so")
    assert report.without == {"only_good": 1, "only_bad": 0, "close": 0}


def test_an_answer_to_a_sealed_row_is_refused(path: Path) -> None:
    """Planted: a log that holds an answer to a row of the test."""
    with (path / "train" / "rollouts.jsonl").open("a") as file:
        file.write(json.dumps(answer("sealed-row", "yes", 1.0)) + "\n")
    with pytest.raises(DataError, match="never of the sealed test"):
        pairs.run(path, None, 0.5, reference=False)
    assert not (path / "pairs.jsonl").exists()


def test_records_of_the_test_are_not_read(path: Path) -> None:
    write_jsonl(
        path / "evaluate" / "test" / "records.jsonl", [answer("secret", "yes", 1.0, candidate="tuned")]
    )
    write_json(path / "evaluate" / "test" / "summary.json", {})
    assert pairs.run(path, None, 0.5, reference=False).pairs == 3


def test_what_is_said_where_there_is_no_pair(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["pairs", str(path)]) == 0
    said = capsys.readouterr().out
    assert "3 pairs from 7 answered rows" in said and "2 rows with good answers only: no pair" in said
    pairs_file, other = path / "pairs.jsonl", path.with_name("run-dpo")
    words = f"run {pairs_file} --from {path} --train.method dpo --out {other}"
    assert said.endswith(f"Next: finetooth {words}\n")
    write_jsonl(path / "train" / "rollouts.jsonl", [])
    assert invoke(["pairs", str(path)]) == 0
    said = capsys.readouterr().out
    assert "all of them are of validation rows" in said and "Next" not in said
    taken = path / "data" / "train.jsonl"
    with pytest.raises(ConfigError, match="exists already"):
        pairs.run(path, taken, 0.5, reference=False)
    write_jsonl(path / "train" / "rollouts.jsonl", [answer("r3", "no", 0.0)])
    (path / "evaluate" / "validation" / "records.jsonl").unlink()
    assert invoke(["pairs", str(path)]) == 2
    assert "1 with bad answers only" in " ".join(capsys.readouterr().err.split())
    (path / "train" / "rollouts.jsonl").unlink()
    with pytest.raises(ConfigError, match="has no answers yet"):
        pairs.run(path, None, 0.5, reference=False)
