"""The version of data: what its rows say, and nothing else; and what changed from one to the next."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from made_up_run import rows

from finetooth.data import version
from finetooth.data.examples import to_json
from finetooth.data.version import Versions
from finetooth.rundir import write_jsonl


def written(path: Path, lines: list[dict]) -> Path:
    write_jsonl(path, lines)
    return path


@pytest.fixture
def lines() -> list[dict]:
    return [to_json(row) for row in rows(60, "some")]


def test_order_ids_and_tags_are_no_version(tmp_path: Path, lines: list[dict]) -> None:
    versions = Versions()
    first = versions.of(written(tmp_path / "a.jsonl", lines))
    other = [{**line, "id": f"x{at}", "tags": {"line": at}} for at, line in enumerate(lines)]
    random.Random(1).shuffle(other)
    assert versions.of(written(tmp_path / "b.jsonl", other)) == first and first.rows == 60
    changed = [{**lines[0], "answers": [{"text": "other", "role": "target"}]}, *lines[1:]]
    for index, version_lines in enumerate((changed, lines[1:], [*lines, lines[0]])):
        assert versions.of(written(tmp_path / f"{index}.jsonl", version_lines)).digest != first.digest


def test_changes_are_counted_apart(tmp_path: Path, lines: list[dict]) -> None:
    new = [to_json(row) for row in rows(3, "quite different ones, of another kind altogether: weather")]
    new = [
        {**line, "context": [{"role": "user", "content": "0" * at + "zzz"}]} for at, line in enumerate(new)
    ]
    corrected = [{**line, "answers": [{"text": "corrected", "role": "target"}]} for line in lines[:7]]
    after = [*corrected, *lines[7:55], *new]
    files = written(tmp_path / "a.jsonl", lines), written(tmp_path / "b.jsonl", after)
    found = Versions().changes(*files)
    assert (found.added, found.removed, found.corrected) == (3, 5, 7)
    assert Versions().changes(files[0], files[0]) == version.VersionChanges(0, 0, 0)


def test_many_changes_are_not_compared_with_each_other(
    tmp_path: Path, lines: list[dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(version, "MOST_COMPARED", 10)
    after = [{**line, "answers": [{"text": "corrected", "role": "target"}]} for line in lines[:7]]
    found = Versions().changes(
        written(tmp_path / "a.jsonl", lines), written(tmp_path / "b.jsonl", [*after, *lines[7:]])
    )
    assert (found.added, found.removed, found.corrected) == (7, 7, 0)
