"""The run that a run was made from: `errors` and `log` name the same one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from iterations import iteration, set_json
from made_up_run import rows
from rich.console import Console

from finetooth.commands import errors, log
from finetooth.data.examples import to_json
from finetooth.errors import ConfigError
from finetooth.rundir import claim, start_manifest, write_json, write_jsonl
from finetooth.runs import lineage

QUIET = Console(quiet=True)


def before(run: Path) -> Path | None:
    """The run before, by `errors` and by `log`, which must agree."""
    report = errors.run(run, errors.Options(), QUIET)
    by_errors = report.analysis["against"]
    (task,) = log.run(run).tasks
    (by_log,) = [one["parent"] for one in task["iterations"] if Path(one["run"]).resolve() == run.resolve()]
    folder = {one["name"]: one["parent"] for task in log.run(run.parent).tasks for one in task["iterations"]}
    assert folder[run.name] == by_log, "a run and its folder"
    found = [None if one is None else Path(one).resolve() for one in (by_errors, by_log)]
    assert found[0] == found[1]
    known = lineage.parent_of(run)
    assert found[0] == (None if known is None else known.resolve())
    return found[0]


def of_another_task(run: Path) -> Path:
    """The run with other validation rows and without sealed ones."""
    write_jsonl(run / "data" / "validation.jsonl", map(to_json, rows(40, "another task")))
    for name in ("ledger.jsonl", "ledger.sha256", "data/sealed.jsonl"):
        (run / name).unlink()
    return run


@pytest.mark.parametrize("key", ["data.split_from", "start"])
def test_the_next_iteration_is_made_from_the_run_that_it_names(tmp_path: Path, key: str) -> None:
    first = iteration(tmp_path / "runs", "first", 0.7, 1)
    second = iteration(tmp_path / "elsewhere", "second", 0.8, 2, first, key)
    third = iteration(tmp_path / "runs", "third", 0.8, 3, second, key)
    assert [before(run) for run in (first, second, third)] == [None, first, second]


def test_an_interpolated_run_is_made_from_the_run_whose_weights_it_has(tmp_path: Path) -> None:
    first = iteration(tmp_path, "first", 0.7, 1)
    second = iteration(tmp_path, "second", 0.8, 2, first)
    mended = iteration(tmp_path, "second-interpolated", 0.8, 3, first)  # with the keys of `second`
    set_json(mended / "environment.json", origin=str(second))
    assert before(mended) == second


@pytest.mark.parametrize("key", ["data.split_from", "start"])
def test_a_folder_that_was_moved_keeps_its_lineage(tmp_path: Path, key: str) -> None:
    folder = tmp_path / "runs"
    first = iteration(folder, "first", 0.7, 1)
    second = iteration(folder, "second", 0.8, 2, first, key)
    mended = iteration(folder, "second-interpolated", 0.8, 3, first)
    set_json(mended / "environment.json", origin=str(second))
    folder.rename(tmp_path / "archive")
    moved = tmp_path / "archive"
    assert before(moved / "second") == moved / "first"
    assert before(moved / "second-interpolated") == moved / "second"


def test_another_run_of_the_same_name_is_no_parent(tmp_path: Path) -> None:
    second = iteration(tmp_path, "second", 0.8, 2, tmp_path / "gone" / "first")
    first = of_another_task(iteration(tmp_path, "first", 0.7, 1))
    assert before(second) is None
    shutil.rmtree(first)
    iteration(tmp_path, "first", 0.7, 1)
    assert before(second) == first, "it shares rows"
    write_jsonl(first / "data" / "validation.jsonl", map(to_json, rows(40, "other validation rows")))
    assert lineage.parent_of(second) == first, "it shares sealed rows"


def test_a_new_run_where_the_parent_was_does_not_take_its_place(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    first = iteration(folder, "first", 0.7, 1)
    iteration(folder, "second", 0.8, 2, first)
    folder.rename(tmp_path / "archive")
    of_another_task(iteration(folder, "first", 0.7, 3))
    assert before(tmp_path / "archive" / "second") == tmp_path / "archive" / "first"
    shutil.rmtree(tmp_path / "archive" / "first")
    assert lineage.parent_of(tmp_path / "archive" / "second") == first, "what the run names, if nothing else"


def test_a_run_that_has_the_name_of_its_parent_is_not_its_own(tmp_path: Path) -> None:
    run = iteration(tmp_path / "new", "first", 0.8, 2, tmp_path / "old" / "first")
    assert before(run) is None
    first = iteration(tmp_path / "old", "first", 0.7, 1)
    assert before(run) == first


def test_runs_that_name_each_other_end(tmp_path: Path) -> None:
    one = iteration(tmp_path, "one", 0.8, 1, tmp_path / "two")
    two = iteration(tmp_path, "two", 0.8, 2, one)
    assert errors.run(one, errors.Options(), QUIET).analysis["against"] == str(two)


def test_a_damaged_parent_in_a_folder_that_was_moved_is_known_by_its_sealed_rows(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    first = iteration(folder, "first", 0.7, 1)
    iteration(folder, "second", 0.8, 2, first)
    (first / "data" / "validation.jsonl").write_bytes(b"x\n{}\n")
    folder.rename(tmp_path / "archive")
    assert lineage.parent_of(tmp_path / "archive" / "second") == tmp_path / "archive" / "first"


@pytest.mark.parametrize("finished", [True, False])
def test_the_folder_of_a_curve_is_no_run_and_its_trainings_are_no_iterations(
    tmp_path: Path, finished: bool
) -> None:
    first = iteration(tmp_path / "runs", "first", 0.7, 1)
    curve = tmp_path / "runs" / "first-curve"
    curve.mkdir()
    start_manifest(curve)
    claim(curve / "curve")
    shutil.copytree(first / "data", curve / "data")
    assert [run.path for run in lineage.find_runs([tmp_path / "runs"])] == [first]
    sized = iteration(curve / "curve", "100-1", 0.6, 2)
    if finished:
        write_json(curve / "curve.json", {})
    (task,) = log.run(tmp_path / "runs").tasks
    assert [one["name"] for one in task["iterations"]] == ["first"]
    assert not lineage.find_runs([curve, curve / "curve"])
    for inside in (curve, curve / "curve", sized):
        with pytest.raises(ConfigError, match="finetooth curve"):
            log.run(inside)


def test_a_run_that_stopped_early_is_still_listed_with_its_problem(tmp_path: Path) -> None:
    first = iteration(tmp_path, "first", 0.7, 1)
    (first / "config.yaml").unlink()
    start_manifest(first)
    assert [run.problem[:10] for run in lineage.find_runs([tmp_path])] == ["It stopped"]


def of_two_tasks(folder: Path) -> tuple[Path, Path]:
    """Two folders with runs of the same names: t, t-2 and t-2-random. They share no rows."""
    for name, day in (("a", 1), ("b", 10)):
        first = iteration(folder / name, "t", 0.7, day)
        second = iteration(folder / name, "t-2", 0.8, day + 1, first)
        arm = iteration(folder / name, "t-2-random", 0.7, day + 2, first)
        write_json(second / "errors" / "targeting.json", {"random": str(arm), "random_rows": ["t"]})
        if name == "b":
            for run in (first, second, arm):
                of_another_task(run)
    return folder / "a", folder / "b"


def test_a_random_arm_stands_beside_the_run_in_its_own_folder(tmp_path: Path) -> None:
    folders = of_two_tasks(tmp_path)
    runs = lineage.find_runs(folders)
    assert {run.path: run.arm_of for run in runs if run.arm_of} == {
        folder / "t-2-random": folder / "t-2" for folder in folders
    }
    assert [[run.path.name for run in group] for group in lineage.groups(runs)] == [
        ["t", "t-2", "t-2-random"] for _ in folders
    ]


def test_an_arm_in_a_folder_that_was_moved_is_found_beside_its_run(tmp_path: Path) -> None:
    first = iteration(tmp_path / "old", "first", 0.7, 1)
    second = iteration(tmp_path / "old", "second", 0.8, 2, first)
    arm = iteration(tmp_path / "old", "drawn", 0.7, 3, first)
    write_json(second / "errors" / "targeting.json", {"random": str(arm)})
    (tmp_path / "old").rename(tmp_path / "new")
    iteration(tmp_path / "other", "drawn", 0.7, 4)  # of the same name, elsewhere
    found = lineage.find_runs([tmp_path / "new", tmp_path / "other"])
    arms = {run.path: run.arm_of for run in found if run.arm_of}
    assert arms == {tmp_path / "new" / "drawn": tmp_path / "new" / "second"}
    write_json(tmp_path / "new/second/errors/targeting.json", {"random": None})
    assert not any(run.arm_of for run in lineage.find_runs([tmp_path / "new"]))
    write_json(tmp_path / "new/second/errors/targeting.json", [])
    assert not any(run.arm_of for run in lineage.find_runs([tmp_path / "new"]))


def test_runs_that_name_each_other_as_arms_are_all_listed(tmp_path: Path) -> None:
    paths = [iteration(tmp_path, name, 0.7, day) for day, name in enumerate(("one", "two", "three"))]
    for run, arm in zip(paths, [*paths[1:], paths[0]], strict=True):
        write_json(run / "errors" / "targeting.json", {"random": str(arm)})
    assert {run.path for run in lineage.find_runs([tmp_path])} == {*paths}
