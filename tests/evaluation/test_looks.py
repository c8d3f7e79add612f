"""Looks are counted by the sealed rows, over all runs."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from sealed_for_tests import clock, copies, events, look, number, rows, sealed_run

from finetooth.evaluation import ledger, looks
from finetooth.evaluation.looks import FOLDER, Look, SealedSet
from finetooth.evaluation.proof import looks_words
from finetooth.types import Answer, Example, Message


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


def test_looks_of_a_run_of_an_older_version_count(tmp_path: Path, state: Path) -> None:
    """They are in its own ledger alone."""
    one = sealed_run(tmp_path / "one", rows(0, 9))
    number(one, "a")
    shutil.rmtree(state)
    shutil.rmtree(one / FOLDER)
    assert ledger.looks(one).count == 1 and number(one, "a") == 1 and number(one, "b") == 2


def test_the_users_state_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FINETOOTH_STATE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert looks.state_directory() == tmp_path / ".local/state/finetooth"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert looks.state_directory() == tmp_path / "xdg" / "finetooth"


def test_the_page_says_how_often_the_test_was_opened() -> None:
    told = looks_words({"look": 2, "looks": 3, "alpha": 0.0167}, 1)
    assert told == "The sealed test was opened 2 times, by all runs together, of which 3 can prove something."
    assert looks_words({"look": 1, "looks": 3, "alpha": 0.0167}, 4) == ""  # its own count is the whole one
    assert looks_words({}, 1) == "" and "opened 3 times; each further look" in looks_words({}, 3)
