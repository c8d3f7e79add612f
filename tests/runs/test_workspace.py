"""Whose a directory is: a run, an empty place, or the user's own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from made_up_run import made_up_run

from finetooth.cli.app import invoke
from finetooth.errors import ConfigError
from finetooth.rundir import OWN, has_manifest, read_jsonl, write_json
from finetooth.runs import workspace
from finetooth.runs.workspace import occupied

ROWS = "".join(f'{{"text": "question {i} about {i * 7 % 13}", "label": "l{i % 2}"}}\n' for i in range(60))


def _snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of the user's, with files that are called like ours."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "project"
    for name in (
        "data/train.jsonl",
        "data/check.json",
        "data/report.html",
        "config.yaml",
        "environment.json",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(ROWS if name.endswith("l") else "{}")
    (tmp_path / "link").symlink_to(folder)
    (tmp_path / "task.yaml").write_text("data: {train: project/data/train.jsonl}\n")
    return folder


@pytest.mark.parametrize("verb", ["check", "train", "run"])
@pytest.mark.parametrize("out", ["project", "link"])
@pytest.mark.parametrize("left", ["data/train.jsonl", "data/report.html", "config.yaml", ""])
def test_a_directory_of_the_users_is_refused_and_stays(
    project: Path, verb: str, out: str, left: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (project.parent / "task.yaml").write_text(f"data: {{train: {project.parent / 'rows.jsonl'}}}\n")
    (project.parent / "rows.jsonl").write_text(ROWS)
    for path in [path for path in project.rglob("*") if left and path.is_file()]:
        if path != project / left:
            path.unlink()
    before = _snapshot(project)
    assert invoke([verb, "task.yaml", "--out", out]) == 2
    assert "is not empty and not a run" in capsys.readouterr().err
    assert _snapshot(project) == before


def test_a_link_to_nowhere_and_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    (tmp_path / "file").touch()
    for name in ("link", "file", "file/run"):
        with pytest.raises(ConfigError, match=r"Choose another --out\."), occupied(tmp_path / name):
            pass
    assert not (tmp_path / "gone").exists()


def test_what_stays_empty_is_removed_and_what_was_there_stays(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / ".gitkeep").touch()
    for name in ("mine", "new"):
        with occupied(tmp_path / name):
            assert has_manifest(tmp_path / name)
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", ".gitkeep"]


def test_a_stopped_start_is_discarded_without_what_the_user_added(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with occupied(run):
        write_json(run / "data" / "train.jsonl", 1)
    (run / "notes.txt").write_text("mine")
    (run / "data" / "validation.jsonl").write_text("mine")  # called like a file that ours has not become
    with occupied(run):
        workspace.discard(run)
    assert {path.name for path in run.rglob("*") if path.is_file() and path.parent.name != OWN} == {
        "notes.txt",
        "validation.jsonl",
    }


def test_a_run_without_a_manifest_is_adopted(tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "run")
    assert not has_manifest(run)
    with occupied(run):
        write_json(run / "environment.json", {"versions": {"finetooth": "1"}})
    (run / "notes.txt").write_text("mine")
    with occupied(run), pytest.raises(ConfigError, match="was not written by finetooth"):
        write_json(run / "notes.txt", 0)


def test_files_deleted_by_hand_do_not_stay_ours(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with occupied(run):
        write_json(run / "data" / "train.jsonl", 1)
    shutil.rmtree(run / "data")
    with occupied(run):
        (run / "data").mkdir()
        (run / "data" / "train.jsonl").write_text("mine")
        workspace.discard(run)
    assert (run / "data" / "train.jsonl").read_text() == "mine"


def test_a_stopped_training_is_told_with_its_last_step(tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "run")
    steps = [line["step"] for line in read_jsonl(run / "train" / "metrics.jsonl") if "loss" in line]
    told = str(workspace.not_trained(run, "start"))
    assert told == (
        f"start: {run} has no tuned model yet: its training stopped after step {steps[-1]}. "
        f"To go on: finetooth train {run}"
    )
    (run / "train" / "metrics.jsonl").unlink()
    assert str(workspace.not_trained(run)) == f"{run} has no tuned model yet. First: finetooth train {run}"
