"""The ledger of sealed rows is kept in two places, survives what happens there, and notices changes."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import FORK, Launched, kill_at_write
from sealed_for_tests import clock, copies, events, look, number, rows, sealed_run

from finetooth.errors import DataError
from finetooth.evaluation import ledger
from finetooth.evaluation.looks import FOLDER, Look


@pytest.mark.parametrize("which", [0, 1], ids=["beside the task", "the user's"])
def test_a_deleted_copy_is_restored(which: int, tmp_path: Path, task: Path, state: Path) -> None:
    one = sealed_run(tmp_path / "one", rows(0, 9), task)
    number(one, "a")
    place = (task / FOLDER, state)[which]
    shutil.rmtree(place)
    assert ledger.looks(one).count == 1
    assert number(sealed_run(tmp_path / "two", rows(0, 9), task), "b") == 2
    first, second = copies(task, state)
    assert events(first) == events(second) and len(events(first)) == 3


def test_copies_that_went_apart_are_united(tmp_path: Path, task: Path, state: Path) -> None:
    """The task's folder was copied to another machine, where looks went on."""
    one = sealed_run(tmp_path / "one", rows(0, 9), task)
    number(one, "a", 5)
    there = shutil.copytree(state, tmp_path / "there")
    number(one, "b", 5)
    shutil.rmtree(state)
    shutil.move(there, state)
    shutil.rmtree(tmp_path / "one")
    (aside,) = (file.rename(tmp_path / "aside") for file in [task / FOLDER])
    assert number(sealed_run(tmp_path / "two", rows(0, 9)), "c", 5) == 2
    aside.rename(task / FOLDER)
    assert number(sealed_run(tmp_path / "three", rows(0, 9), task), "d", 5) == 4
    assert [{event.get("digest") for event in events(file)} for file in copies(task, state)] == [
        {None, *"abcd"},
        {None, *"abcd"},
    ]


def _without_last(file: Path) -> None:
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))


def _renumbered(file: Path) -> None:
    text = file.read_text()
    file.write_text(text.replace('"look": 1', '"look": 0'))
    assert file.read_text() != text


