"""The estimate of memory beside measured peaks: at most 20% off, and never more than 10% low."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scripts_for_tests import ROOT, load_script

from finetooth.training.estimate import MemoryFacts, Workload, estimate_memory

benchmark = load_script("benchmarks/estimate.py")
MEASURED = json.loads((ROOT / "benchmarks" / "results" / "estimate.json").read_text(encoding="utf-8"))


def test_twelve_configurations_were_measured() -> None:
    kinds = {(result["model"], result["adapter"], result["length"]) for result in MEASURED}
    models, adapters, lengths = (set(values) for values in zip(*kinds, strict=True))
    assert len(kinds) == 12 == len(models) * len(adapters) * len(lengths) and adapters == {"lora", "none"}


@pytest.mark.parametrize("result", MEASURED, ids=lambda r: f"{r['model']}-{r['adapter']}-{r['length']}")
def test_the_estimate_is_close_to_what_was_measured(result: dict[str, Any]) -> None:
    predicted = estimate_memory(MemoryFacts(**result["facts"]), Workload(**result["workload"])).peak
    assert predicted == result["predicted"]
    assert 0.9 <= predicted / result["peak"] <= 1.2


@pytest.mark.slow
@pytest.mark.parametrize("name", benchmark.SHAPES)
def test_the_estimate_is_close_to_what_is_measured(tmp_path: Path, name: str) -> None:
    results = benchmark.measured({name: tmp_path / "model"}, benchmark.LENGTHS)
    assert len(results) == 2 * len(benchmark.LENGTHS)
    for result in results:
        assert 0.9 <= result["predicted"] / result["peak"] <= 1.2, result
