"""Checkpoints: whole or not there, whatever breaks."""

from __future__ import annotations

import os
import resource
import subprocess
from pathlib import Path

import processes
import pytest
import torch

from finetooth.errors import TrainError
from finetooth.training import checkpoint
from finetooth.training.checkpoint import Checkpoint

FILES = (checkpoint.WEIGHTS, checkpoint.OPTIMIZER, checkpoint.STATE, checkpoint.MANIFEST)


def made(step: int, size: int = 64) -> Checkpoint:
    weights = {"w": torch.full((size,), float(step))}
    return Checkpoint(step, weights, {"w/exp_avg": torch.ones(size)}, {"note": f"after {step}"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for step in (10, 20):
        checkpoint.save(tmp_path / "train" / "checkpoints", made(step))
    return tmp_path / "train" / "checkpoints"


def test_what_was_saved_is_what_is_loaded(folder: Path) -> None:
    said: list[str] = []
    found = checkpoint.latest(folder, said.append)
    assert found is not None
    assert (found.step, found.state["note"], said) == (20, "after 20", [])
    assert torch.equal(found.weights["w"], torch.full((64,), 20.0))
    assert torch.equal(found.optimizer["w/exp_avg"], torch.ones(64))
    assert sorted(path.name for path in (folder / "step-000020").iterdir()) == sorted(FILES)
    assert checkpoint.latest(folder / "none", said.append) is None


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["bit", "truncated", "missing", "zeros"])
def test_a_damaged_one_is_reported_and_the_one_before_is_taken(folder: Path, name: str, damage: str) -> None:
    path = folder / "step-000020" / name
    content = bytearray(path.read_bytes())
    if damage == "bit":
        content[len(content) // 2] ^= 1
    elif damage == "truncated":
        del content[-1 - len(content) // 3 :]
    elif damage == "zeros":
        content = bytearray(len(content))
    path.write_bytes(content)
    if damage == "missing":
        path.unlink()
    with pytest.raises(TrainError, match="is damaged"):
        checkpoint.load(folder / "step-000020")
    said: list[str] = []
    found = checkpoint.latest(folder, said.append)
    assert found is not None
    assert found.step == 10
    assert len(said) == 1
    assert "step-000020" in said[0]
    assert checkpoint.steps(folder) == [10]


@pytest.mark.parametrize("bit", range(0, 8 * 900, 977))
def test_no_flipped_bit_of_the_manifest_is_ever_loaded_as_other_values(folder: Path, bit: int) -> None:
    path = folder / "step-000020" / checkpoint.MANIFEST
    content = bytearray(path.read_bytes())
    content[bit // 8 % len(content)] ^= 1 << bit % 8
    path.write_bytes(content)
    found = checkpoint.latest(folder, lambda text: None)
    assert found is not None
    assert torch.equal(found.weights["w"], torch.full((64,), float(found.step)))


def test_what_an_interrupted_save_left_is_no_checkpoint_and_goes_away(folder: Path) -> None:
    torn = folder / ".step-000030.abc.tmp"
    torn.mkdir()
    (torn / checkpoint.WEIGHTS).write_bytes(b"half")
    found = checkpoint.latest(folder, lambda text: None)
    assert found is not None
    assert found.step == 20
    assert not torn.exists()


def test_saving_a_step_again_replaces_it(folder: Path) -> None:
    checkpoint.save(folder, made(20, size=8))
    assert checkpoint.load(folder / "step-000020").weights["w"].numel() == 8


def test_pruning_keeps_the_last_two_and_the_best(folder: Path) -> None:
    for step in (30, 40, 50):
        checkpoint.save(folder, made(step))
    checkpoint.prune(folder, {20})
    assert checkpoint.steps(folder) == [20, 40, 50]


def test_a_pickle_is_never_read(folder: Path) -> None:
    path = folder / "step-000020" / checkpoint.WEIGHTS
    torch.save({"w": torch.zeros(64)}, path)
    with pytest.raises(TrainError, match="is damaged"):
        checkpoint.load(folder / "step-000020")


LIMITED = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_checkpoint import made
from finetooth.errors import TrainError
from finetooth.training import checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    checkpoint.save(Path(sys.argv[1]), made(30, size=100_000))
except TrainError as error:
    print(error)
"""


def test_a_file_that_cannot_grow_is_one_clear_error_and_the_former_checkpoint_stays(folder: Path) -> None:
    assert resource.RLIMIT_FSIZE
    _, out, errors = processes.python(folder.parent, LIMITED, folder, Path(__file__).parent)
    assert "step-000030: the checkpoint cannot be written (" in out, errors
    assert f"continue with: finetooth train {folder.parent.parent}" in out
    assert sorted(path.name for path in folder.iterdir()) == ["step-000010", "step-000020"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small disk")
def test_a_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "none", disk], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        folder = disk / "train" / "checkpoints"
        checkpoint.save(folder, made(10))
        with pytest.raises(TrainError, match=r"No space left|os error 28"):
            checkpoint.save(folder, made(20, size=60_000))
        assert checkpoint.latest(folder, print).step == 10  # type: ignore[union-attr]
        assert [path.name for path in folder.iterdir()] == ["step-000010"]
    finally:
        subprocess.run(["umount", disk], check=True)