CHANGES: dict[str, Callable[[Path], None]] = {
    "the last line": _without_last,
    "all lines": lambda file: file.write_text(""),
    "a number": _renumbered,
    "no head": lambda file: file.with_suffix(".sha256").unlink(),
    "not a ledger": lambda file: file.write_text("looks: none\n"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("which", [0, 1], ids=["beside the task", "the user's"])
def test_an_edited_copy_stops_and_says_what_to_do(
    change: Callable[[Path], None], which: int, tmp_path: Path, task: Path, state: Path
) -> None:
    one = sealed_run(tmp_path / "one", rows(0, 9), task)
    number(one, "a")
    number(one, "b")
    edited, whole = copies(task, state)[which], copies(task, state)[1 - which]
    change(edited)
    two = sealed_run(tmp_path / "two", rows(5, 20), task)
    for open_again in (lambda: number(one, "c"), lambda: number(two, "c"), lambda: ledger.looks(two)):
        with pytest.raises(DataError, match=f"Delete it, and it is restored from {whole}") as error:
            open_again()
        assert str(edited) in str(error.value)
    edited.unlink()
    assert number(two, "c") == 3 and number(one, "d") == 4
    whole.unlink()
    CHANGES["the last line"](edited)
    with pytest.raises(DataError, match="Restore it from a backup, or seal new rows"):
        number(one, "e")


def test_both_copies_deleted_is_an_error_while_a_digest_is_left(
    tmp_path: Path, task: Path, state: Path
) -> None:
    number(sealed_run(tmp_path / "one", rows(0, 9), task), "a")
    for file in copies(task, state):
        file.unlink()
    with pytest.raises(DataError, match="edited or taken out"):
        number(sealed_run(tmp_path / "two", rows(0, 9), task), "b")


def test_a_python_task_keeps_it_in_the_run(tmp_path: Path, state: Path) -> None:
    one = sealed_run(tmp_path / "one", rows(0, 9))
    number(one, "a")
    assert [file.parent for file in copies(one, state)] == [one / FOLDER, state]


def test_it_moves_with_the_task_and_its_runs(tmp_path: Path, task: Path, state: Path) -> None:
    number(sealed_run(task / "runs" / "one", rows(0, 9), task), "a")
    moved = task.rename(tmp_path / "moved")
    shutil.rmtree(state)
    assert number(moved / "runs" / "one", "b") == 2
    assert len(events(copies(moved, state)[0])) == 3


# Places that cannot be written ------------------------------------------------------------------------------


def test_an_unwritable_state_directory_is_a_warning(tmp_path: Path, task: Path, state: Path) -> None:
    state.parent.write_text("a file, since nothing is read-only for root")
    one = sealed_run(tmp_path / "one", rows(0, 9), task)
    taken = look(one, "a")
    assert taken is not None and len(taken.notes) == 1
    assert taken.notes[0].startswith(f"{state} cannot be written") and str(task / FOLDER) in taken.notes[0]
    assert len(events(copies(task, state)[0])) == 2
    state.parent.unlink()
    assert look(one, "b") == Look(2, 1), "it can be written again"
    assert len({file.read_bytes() for file in copies(task, state)}) == 1


def test_nowhere_to_write_keeps_the_test_closed(tmp_path: Path, task: Path, state: Path) -> None:
    one = sealed_run(tmp_path / "one", rows(0, 9), task)
    state.parent.write_text("")
    (task / FOLDER).write_text("")
    with pytest.raises(DataError, match=r"stays closed.*FINETOOTH_STATE"):
        look(one, "a")
    assert ledger.look_count(one) == 0


def test_an_empty_variable_keeps_it_beside_the_task_alone(
    tmp_path: Path, task: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINETOOTH_STATE", "")
    assert look(sealed_run(tmp_path / "one", rows(0, 9), task), "a") == Look(1, 1)


# Processes --------------------------------------------------------------------------------------------------


def _open(run: str, digest: str, kill_at: int) -> None:
    """Take a look and store its result, killed before this fsync or rename (0: never)."""
    if kill_at:
        kill_at_write(kill_at)
    ledger.take_look(Path(run), digest, clock)
    ledger.store_result(Path(run), digest, {"digest": digest}, clock)


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.full)])
def test_killed_at_any_write_no_look_is_lost_or_paid_twice(
    step: int, tmp_path: Path, task: Path, state: Path
) -> None:
    first = sealed_run(tmp_path / "first", rows(0, 3), task)
    _open(str(first), "a", 0)
    kept_of = {task / FOLDER: tmp_path / "kept-task", state: tmp_path / "kept-state"}
    for place, kept in kept_of.items():
        shutil.copytree(place, kept)
    for at in range(1, 1_000, step):
        for place, kept in kept_of.items():
            shutil.rmtree(place)
            shutil.copytree(kept, place)
        run = sealed_run(tmp_path / f"at-{at}", rows(0, 3), task)
        code = Launched(_open, (str(run), "b", at), tmp_path).wait()
        known = ledger.looks(run)
        assert known.count in (1, 2)
        ledger.require_unchanged(run)
        _open(str(run), "b", 0)
        assert ledger.stored_result(first, "b") == {"digest": "b"}
        beside, users = copies(task, state)
        assert events(beside) == events(users), at
        assert not list(users.parent.glob("*.tmp")) and not list(beside.parent.glob("*.tmp"))
        assert [event.get("digest") for event in events(users)] == [None, "a", "a", "b", "b"], at
        assert ledger.look_number(run, "b") == 2 and ledger.look_count(run) == 1, at
        if code == 0:
            break
        assert code == -signal.SIGKILL, at
    assert at > 40


def test_two_processes_at_once_take_two_looks(tmp_path: Path, task: Path, state: Path) -> None:
    names = [f"run-{i}" for i in range(6)]
    runs = [sealed_run(tmp_path / name, rows(0, 9), task) for name in names]
    processes = [
        FORK.Process(target=_open, args=(str(run), name, 0)) for run, name in zip(runs, names, strict=True)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    taken = [ledger.look_number(run, name) for run, name in zip(runs, names, strict=True)]
    assert sorted(number or 0 for number in taken) == [1, 2, 3, 4, 5, 6]
    beside, users = copies(task, state)
    assert events(beside) == events(users) and len(events(users)) == 13
    assert not list(tmp_path.rglob("*.tmp"))
