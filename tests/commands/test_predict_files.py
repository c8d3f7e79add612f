"""`finetooth predict RUN FILE FILE...`: each file by a process of its own, and again after a kill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fruit_run import fruit_run, predict

from finetooth.commands import predict_files


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fruit_run(tmp_path_factory.mktemp("place"))


def test_several_files_are_different_ones_and_no_pipe(place: Path) -> None:
    one, other = place / "tomorrow.csv", place / "sheet.csv"
    for words in ([one, other, "--out", "x.csv"], [one, "-"], [one, one]):
        assert predict(place, *words).returncode == 2


def test_a_repeated_command_for_many_files_skips_what_it_has_finished(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file is what a worker of the command answers, here in this process."""
    monkeypatch.setenv("FINETOOTH_CACHE", str(tmp_path / "cache"))
    one, other = tmp_path / "one.csv", tmp_path / "other.csv"
    for file in (one, other):
        file.write_bytes((place / "tomorrow.csv").read_bytes())

    def worker(file: Path, *words: Any) -> Any:
        return predict(place, file, "--json", "--quiet", "--skip-finished", *words)

    first = json.loads(worker(one).stdout)
    out = Path(first["out"])
    written = out.stat().st_mtime_ns
    again = worker(one)
    assert again.returncode == 0 and out.stat().st_mtime_ns == written
    assert json.loads(again.stdout) == {**first, "finished_before": True}
    assert predict_files._line(json.loads(again.stdout)).startswith("answered before by the same command")
    assert "finished_before" not in json.loads(worker(other).stdout)
    # Whatever else is there is not overwritten: another threshold's output, another input's, an edited one.
    assert worker(one, "--unsure-below", 0.9).returncode == 2
    one.write_bytes(one.read_bytes() + b"99;5 of apple?;x\r\n")
    assert worker(one).returncode == 2 and out.stat().st_mtime_ns == written
    edited = Path(json.loads(worker(other).stdout)["out"])
    edited.write_bytes(edited.read_bytes() + b"mine")
    assert worker(other).returncode == 2 and edited.read_bytes().endswith(b"mine")
    assert worker(other, "--force").returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "one.csv",
        "one.predicted.csv",
        "other.csv",
        "other.predicted.csv",
    ]


@pytest.mark.full
def test_several_files_are_answered_in_processes_of_their_own(place: Path, tmp_path: Path) -> None:
    """Each as by the command for one file; one that is not there does not stop the others."""
    files = [tmp_path / f"{name}.csv" for name in "abc"]
    for file in files[:2]:
        file.write_bytes((place / "tomorrow.csv").read_bytes())
    done = predict(place, *files, "--workers", 2, "--unsure-below", 0.5, "--json")
    assert done.returncode == 2 and "c.csv" in done.stderr
    assert [one.get("answered") for one in json.loads(done.stdout)["files"]] == [9, 9, None]
    one = predict(place, place / "tomorrow.csv", "--out", tmp_path / "one.csv", "--unsure-below", 0.5)
    assert one.returncode == 0
    for file in files[:2]:
        written = file.with_name(f"{file.stem}.predicted.csv").read_bytes()
        assert written == (tmp_path / "one.csv").read_bytes()
