"""benchmarks/data_gate.py: the rows it makes are the same each time and hold the errors that it plants."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scripts_for_tests import load_script

pytestmark = pytest.mark.full
data_gate = load_script("benchmarks/data_gate.py")


@pytest.mark.parametrize("kind", ["labels", "qa"])
def test_rows_are_seeded_and_every_rule_is_timed(kind: str, tmp_path: Path) -> None:
    rows = list(data_gate.Writer(3).rows(kind, 400))
    assert rows == list(data_gate.Writer(3).rows(kind, 400)) != list(data_gate.Writer(4).rows(kind, 400))
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    times = data_gate.by_rule(file)
    found = {name: count for name, _, count in times}
    assert found["read, clean and split"] == 400 and found["duplicates"] > 0 and found["near_duplicates"] > 0
    assert len(found) == len(times) and all(seconds >= 0 for _, seconds, _ in times)
