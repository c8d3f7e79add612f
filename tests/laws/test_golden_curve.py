"""Law 9: ten losses of two fixed runs, to 1e-4. One that changes means that training changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from training_for_tests import fit, load, settings

GOLDEN: dict[str, list[float]] = {
    "lora": [5.99185, 6.39795, 6.77363, 7.73916, 5.54816, 5.45919, 5.86596, 4.85597, 5.16791, 5.19724],
    "none": [5.99185, 6.38204, 6.82434, 7.7996, 4.86573, 4.86053, 5.23907, 4.00109, 4.27523, 4.32921],
}


@pytest.mark.parametrize("adapter", GOLDEN)
def test_ten_losses(adapter: str, tmp_path: Path) -> None:
    config = settings(adapter=adapter, learning_rate=3e-3, epochs=5, max_steps=10, weight_decay=0.01)
    fit(load(tmp_path / "model", adapter), tmp_path / "run", config, validation=[])
    lines = (tmp_path / "run" / "train" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["loss"] for line in lines] == pytest.approx(GOLDEN[adapter], abs=1e-4)
