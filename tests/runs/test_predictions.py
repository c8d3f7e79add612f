"""The log of answers, from which `predict` goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetooth.errors import ConfigError
from finetooth.rundir import read_jsonl
from finetooth.runs.predictions import PredictionLog, RowAnswer


def test_the_log_of_other_work_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / ".out.csv.progress"
    with PredictionLog(path, "one") as log:
        log.add(2, RowAnswer("red", 0.5))
        with pytest.raises(ConfigError, match="another finetooth process"):
            PredictionLog(path, "one")
    with PredictionLog(path, "one") as log:
        assert log.known == {2: RowAnswer("red", 0.5)}
    with PredictionLog(path, "other") as log:
        assert log.known == {}
    path.write_bytes(b'{"work": "other"}\n{"pl\n')
    with PredictionLog(path, "other") as log:
        assert log.known == {}
        log.add(3, RowAnswer(error="no"))
    assert list(read_jsonl(path))[1]["place"] == 3
