"""Results and looks are bound by digests: an edit or a missing line is noticed, and older runs still open."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from made_up_run import made_up_run

from finetooth import rundir
from finetooth.cli.app import invoke
from finetooth.errors import DataError
from finetooth.evaluation.ledger import (
    look_count,
    looks,
    open_sealed,
    require_unchanged,
    store_files,
    store_result,
)
from finetooth.rundir import read_json, read_jsonl, write_json, write_jsonl


def bound(path: Path) -> Path:
    """A made-up run whose results are recorded in its ledger, as those of `run` are."""
    run = made_up_run(path)
    for split in ("validation", "test"):
        folder = run / "evaluate" / split
        files = {name: (folder / name).read_bytes() for name in ("records.jsonl", "summary.json")}
        store_files(run, split, files, lambda: 0.0)
    write_json(run / "data" / "split.json", {"train": 2_100})
    return run


def _edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def _without_line(number: int) -> Callable[[Path], None]:
    def cut(run: Path) -> None:
        lines = (run / "ledger.jsonl").read_text().splitlines(keepends=True)
        del lines[number]
        (run / "ledger.jsonl").write_text("".join(lines))

    return cut


EDITS: dict[str, Callable[[Path], None]] = {
    "a score in the summary": lambda run: _edit(
        run / "evaluate/test/summary.json", '"score": 0.', '"score": 0.9'
    ),
    "the summary of the run": lambda run: _edit(run / "evaluate/summary.json", '"score": 0.', '"score": 0.9'),
    "a record": lambda run: _edit(run / "evaluate/validation/records.jsonl", '"score": 0.0', '"score": 1.0'),
    "a record of the test": lambda run: _edit(
        run / "evaluate/test/records.jsonl", '"score": 0.0', '"score": 1.0'
    ),
    "records deleted": lambda run: (run / "evaluate/test/records.jsonl").unlink(),
    "the first line": _without_line(0),
    "the look": _without_line(1),
    "the last line": _without_line(-1),
    "the number of a look": lambda run: _edit(run / "ledger.jsonl", '"look": 1', '"look": 2'),
    "no ledger": lambda run: (run / "ledger.jsonl").unlink(),
    "no head": lambda run: (run / "ledger.sha256").unlink(),
    "an empty ledger": lambda run: (run / "ledger.jsonl").write_text(""),
}


GATE = ("a score in the summary", "a record of the test", "the look", "the last line", "no ledger", "no head")


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(edit, id=name, marks=() if name in GATE else pytest.mark.full)
        for name, edit in EDITS.items()
    ],
)
def test_what_was_edited_is_not_reported(
    tmp_path: Path, edit: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    run = bound(tmp_path / "run")
    assert invoke(["report", str(run)]) == 0
    assert "older version" not in capsys.readouterr().out
    edit(run)
    assert invoke(["report", str(run)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "ledger.jsonl" in told.err
    assert "Traceback" not in told.err


def test_compare_refuses_an_edited_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = bound(tmp_path / "one"), bound(tmp_path / "two")
    EDITS["a record"](two)
    assert invoke(["compare", str(two), str(one)]) == 2
    assert "records.jsonl is not what finetooth wrote there" in capsys.readouterr().err


def test_an_older_run_opens_and_says_what_is_not_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = made_up_run(tmp_path / "run")
    lines = [
        {key: event[key] for key in event if key != "previous"} for event in read_jsonl(run / "ledger.jsonl")
    ]
    write_jsonl(run / "ledger.jsonl", lines)
    (run / "ledger.sha256").unlink()
    assert invoke(["report", str(run)]) == 0
    assert "of an older version, which kept no digests" in " ".join(capsys.readouterr().out.split())
    open_sealed(run, "two", lambda: 0.0)  # goes on with digests, which hold the older lines too
    assert look_count(run) == 2
    _edit(run / "ledger.jsonl", '"event": "opened"', '"event": "closed"')
    with pytest.raises(DataError, match="edited or taken out"):
        look_count(run)


@pytest.mark.parametrize("at", range(9))  # three writes for each copy of the rows' ledger, then for the run's
def test_a_crash_while_a_look_is_recorded_is_no_edit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    run = bound(tmp_path / "run")
    real, writes = rundir.fsync_path, []

    class Killed(BaseException):
        pass

    def killed(path: Path) -> None:
        writes.append(path)
        if len(writes) == 2 * at + 1:
            raise Killed
        real(path)

    monkeypatch.setattr(rundir, "fsync_path", killed)
    with pytest.raises(Killed):
        open_sealed(run, "two", lambda: 0.0)
    monkeypatch.undo()
    assert look_count(run) == (1 if at < 8 else 2)
    open_sealed(run, "two", lambda: 0.0)
    assert look_count(run) == looks(run).count == 2
    assert require_unchanged(run) == []


def test_results_of_an_earlier_evaluation_are_not_edits(tmp_path: Path) -> None:
    """A crash between the record of new results and their files leaves the earlier files."""
    run = bound(tmp_path / "run")
    folder = run / "evaluate" / "validation"
    before = {name: (folder / name).read_bytes() for name in ("records.jsonl", "summary.json")}
    store_files(run, "validation", {name: content + b"\n" for name, content in before.items()}, lambda: 0.0)
    for name, content in before.items():
        (folder / name).write_bytes(content)
    assert require_unchanged(run, "validation") == []


def test_a_result_without_a_look_is_refused_and_the_chain_is_what_the_guide_says(tmp_path: Path) -> None:
    run = bound(tmp_path / "run")
    with pytest.raises(DataError, match="there is no look"):
        store_result(run, "none", read_json(run / "evaluate" / "summary.json"), lambda: 0.0)
    previous = [json.loads(line)["previous"] for line in (run / "ledger.jsonl").read_text().splitlines()]
    assert previous[0] == 64 * "0" and len(set(previous)) == len(previous)
