"""A damaged file of a run is named in one line; an error with whole files stays a bug."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_up_run import made_up_run

from finetooth.cli.app import invoke
from finetooth.runs.damage import LINES, OBJECTS, find_damage

NAMES = [*OBJECTS, *(name for name in LINES if name != "train/rollouts.jsonl")]
WRONG = {
    "empty": b"",
    "truncated": b'{"a": [1',
    "no object": b"[]\n",
    "no keys": b"{}\n",
    "no text": b"\xff{}\n",
}


def test_a_whole_run_has_no_damage(tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "run")
    assert "environment.json: model is missing" in (find_damage(run) or "")  # the made-up one has no model
    (run / "environment.json").write_text('{"versions": {}, "model": {}}')
    assert find_damage(run) is None
    assert find_damage(tmp_path) is None


@pytest.mark.parametrize(
    ("name", "wrong"),
    [  # the gate damages each file in one way, and tries each way
        pytest.param(name, wrong, marks=() if (file - way) % len(WRONG) == 0 else pytest.mark.full)
        for file, name in enumerate(NAMES)
        for way, wrong in enumerate(WRONG)
    ],
)
def test_no_command_calls_damage_a_bug(
    tmp_path: Path, name: str, wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = made_up_run(tmp_path / "run")
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).write_bytes(WRONG[wrong])
    for command in (["report"], ["compare", str(made_up_run(tmp_path / "other"))], ["pairs"], ["evaluate"]):
        code = invoke([*command, str(run)])
        told = capsys.readouterr().err
        assert code in (0, 2), told
        assert "Traceback" not in told and "This is a bug" not in told
