"""Law 6 for run directories: killed at any fsync or rename, or out of space, `train` goes on to the same end.

Nothing of a killed process stays: neither its lock nor its temporary files.
"""

from __future__ import annotations

import json
import resource
import signal
from pathlib import Path

import pytest
from models_for_tests import tiny_model_dir
from processes import Launched, kill_at_write

from finetooth.training import checkpoint

OPTIONS = "{max_steps: 2, batch_size: 8, rank: 2, save_every: 1, validate_every: 1, preflight: 'off'}"


def _train(out: str, kill_at: int, limit: int) -> None:
    """`finetooth train`, killed before this fsync or rename (0: never); files have at most `limit` bytes."""
    if kill_at:
        kill_at_write(kill_at)
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    from finetooth.cli.app import main

    main(["train", "task.yaml", "--out", out, "--quiet"])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    tiny_model_dir(folder / "model")
    rows = [{"text": f"question {i} about {i * 7 % 13}", "label": f"l{i % 2}"} for i in range(40)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "task.yaml").write_text(f"model: ./model\ndata: {{train: rows.jsonl}}\ntrain: {OPTIONS}\n")
    assert Launched(_train, ("straight", 0, 0), folder).wait() == 0
    return folder


def _end(run: Path) -> dict[str, bytes]:
    """What must be equal at the end: the adapter, the rows, and the metrics without the time taken."""
    names = ["data/sealed.jsonl", *(f"train/adapter/{name}" for name in ("adapter_model.safetensors",))]
    names.append("train/adapter/adapter_config.json")
    found = {name: (run / name).read_bytes() for name in names}
    lines = [json.loads(line) for line in (run / "train" / "metrics.jsonl").read_text().splitlines()]
    found["metrics"] = json.dumps([{**line, "seconds": 0} for line in lines]).encode()
    assert not list(run.rglob("*.tmp"))
    assert not list(run.rglob(".preflight*"))
    return found


@pytest.mark.slow
def test_killed_before_each_fsync_and_rename(place: Path) -> None:
    straight, at = _end(place / "straight"), 0
    while True:
        at += 1
        code = Launched(_train, (f"at-{at}", at, 0), place).wait()
        if code == 0:
            break  # there are no more of them
        assert code == -signal.SIGKILL, at
        code, _, err = Launched(_train, (f"at-{at}", 0, 0), place).end()
        assert code == 0, (at, err)
        assert _end(place / f"at-{at}") == straight, at
    assert at > 60


@pytest.mark.slow
@pytest.mark.parametrize("limit", [2_000, 5_000, 20_000, 60_000])
def test_files_that_cannot_be_written(place: Path, limit: int) -> None:
    code, _, err = Launched(_train, (f"full-{limit}", 0, limit), place).end()
    assert code in (0, 2), err
    assert "Traceback" not in err and "This is a bug" not in err
    code, _, err = Launched(_train, (f"full-{limit}", 0, 0), place).end()
    assert code == 0, err
    assert _end(place / f"full-{limit}") == _end(place / "straight")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [checkpoint.WEIGHTS, checkpoint.OPTIMIZER, checkpoint.STATE, checkpoint.MANIFEST]
)
def test_one_flipped_byte_in_a_checkpoint_is_noticed(place: Path, name: str) -> None:
    run = place / f"flipped-{name}"
    assert Launched(_train, (run.name, 0, 0), place).wait() == 0
    for done in ("result.json", "adapter"):
        (run / "train" / done).rename(run / "train" / f"{done}.aside")
    newest = max((run / "train" / "checkpoints").glob("step-*")) / name
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    code, _, err = Launched(_train, (run.name, 0, 0), place).end()
    assert code == 0, err
    assert _end(run) == _end(place / "straight")
