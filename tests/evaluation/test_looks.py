"""The ledger of sealed rows: it follows the rows, is kept in two places, and notices what was changed."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from processes import FORK, Launched

from finetooth.data.examples import to_json
from finetooth.errors import DataError
from finetooth.evaluation import ledger, looks
from finetooth.evaluation.looks import FOLDER, Look, SealedSet
from finetooth.rundir import read_jsonl, write_jsonl
from finetooth.types import Answer, Example, Message


def rows(first: int, last: int) -> list[Example]:
    return [Example(f"id{i}", (Message("user", f"q {i}"),), (Answer(f"a {i}"),)) for i in range(first, last)]


def clock() -> float:
    return 1_700_000_000.0


def sealed_run(path: Path, examples: list[Example], folder: Path | None = None) -> Path:
    """A run directory that has sealed these rows; folder: that of its task file."""
    write_jsonl(path / "data" / "sealed.jsonl", map(to_json, examples))
    ledger.seal(path, clock, None, folder)
    return path


def look(run: Path, digest: str, declared: int = 1, further: bool = True) -> Look | None:
    return ledger.take_look(run, digest, clock, declared, further)


def number(run: Path, digest: str, declared: int = 1) -> int:
    taken = look(run, digest, declared)
    assert taken is not None
    return taken.number


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("FINETOOTH_STATE", str(tmp_path / "state"))
    return tmp_path / "state" / "ledger"


@pytest.fixture
def task(tmp_path: Path) -> Path:
    (tmp_path / "task").mkdir()
    return tmp_path / "task"


def copies(task: Path, state: Path) -> list[Path]:
    """The copies of the one ledger there is."""
    return [file for place in (task / FOLDER, state) for file in place.glob("*.jsonl")]


def events(file: Path) -> list[dict[str, Any]]:
    return [{key: line[key] for key in line if key != "previous"} for line in read_jsonl(file)]


def test_a_set_is_what_its_rows_say() -> None:
    examples = rows(0, 4)
    other = [replace(row, id=f"new-{row.id}", tags={"file": "b.csv", "line": 9}) for row in examples[::-1]]
    assert SealedSet.of(other) == SealedSet.of(examples)
    tool = {"type": "function", "function": {"name": "f"}}
    changes = [
        replace(examples[0], answers=(Answer("b"),)),
        replace(examples[0], context=(Message("system", "q 0"),)),
        replace(examples[0], tools=(tool,)),
    ]
    digests = {SealedSet.of([change, *examples[1:]]).digest for change in changes}
    assert len(digests | {SealedSet.of(examples).digest, SealedSet.of(examples[1:]).digest}) == 5


def test_looks_are_counted_over_runs(tmp_path: Path, task: Path, state: Path) -> None:
    one = sealed_run(tmp_path / "one", rows(0, 9), task)
    two = sealed_run(tmp_path / "two", rows(0, 9)[::-1], task)
    assert [number(one, "a"), number(two, "b"), number(one, "c")] == [1, 2, 3]
    assert (number(two, "a"), number(one, "b")) == (1, 2), "the same digest is the same look, in any run"
    renamed = shutil.copytree(one, tmp_path / "renamed")
    shutil.rmtree(one)
    assert number(renamed, "d") == 4
    assert ledger.looks(two).count == 4 and ledger.looks(two).others == 2
    beside, users = copies(task, state)
    assert events(beside) == events(users)
    assert [event["event"] for event in events(users)] == ["sealed", *4 * ["opened"]]


@pytest.mark.parametrize(
    ("sealed", "inherited"),
    [(rows(0, 8), True), (rows(8, 30), True), ([*rows(1, 9), *rows(20, 21)], True), (rows(9, 20), False)],
    ids=["shortened", "one row is shared", "changed a little", "other rows"],
)
def test_other_sealed_rows_begin_a_count_only_if_none_is_shared(
    sealed: list[Example], inherited: bool, tmp_path: Path, task: Path, state: Path
) -> None:
    number(sealed_run(tmp_path / "one", rows(0, 9), task), "a", 3)
    two = sealed_run(tmp_path / "two", sealed, tmp_path / "elsewhere")
    taken = look(two, "b", 5)
    assert taken == (Look(2, 3) if inherited else Look(1, 5))
    assert (look(sealed_run(tmp_path / "three", sealed), "c", further=False) is None) is True


def test_text_that_differs_in_form_alone_is_shared(tmp_path: Path, state: Path) -> None:
    number(sealed_run(tmp_path / "one", rows(0, 1)), "a")
    shouted = [Example("x", (Message("user", "  Q 0 "),), (Answer("A 0."),))]
    two = sealed_run(tmp_path / "two", shouted)
    assert number(two, "a") == 2, "other rows, so the digest is not that of the same look"


def test_the_first_declaration_holds(tmp_path: Path, task: Path, state: Path) -> None:
    one = sealed_run(tmp_path / "one", rows(0, 9), task)
    assert look(one, "a", 3) == Look(1, 3)
    assert look(one, "b", 10) == Look(2, 3)
    assert look(one, "c") == Look(3, 3)
    beyond = look(one, "d", 10)
    assert beyond == Look(4, 3) and beyond.is_beyond


def test_only_the_first_look_is_taken_unasked(tmp_path: Path, task: Path, state: Path) -> None:
    one, two = (sealed_run(tmp_path / name, rows(0, 9), task) for name in ("one", "two"))
    assert look(one, "a", further=False) == Look(1, 1)
    before = events(copies(task, state)[0])
    assert look(two, "b", further=False) is None
    assert look(two, "a", further=False) == Look(1, 1), "a look that is on record"
    assert events(copies(task, state)[0]) == before


def test_a_result_is_found_by_every_run(tmp_path: Path, task: Path, state: Path) -> None:
    one, two = (sealed_run(tmp_path / name, rows(0, 9), task) for name in ("one", "two"))
    number(one, "a")
    assert ledger.stored_result(two, "a") is None
    ledger.store_result(one, "a", {"n": 9}, clock)
    assert ledger.stored_result(two, "a") == {"n": 9} and ledger.stored_result(two, "a", here=True) is None
    assert ledger.stored_result(sealed_run(tmp_path / "less", rows(0, 8), task), "a") is None
    ledger.store_result(one, "a", {"n": 9}, clock)
    assert sum(event["event"] == "result" for event in events(copies(task, state)[0])) == 1


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


def test_looks_of_a_run_of_an_older_version_count(tmp_path: Path, state: Path) -> None:
    """They are in its own ledger alone."""
    one = sealed_run(tmp_path / "one", rows(0, 9))
    number(one, "a")
    shutil.rmtree(state)
    shutil.rmtree(one / FOLDER)
    assert ledger.looks(one).count == 1 and number(one, "a") == 1 and number(one, "b") == 2


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


def test_the_users_state_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FINETOOTH_STATE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert looks.state_directory() == tmp_path / ".local/state/finetooth"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert looks.state_directory() == tmp_path / "xdg" / "finetooth"


# Processes --------------------------------------------------------------------------------------------------


def _open(run: str, digest: str, kill_at: int) -> None:
    """Take a look and store its result, killed before this fsync or rename (0: never)."""
    calls = 0

    def counted(real: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        return call

    if kill_at:
        os.fsync, os.replace, os.rename = counted(os.fsync), counted(os.replace), counted(os.rename)
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
    assert json.dumps(events(users))
