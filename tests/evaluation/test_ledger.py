"""The sealed test is opened through the ledger alone, once for each set of candidates."""

import json
from pathlib import Path

import processes
import pytest

from finetooth.data.examples import content_id, to_json
from finetooth.errors import DataError
from finetooth.evaluation.ledger import (
    lengths,
    look_count,
    look_number,
    open_sealed,
    rows_of_result,
    seal,
    sealed_count,
    store_result,
    stored_result,
)
from finetooth.evaluation.looks import SealedSet
from finetooth.rundir import read_jsonl, sha256_file, write_jsonl
from finetooth.types import Answer, Example, Message

EXAMPLES = [
    Example(f"id{i}", (Message("user", f"q\u2028{i}"),), (Answer("a"),), {"line": i}) for i in range(5)
]


def clock() -> float:
    return 1_700_000_000.0


@pytest.fixture
def run_path(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "data" / "sealed.jsonl", map(to_json, EXAMPLES))
    seal(tmp_path, clock)
    return tmp_path


def events(run_path: Path) -> list[dict[str, object]]:
    """The events, without the digests that chain them (test_ledger_digests.py)."""
    lines = read_jsonl(run_path / "ledger.jsonl")
    return [{key: line[key] for key in line if key != "previous"} for line in lines]


def test_every_look_is_written_down_before_it_is_taken(run_path: Path) -> None:
    sealed = {
        "sha256": sha256_file(run_path / "data/sealed.jsonl"),
        "rows": 5,
        "time": "2023-11-14T22:13:20+00:00",
        "set": SealedSet.of(EXAMPLES).digest,
        "contents": sorted(map(content_id, EXAMPLES)),
    }
    assert events(run_path) == [{"event": "sealed", **sealed}]
    assert open_sealed(run_path, "one", clock) == EXAMPLES
    open_sealed(run_path, "two", clock)
    assert [event["look"] for event in events(run_path)[1:]] == [1, 2]
    assert events(run_path)[1] == {"event": "opened", "digest": "one", "time": sealed["time"], "look": 1}
    assert (look_count(run_path), look_number(run_path, "two"), look_number(run_path, "three")) == (
        2,
        2,
        None,
    )


def test_the_same_candidates_look_once(run_path: Path) -> None:
    open_sealed(run_path, "one", clock)
    open_sealed(run_path, "one", clock)  # a crash before the result was stored: the look is not paid twice
    assert look_count(run_path) == 1
    assert stored_result(run_path, "one") is None
    store_result(run_path, "one", {"n": 5}, clock)
    assert stored_result(run_path, "one") == {"n": 5}
    assert stored_result(run_path, "two") is None
    with pytest.raises(DataError, match="there is no look with the digest two"):
        store_result(run_path, "two", {"n": 5}, clock)


def test_rows_of_a_result_are_no_new_look(run_path: Path) -> None:
    assert rows_of_result(run_path, {"n": 5}) is None
    open_sealed(run_path, "one", clock)
    store_result(run_path, "one", {"n": 5}, clock)
    before = events(run_path)
    assert rows_of_result(run_path, {"n": 5}) == EXAMPLES
    assert rows_of_result(run_path, {"n": 4}) is None
    assert events(run_path) == before


def test_sealing_twice_changes_nothing(run_path: Path) -> None:
    seal(run_path, clock)
    assert len(events(run_path)) == 1


@pytest.mark.parametrize("change", ["edit", "add", "remove"])
def test_a_changed_test_file_is_refused(run_path: Path, change: str) -> None:
    path = run_path / "data" / "sealed.jsonl"
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    edited = {
        "edit": [lines[0].replace('"a"', '"b"'), *lines[1:]],
        "add": [*lines, lines[0]],
        "remove": lines[1:],
    }
    path.write_text("\n".join(edited[change]) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="not the file that was sealed"):
        open_sealed(run_path, "one", clock)
    with pytest.raises(DataError, match="not the file that was sealed"):
        seal(run_path, clock)
    assert look_count(run_path) == 0


def test_an_unsealed_or_missing_test_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no sealed test"):
        seal(tmp_path, clock)
    write_jsonl(tmp_path / "data" / "sealed.jsonl", map(to_json, EXAMPLES))
    with pytest.raises(DataError, match="was never sealed"):
        open_sealed(tmp_path, "one", clock)


def test_a_torn_line_of_the_ledger_does_not_swallow_the_next(run_path: Path) -> None:
    with (run_path / "ledger.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"event": "ope')
    open_sealed(run_path, "one", clock)
    assert [event["event"] for event in events(run_path)] == ["sealed", "opened"]


WATCHED = """
import sys
from pathlib import Path
from finetooth.evaluation import ledger
import finetooth.commands.report, finetooth.evaluation.runner, finetooth.data.examples

run_path = Path(sys.argv[1])
opened = []

def watch(event, arguments):
    if event == "open" and str(arguments[0]).endswith("sealed.jsonl"):
        frame, callers = sys._getframe(1), []
        while frame:
            callers.append(frame.f_globals.get("__name__"))
            frame = frame.f_back
        opened.append("finetooth.evaluation.ledger" in callers)

sys.addaudithook(watch)
finetooth.commands.report.run(run_path)
assert opened == [], opened
ledger.open_sealed(run_path, "one", lambda: 0.0)
assert opened == [True], opened
(run_path / "data" / "sealed.jsonl").read_text()
assert opened == [True, False], opened
"""


def test_an_audit_hook_sees_only_the_ledger_open_the_sealed_test(run_path: Path) -> None:
    (run_path / "config.yaml").write_text("name: x\n", encoding="utf-8")
    write_jsonl(run_path / "data" / "train.jsonl", map(to_json, EXAMPLES))
    code, _, errors = processes.python(run_path, WATCHED, run_path)
    assert code == 0, errors
    assert json.loads((run_path / "ledger.jsonl").read_text().splitlines()[-1])["event"] == "opened"


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1e"])
def test_a_line_ends_where_the_file_says_so(mark: str, tmp_path: Path) -> None:
    """Planted: marks that end a line for Python's splitlines, in the text of a sealed row."""
    row = Example("x", (Message("user", f"one{mark}two"),), (Answer(f"a{mark}b"),))
    write_jsonl(tmp_path / "data" / "sealed.jsonl", [to_json(row), to_json(EXAMPLES[0])])
    seal(tmp_path, clock)
    assert sealed_count(tmp_path) == 2
    assert lengths(tmp_path, lambda example: len(example.target)) == {
        "x": 3,
        EXAMPLES[0].id: len(EXAMPLES[0].target),
    }
    assert open_sealed(tmp_path, "one", clock) == [row, EXAMPLES[0]]
