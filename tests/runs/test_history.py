"""The iterations of a task: what belongs together, in which order, what changed, and what cannot be read."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from iterations import added, corrected, iteration, set_json
from made_up_run import rows

from finetooth.data.examples import to_json
from finetooth.evaluation import ledger
from finetooth.evaluation.statistics import compare
from finetooth.rundir import read_json, read_jsonl, write_json, write_jsonl
from finetooth.runs.history import History, changes_in_words
from finetooth.runs.lineage import CONTINUES, KEEPS, MADE, find_runs, groups


def listed(folder: Path) -> dict[str, dict[str, Any]]:
    """The iterations of the only task in a folder, by name, in their order."""
    (group,) = groups(find_runs([folder]))
    return {one["name"]: one for one in History(group).iterations()}


def scores(path: Path) -> dict[str, float]:
    records = read_jsonl(path / "evaluate" / "validation" / "records.jsonl")
    return {line["id"]: line["score"] for line in records if line["candidate"] == "tuned"}


def unsealed(path: Path) -> None:
    for name in ("ledger.jsonl", "ledger.sha256", "data/sealed.jsonl"):
        (path / name).unlink()


def test_iterations_are_listed_with_what_changed_and_the_paired_difference(tmp_path: Path) -> None:
    first = iteration(tmp_path, "z-first", 0.70, 1)
    second = iteration(tmp_path, "b", 0.86, 2, first, rows=added(25))
    iteration(
        tmp_path, "a", 0.86, 3, second, "start", lambda lines: corrected(30)(added(25)(lines)), epochs=2.0
    )
    found = listed(tmp_path)
    assert [(one["name"], one["number"]) for one in found.values()] == [("z-first", 1), ("b", 2), ("a", 3)]
    one, two, three = found.values()
    assert (one["relation"], two["relation"], three["relation"]) == ("", KEEPS, CONTINUES)
    assert [each["parent"] for each in (one, two, three)] == [None, str(first), str(second)]
    assert two["rows"] == {"added": 25, "removed": 0, "corrected": 0}
    assert three["rows"] == {"added": 0, "removed": 0, "corrected": 30}
    assert one["data"]["train"]["version"] != two["data"]["train"]["version"]
    assert two["data"]["train"]["rows"] == 2_125
    assert one["data"]["validation"] == two["data"]["validation"]
    wanted, theirs = scores(first), scores(second)
    paired = compare([wanted[id] for id in wanted], [theirs[id] for id in wanted])
    assert (two["step"]["difference"], two["step"]["p"]) == (paired.difference, paired.p)
    assert two["step"]["verdict"] == "better" and two["step"]["p_adjusted"] == 2 * paired.p
    assert three["step"]["difference"] == 0 and three["step"]["verdict"] == "not proven"
    assert three["settings"] == [{"key": "train.epochs", "before": 4.0, "after": 2.0, "automatic": False}]
    assert changes_in_words(one) == []
    assert changes_in_words(three) == ["rows: 30 corrected", "train.epochs: 4.0 → 2.0"]
    assert one["verdict"]["verdict"] in ("better", "not proven") and one["again"].startswith("finetooth run ")


def test_settings_that_were_chosen_automatically_are_marked(tmp_path: Path) -> None:
    first = iteration(tmp_path, "first", 0.7)
    second = iteration(tmp_path, "second", 0.7, before=first)
    config = (second / "config.yaml").read_text()
    (second / "config.yaml").write_text(config.replace("batch_size: 16\n", "batch_size: 32\n"))
    (change,) = listed(tmp_path)["second"]["settings"]
    assert change == {"key": "train.batch_size", "before": 16, "after": 32, "automatic": True}


def test_tasks_are_told_apart_by_their_rows(tmp_path: Path) -> None:
    iteration(tmp_path, "one", 0.7)
    iteration(tmp_path, "two", 0.8, 1)  # no lineage, the same validation rows
    other = iteration(tmp_path, "other", 0.8, 2)
    unsealed(other)
    write_jsonl(other / "data" / "validation.jsonl", map(to_json, rows(40, "another task")))
    names = [[run.path.name for run in group] for group in groups(find_runs([tmp_path]))]
    assert names == [["one", "two"], ["other"]]
    child = iteration(tmp_path, "child", 0.8, 3, other)
    unsealed(child)
    write_jsonl(child / "data" / "validation.jsonl", map(to_json, rows(40, "new validation rows")))
    names = [[run.path.name for run in group] for group in groups(find_runs([tmp_path]))]
    assert names == [["one", "two"], ["other", "child"]]


def test_runs_with_the_same_sealed_rows_belong_together_without_reading_them(tmp_path: Path) -> None:
    for name in ("one", "two"):
        path = iteration(tmp_path, name, 0.7)
        write_jsonl(path / "data" / "validation.jsonl", map(to_json, rows(40, f"rows of {name}")))
        (path / "data" / "sealed.jsonl").write_bytes(b"not readable")
    assert len(groups(find_runs([tmp_path]))) == 1
    assert {one["data"]["sealed"]["rows"] for one in listed(tmp_path).values()} == {520}


def test_random_arms_stand_beside_their_iteration(tmp_path: Path) -> None:
    first = iteration(tmp_path, "first", 0.7, 1)
    aimed = iteration(tmp_path, "second", 0.86, 3, first, rows=added(25))
    iteration(tmp_path, "second-random", 0.71, 2, first, rows=added(25, "random"))
    iteration(tmp_path, "third", 0.86, 4, aimed)
    arm = iteration(tmp_path, "drawn", 0.71, 5, first)
    write_json(aimed / "errors" / "targeting.json", {"random": str(arm), "words": "drawn at random: third"})
    found = listed(tmp_path)
    numbers = {name: one["number"] for name, one in found.items()}
    assert list(numbers) == ["first", "second", "second-random", "drawn", "third"]
    assert numbers == {"first": 1, "second": 2, "second-random": None, "drawn": None, "third": 3}
    for name in ("second-random", "drawn"):
        assert found[name]["base"] == found[name]["arm_of"] == str(aimed)
        assert found[name]["parent"] == str(first) and found[name]["step"]["difference"] < 0
    assert found["second-random"]["rows"]["added"] == 25  # against its parent, not its neighbour


def test_damaged_and_unfinished_runs_are_listed_with_the_reason(tmp_path: Path) -> None:
    first = iteration(tmp_path, "first", 0.7, 1)
    half = iteration(tmp_path, "half", 0.7, 2, first, evaluated=False)
    broken = iteration(tmp_path, "broken", 0.7, 3, first)
    (broken / "config.yaml").write_text("{")
    rows_gone = iteration(tmp_path, "torn", 0.7, 4, first)
    (rows_gone / "data" / "train.jsonl").write_bytes(b'{"id": 1}\n')
    records = iteration(tmp_path, "records", 0.8, 5, first)
    (records / "evaluate" / "validation" / "records.jsonl").write_bytes(b"x\n{}\n")
    summary = iteration(tmp_path, "summary", 0.8, 6, first)
    write_json(summary / "evaluate" / "validation" / "summary.json", {"n": 3})
    chained = iteration(tmp_path, "ledger", 0.8)
    (chained / "ledger.jsonl").write_text('{"event": 3}\n')
    found = listed(tmp_path)
    assert found["half"]["state"] == "unfinished" and "step 528" in found["half"]["problem"]
    assert found["half"]["next"] == f"finetooth train {half}"
    for name, word in (
        ("broken", "config.yaml"),
        ("torn", "train.jsonl, line 1"),
        ("summary", "candidates"),
        ("ledger", "ledger.jsonl"),
    ):
        assert found[name]["state"] == "damaged" and word in found[name]["problem"], name
        assert "\n" not in found[name]["problem"] and found[name]["number"] is None
    assert "records.jsonl" in found["records"]["no_step"] and found["records"]["score"]


def test_an_edited_result_is_no_score(tmp_path: Path) -> None:
    path = iteration(tmp_path, "first", 0.7)
    files = {
        name: (path / "evaluate/validation" / name).read_bytes() for name in ("records.jsonl", "summary.json")
    }
    ledger.store_files(path, "validation", files, lambda: 0.0)
    assert listed(tmp_path)["first"]["state"] == "measured"
    set_json(path / "evaluate" / "validation" / "summary.json", words="much better")
    found = listed(tmp_path)["first"]
    assert found["state"] == "damaged" and found["score"] is None and "edited" in found["problem"]


def test_a_run_that_was_moved_is_found_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    first = iteration(tmp_path / "runs", "first", 0.7, 1)
    iteration(tmp_path / "runs", "second", 0.8, 2, first, "start")
    iteration(tmp_path / "runs", "lost", 0.8, 3, tmp_path / "gone", "start")
    shutil.move(tmp_path / "runs", tmp_path / "elsewhere")
    found = listed(tmp_path / "elsewhere")
    assert found["second"]["parent"] == str(tmp_path / "elsewhere" / "first") and found["second"]["step"]
    assert found["lost"]["parent"] is None and found["lost"]["asked_parent"] == str(tmp_path / "gone")


def test_parents_in_other_folders_are_followed_and_circles_end(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    first = iteration(tmp_path / "old", "first", 0.7, 1)
    iteration(tmp_path / "new", "second", 0.8, 2, first)
    assert [*listed(tmp_path / "new")] == ["first", "second"]
    one = iteration(tmp_path / "circle", "one", 0.8, 1, tmp_path / "circle" / "two")
    iteration(tmp_path / "circle", "two", 0.8, 2, one)
    assert {*listed(tmp_path / "circle")} == {"one", "two"}


def test_an_interpolated_run_is_made_from_the_run_and_says_its_share(tmp_path: Path) -> None:
    first = iteration(tmp_path, "first", 0.8, 1)
    mended = iteration(tmp_path, "first-interpolated", 0.8, 2)
    set_json(mended / "environment.json", origin=str(first))
    write_json(mended / "train" / "interpolation.json", {"run": str(first), "share": 0.6})
    found = listed(tmp_path)["first-interpolated"]
    assert (found["relation"], found["parent"]) == (MADE, str(first))
    assert changes_in_words(found) == ["weights: base + 0.6 × (tuned − base)"]
    assert found["again"].startswith(f"finetooth evaluate {first} --interpolate 0.6 --out ")


def test_the_sealed_result_and_looks_are_those_on_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = iteration(tmp_path, "first", 0.86, test=True)
    found = listed(tmp_path)["first"]
    summary = read_json(path / "evaluate" / "test" / "summary.json")
    tuned = next(entry for entry in summary["candidates"] if entry["name"] == "tuned")
    assert found["sealed"]["score"] == tuned["score"] and found["sealed"]["verdict"] == "better"
    assert found["looks"] == 1
