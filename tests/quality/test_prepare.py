"""Preparing a run: materialised once, the test sealed, everything counted; the gates stop before training."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import planted
import pytest

from finetooth.config.task import Task, build_task
from finetooth.data.split import CLUSTER
from finetooth.errors import ConfigError, DataError
from finetooth.quality.prepare import assemble, prepare

ROWS = [{"text": f"message number {k}", "label": ("ham", "spam")[k % 3 == 0]} for k in range(300)]
OPENED: list[str] | None = None  # what the audit hook notes while `watched` is open


def hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and OPENED is not None:
        OPENED.append(str(arguments[0]))


sys.addaudithook(hook)


@contextmanager
def watched() -> Iterator[list[str]]:
    """The paths of all files that are opened inside."""
    global OPENED
    OPENED = []
    try:
        yield OPENED
    finally:
        OPENED = None


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def task(**data: Any) -> Task:
    return build_task({"data": data})


def test_a_run_is_materialised(tmp_path: Path) -> None:
    prepared = prepare(task(train=write(tmp_path / "a.jsonl", ROWS)), tmp_path / "run")
    folder = tmp_path / "run" / "data"
    lines = {
        name: [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
        for name in ("train", "validation", "sealed", "rejected")
    }
    assert sum(map(len, lines.values())) == 300 and not lines["rejected"]
    assert [row.id for row in prepared.train] == [line["id"] for line in lines["train"]]
    assert [row.id for row in prepared.validation] == [line["id"] for line in lines["validation"]]
    assert prepared.sealed_count == len(lines["sealed"]) > 30
    assert (prepared.format, prepared.labels) == ("labels", ("ham", "spam"))
    assert {line["tags"]["file"] for rows in lines.values() for line in rows} == {"a.jsonl"}


def test_the_second_time_neither_the_users_files_nor_the_test_are_opened(tmp_path: Path) -> None:
    config = task(
        train=write(tmp_path / "a.jsonl", ROWS),
        test=write(tmp_path / "t.jsonl", [{"text": "t", "label": "ham"}]),
    )
    first = prepare(config, tmp_path / "run")
    with watched() as opened:
        again = prepare(config, tmp_path / "run")
    names = {Path(path).name for path in opened}
    assert {"train.jsonl", "validation.jsonl"} <= names
    assert not {"sealed.jsonl", "a.jsonl", "t.jsonl"} & names
    assert again == first
    (tmp_path / "a.jsonl").unlink()
    assert prepare(config, tmp_path / "run") == first


def test_the_hook_would_see_the_test_being_read(tmp_path: Path) -> None:
    prepare(task(train=ROWS), tmp_path)
    with watched() as opened:
        (tmp_path / "data" / "sealed.jsonl").read_text()
    assert any(path.endswith("sealed.jsonl") for path in opened)


def test_rows_that_were_edited_after_the_split_are_noticed(tmp_path: Path) -> None:
    prepare(task(train=ROWS), tmp_path)
    path = tmp_path / "data" / "train.jsonl"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(DataError, match=r"split\.json says"):
        prepare(task(train=ROWS), tmp_path)


def test_lists_frames_and_files_split_alike(tmp_path: Path) -> None:
    sources = [ROWS, pd.DataFrame(ROWS), write(tmp_path / "a.jsonl", ROWS)]
    pd.DataFrame(ROWS).to_csv(tmp_path / "a.csv", index=False)
    sources.append(str(tmp_path / "a.csv"))
    sides = [
        {side: [row.id for row in rows] for side, rows in assemble(task(train=source)).sides.items()}
        for source in sources
    ]
    assert all(other == sides[0] for other in sides)


def test_row_41_of_1000_is_set_aside_and_counted(tmp_path: Path) -> None:
    rows = [json.dumps({"text": f"message {k}", "label": "ab"[k % 2]}) for k in range(1, 1001)]
    rows[40] = rows[40][:-1]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(rows))
    prepared = prepare(task(train=str(path)), tmp_path / "run")
    (rejected,) = map(json.loads, (tmp_path / "run/data/rejected.jsonl").read_text().splitlines())
    assert (rejected["file"], rejected["line"], rejected["row"]) == ("a.jsonl", 41, rows[40])
    assert "not valid JSON" in rejected["reason"]
    assert len(prepared.train) + len(prepared.validation) + prepared.sealed_count == 999


def test_more_than_one_percent_broken_stops(tmp_path: Path) -> None:
    rows = [json.dumps(row) for row in ROWS]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join([*rows[3:], *"{{{"]))  # 3 of 300: exactly 1%
    accepted = assemble(task(train=str(path)))
    assert len(accepted.rejected) == 3 and not accepted.findings
    path.write_text("\n".join([*rows[4:], *"{{{{"]))  # 4 of 300
    with pytest.raises(DataError) as caught:
        prepare(task(train=str(path)), tmp_path / "run")
    message = str(caught.value)
    assert "4 of 300 rows are broken, more than 1%" in message
    assert message.count("not valid JSON") == 4 and "a.jsonl, line 297" in message
    assert str(tmp_path / "run" / "data" / "rejected.jsonl") in message
    assert len((tmp_path / "run/data/rejected.jsonl").read_text().splitlines()) == 4
    assert not (tmp_path / "run/data/train.jsonl").exists()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_too_few_rows_say_how_many_there_are(count: int, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"Too few rows \({count}\): .* every side needs at least one"):
        prepare(task(train=ROWS[:count]), tmp_path / "run")
    assert not (tmp_path / "run/data/train.jsonl").exists()


def test_shares_that_leave_nothing_to_train_on() -> None:
    with pytest.raises(ConfigError, match="below 1"):
        assemble(task(train=ROWS, validation=0.5, test=0.5))


def test_files_of_different_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="train is labels, test is qa"):
        assemble(task(train=ROWS, test=[{"question": "q", "answer": "a"}]))


def test_ids_are_given_or_of_the_content_and_unique_over_all_files() -> None:
    rows: list[dict[str, Any]] = [dict(row) for row in ROWS]
    rows += [rows[0], {**rows[0], "text": "Message  number 0!"}, {"id": "mine", "text": "x", "label": "ham"}]
    rows += [{"id": "mine", "text": "y", "label": "ham"}, {"id": "mine-2", "text": "z", "label": "ham"}]
    validation = [{"id": "mine", "text": "another", "label": "ham"}]
    data = assemble(task(train=rows, validation=validation))
    by_line = {row.tags["line"]: row.id for side in ("train", "test") for row in data.sides[side]}
    first = by_line[1]
    assert len(first) == 12 and int(first, 16) >= 0
    assert (by_line[301], by_line[302]) == (f"{first}-2", f"{first}-3")
    assert [by_line[line] for line in (303, 304, 305)] == ["mine", "mine-2", "mine-2-2"]
    assert data.sides["validation"][0].id == "mine-3"
    ids = [row.id for rows in data.sides.values() for row in rows]
    assert len(set(ids)) == len(ids)
    again = assemble(task(train=ROWS[150:]))  # an id does not depend on what else is in the file
    assert {row.id for rows in again.sides.values() for row in rows} < set(ids)


def test_a_run_directory_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    blocked = tmp_path / "run"
    blocked.write_text("a file")
    with pytest.raises(OSError, match="run"):
        prepare(task(train=ROWS), blocked)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_that_rejected_answers_are_not_learned_from_is_said() -> None:
    rows = [{"prompt": f"question {n}", "chosen": "good", "rejected": "bad"} for n in range(4)]
    data = assemble(build_task({"data": {"train": rows, "test": 0, "validation": 0}}))
    assert any("does not use the rejected ones" in note for note in data.notes)


def test_near_copies_of_sealed_and_validation_rows_are_stored_as_clusters(tmp_path: Path) -> None:
    texts = planted.texts(300, seed=8, most=3)
    copied = [text for text in texts if len(text.split()) >= 12][:60]
    rows = [
        {"text": text, "label": ("ham", "spam")[k % 2], "near-copies": "the user's"}
        for k, text in enumerate([*texts, *map(planted.wrap, copied)])
    ]
    file = write(tmp_path / "a.jsonl", rows)
    prepare(task(train=file, test=0.4, validation=0.2), tmp_path / "run")
    own = prepare(task(train=write(tmp_path / "b.jsonl", ROWS), validation=file, test=0.0), tmp_path / "own")
    assert sum(CLUSTER in row.tags for row in own.validation) >= 2 * 0.98 * 60
    clusters: dict[str, int] = {}
    for name in ("train", "validation", "sealed"):
        for line in (tmp_path / "run" / "data" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
            tags = json.loads(line)["tags"]
            assert tags["near-copies_"] == "the user's"
            assert name != "train" or CLUSTER not in tags
            if CLUSTER in tags:
                clusters[tags[CLUSTER]] = clusters.get(tags[CLUSTER], 0) + 1
    assert len(clusters) >= 20 and set(clusters.values()) == {2}
