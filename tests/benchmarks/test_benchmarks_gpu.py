"""The GPU benchmark, tried on the CPU with tiny models: every step of it that needs no GPU and no peer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scripts_for_tests import load_script

pytestmark = pytest.mark.full
gpu = load_script("benchmarks/gpu.py")
run_gpu = load_script("benchmarks/peers/run_gpu.py")


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("room")


@pytest.fixture(scope="module")
def spec(room: Path) -> dict[str, Any]:
    model = gpu.make_model(room / "tiny", "llama", gpu.SHAPES["tiny"], "cpu")
    rows = [row.as_json() for row in gpu.made.classification_rows(4, gpu.SHAPES["tiny"]["vocab_size"])]
    (room / "rows.json").write_text(json.dumps(rows))
    return {
        "model": str(model),
        "device": "cpu",
        "rows": str(room / "rows.json"),
        "rank": 4,
        "rate": 1e-2,
        "micro_tokens": 600,
        "max_tokens": 3,
        "options": [],
        "steps": 2,
        "warmup": 1,
    }


@pytest.mark.parametrize("adapter", ["lora", "none"])
def test_training_is_measured(spec: dict[str, Any], adapter: str) -> None:
    found = run_gpu.measure(spec | {"system": "train_ours", "adapter": adapter})
    assert len(found["seconds"]) == 2 and min(found["seconds"]) > 0 < found["peak"]
    assert len(found["losses"]) == 3 and found["losses"][1] < found["losses"][0]
    assert 400 < found["computed_tokens"] < 800  # the system prompt of the four rows once a micro-tree
    json.dumps(found)


@pytest.mark.parametrize("options", [[], [[3, 4, 2], [5, 6, 2]]])
def test_answers_are_measured(spec: dict[str, Any], options: list[list[int]]) -> None:
    asked = spec | {"options": options, "batch": 2}
    assert run_gpu.measure(asked | {"system": "answer_ours"})["count"] == 4
    for cached in (False, True) if options else (False,):
        found = run_gpu.measure(asked | {"system": "answer_stock", "cached": cached})
        assert found["count"] == (1 if options else 4) and len(found["seconds"]) == 2


def test_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"trl", "datasets"}
    monkeypatch.setattr(gpu.importlib.util, "find_spec", lambda name: name if name in there else None)
    lacking = {name: lacks for name, _, lacks in gpu.trainers(8)}
    assert lacking["finetooth"] is lacking["trl, packed"] is None
    assert (lacking["trl, packed, liger"], lacking["unsloth"]) == ("liger_kernel", "unsloth")
    there.clear()
    assert {name: lacks for name, _, lacks in gpu.trainers(8)}["unsloth"] == "trl"


def test_a_system_that_fails_does_not_end_the_others(spec: dict[str, Any], room: Path) -> None:
    found = gpu.launch(spec | {"system": "no such"}, room)
    assert "KeyError" in found["failed"] and "KeyError" in gpu.told(found)


def test_from_start_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gpu.main(["--smoke", "--cases", "a-lora", "--large", "", "--out", str(tmp_path)])
    told = capsys.readouterr().out
    assert "matrix products at" in told and "row tokens/s" in told
    results = json.loads((tmp_path / "results.json").read_text())
    ours = results["cases"]["a-lora"]["finetooth"]
    assert 0 < ours["share"] < 1.5 and results["gflop_per_second"] > 0
