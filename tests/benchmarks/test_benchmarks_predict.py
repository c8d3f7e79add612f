"""The benchmark of predict: all systems answer the same rows with the same answers."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest
from models_for_tests import tiny_model_dir
from scripts_for_tests import load_script

pytestmark = pytest.mark.full


def test_every_system_answers_every_row_alike(tmp_path: Path) -> None:
    script = load_script("benchmarks/predict.py")
    given = Namespace(
        model=str(tiny_model_dir(tmp_path)), rows=6, rounds=2, tokens=4, batch=3, loop_rows=None
    )
    free = script.measure("free", given)
    assert set(free["equal_to_transformers"].values()) == {6}
    labels = script.measure("labels", given)
    assert set(labels["rows_per_second"]) == set(free["rows_per_second"])
    assert all(rate > 0 for rate in labels["rows_per_second"].values())
