"""Run directories: what is ours, who writes, what a crash leaves, and logs that were cut short."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from processes import FORK

from finetooth import rundir
from finetooth.errors import ConfigError, DataError
from finetooth.rundir import append_jsonl, locked, read_jsonl, remove_leftovers, start_manifest, write_json


@pytest.fixture
def root(tmp_path: Path) -> Path:
    start_manifest(tmp_path)
    return tmp_path


def test_a_last_line_cut_inside_a_character_is_skipped(tmp_path: Path) -> None:
    content = '{"a": "é"}\n{"a": "日本"}'.encode()
    for cut in range(content.index(b"\n") + 1, len(content)):
        (tmp_path / "log.jsonl").write_bytes(content[:cut])
        assert list(read_jsonl(tmp_path / "log.jsonl")) == [{"a": "é"}]
    (tmp_path / "log.jsonl").write_bytes(b'{"a": "\xc3\n{}\n')
    with pytest.raises(DataError, match=r"log\.jsonl, line 1: not valid JSON"):
        list(read_jsonl(tmp_path / "log.jsonl"))


def test_appended_rows_are_json_only(tmp_path: Path) -> None:
    append_jsonl(tmp_path / "a" / "log.jsonl", [{"x": 1}, {"x": "ü"}])
    append_jsonl(tmp_path / "a" / "log.jsonl", [])
    assert list(read_jsonl(tmp_path / "a" / "log.jsonl")) == [{"x": 1}, {"x": "ü"}]
    with pytest.raises(ValueError, match="not JSON compliant"):
        append_jsonl(tmp_path / "a" / "log.jsonl", [{"x": float("nan")}])
    assert len(list(read_jsonl(tmp_path / "a" / "log.jsonl"))) == 2


def test_what_the_user_put_there_is_never_overwritten(root: Path) -> None:
    write_json(root / "data" / "ours.json", 1)
    write_json(root / "data" / "ours.json", 2)
    for theirs in (root / "report.html", root / "data" / "link.json", root / "train" / "adapter"):
        theirs.parent.mkdir(exist_ok=True)
        if theirs.suffix == ".html":
            theirs.write_text("MINE")
        elif theirs.suffix:
            theirs.symlink_to(root / "nowhere")
        else:
            theirs.mkdir()
        for write in (
            lambda path: write_json(path, 0),
            lambda path: append_jsonl(path, [0]),
            lambda path: rundir.atomic_directory(path).__enter__(),
        ):
            with pytest.raises(ConfigError, match="was not written by finetooth"):
                write(theirs)
    assert (root / "report.html").read_text() == "MINE"
    assert (root / "data" / "link.json").is_symlink()


def test_only_our_own_leftovers_are_removed(root: Path) -> None:
    write_json(root / "data" / "sealed.jsonl", 1)
    rundir.claim(root / "train" / "checkpoints")
    ours = [root / "data" / ".sealed.jsonl.123.tmp", root / "train" / "checkpoints" / ".step-000001.77.tmp"]
    theirs = [
        root / "data" / ".mine.jsonl.123.tmp",
        root / "data" / "sealed.jsonl.tmp",
        root / ".sealed.jsonl.123.tmp",
        root / "notes.tmp",
    ]
    ours[1].mkdir(parents=True)
    (ours[1] / "weights.safetensors").write_bytes(b"half")
    for path in (ours[0], *theirs):
        path.write_text("rows")
    remove_leftovers(root)
    assert not any(path.exists() for path in ours)
    assert all(path.exists() for path in theirs)


def _hold(root: Path, ready: str) -> None:
    with locked(root):
        Path(ready).touch()
        signal.pause()


def test_the_second_process_is_told_who_is_first_and_a_crash_frees_the_lock(
    root: Path, tmp_path: Path
) -> None:
    ready = tmp_path / "ready"
    process = FORK.Process(target=_hold, args=(root, str(ready)))
    process.start()
    while not ready.exists():
        assert process.is_alive()
        process.join(0.02)
    with pytest.raises(
        ConfigError,
        match=rf"in use by another finetooth process \(pid {process.pid}, since.*if this command has it",
    ):
        locked(root).__enter__()
    process.kill()
    process.join()
    with locked(root) as outermost:
        assert outermost
        with locked(root) as outermost:
            assert not outermost


def test_a_forked_child_does_not_keep_the_lock(root: Path) -> None:
    ours, theirs = os.pipe()
    with locked(root):
        pid = os.fork()
        if not pid:
            os.read(ours, 1)
            os._exit(0)
    with locked(root) as outermost:  # while the child still lives
        assert outermost
    os.write(theirs, b"x")
    os.waitpid(pid, 0)


def test_a_lock_file_that_was_removed_is_no_lock(root: Path) -> None:
    with locked(root):
        (root / rundir.OWN / "lock").unlink()
    with locked(root):
        assert json.dumps(os.getpid()) in (root / rundir.OWN / "lock").read_text()
