"""Folders that other tools make: of `datasets`, Arrow and Parquet with classes, links, parts, the hub."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from test_sources import ROWS, files, hub, places, write

from finetooth.config.load import load_task
from finetooth.config.task import build_task
from finetooth.config.values import hub_parts, is_hub_id
from finetooth.data.formats.parse import parse
from finetooth.data.read.files import read
from finetooth.errors import DataError
from finetooth.quality.prepare import assemble

CLASSES = {"label": {"names": ["ham", "spam"], "_type": "ClassLabel"}, "text": {"_type": "Value"}}


def arrow(rows: list[dict[str, Any]], features: Any = None, stream: bool = True) -> bytes:
    """The rows as an Arrow stream or file, with the features in its schema as `datasets` puts them there."""
    table = pyarrow.Table.from_pylist(rows)
    if features is not None:
        about = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": about})
    sink = io.BytesIO()
    opened = pyarrow.ipc.new_stream if stream else pyarrow.ipc.new_file
    with opened(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def save(folder: Path, parts: list[list[dict[str, Any]]], features: Any = None) -> Path:
    """A folder as `Dataset.save_to_disk` makes it."""
    folder.mkdir(parents=True)
    names = [f"data-{k:05d}-of-{len(parts):05d}.arrow" for k in range(len(parts))]
    for name, rows in zip(names, parts, strict=True):
        (folder / name).write_bytes(arrow(rows, features))
    state = {"_data_files": [{"filename": name} for name in names], "_split": "train"}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features or {}}))
    return folder


def test_a_saved_data_set_is_read_whole_and_in_order(tmp_path: Path) -> None:
    folder = save(tmp_path / "saved", [ROWS[:10], ROWS[10:]])
    (folder / "data-00000-of-00003.arrow").write_bytes(arrow(ROWS))  # left from an earlier save
    (folder / "cache-0123.arrow").write_bytes(arrow(ROWS))
    tables = read(folder)
    assert [row.values for table in tables for row in table.rows] == ROWS
    assert [table.name for table in tables] == ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
    assert not any("missing" in note for note in tables[0].notes)
    (folder / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(DataError, match=r"lists data-00001-of-00002\.arrow, which does not exist"):
        read(folder)


def test_a_saved_data_set_of_several_splits_keeps_its_test_apart(tmp_path: Path) -> None:
    """Planted: the test split's rows, which training on all files of the folder would learn."""
    for side, rows in (("train", ROWS[:20]), ("validation", ROWS[20:25]), ("test", ROWS[25:])):
        save(tmp_path / "saved" / side, [rows])
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["train", "validation", "test"]}')
    source = str(tmp_path / "saved")
    data = assemble(build_task({"data": {"train": source, "validation": source, "test": source}}))
    assert {side: len(rows) for side, rows in data.sides.items()} == {"train": 20, "validation": 5, "test": 5}
    assert data.format == "labels"
    (tmp_path / "saved" / "train" / "state.json").write_text('{"_indices_data_files": [{"filename": "i"}], '
        '"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}')  # fmt: skip
    with pytest.raises(DataError, match=r"selected by indices\. Save it again after flatten_indices"):
        read(source)


@pytest.mark.parametrize("stream", [True, False])
def test_arrow_is_read_as_a_stream_and_as_a_file(stream: bool, tmp_path: Path) -> None:
    (tmp_path / "a.arrow").write_bytes(arrow(ROWS, stream=stream))
    assert places(tmp_path / "a.arrow") == [("a.arrow", k) for k in range(1, 31)]
    (tmp_path / "b.arrow").write_bytes(arrow(ROWS, stream=stream)[:-200])
    (tmp_path / "c.arrow").write_bytes(b"text,label\n")
    (tmp_path / "d.arrow").touch()
    for name in "bcd":
        with pytest.raises(DataError, match=rf"{name}\.arrow: (cannot be read as Arrow|no rows)"):
            read(tmp_path / f"{name}.arrow")
    (tmp_path / "e.csv").write_bytes(arrow(ROWS, stream=False))
    with pytest.raises(DataError, match=r"an Arrow file; give it a name that ends with \.arrow"):
        read(tmp_path / "e.csv")


@pytest.mark.parametrize("kind", ["arrow", "parquet"])
def test_numbers_of_classes_become_their_names(kind: str, tmp_path: Path) -> None:
    rows = [{"text": f"t{k}", "label": label} for k, label in enumerate([0, 1, -1, 7, None])]
    content = arrow(rows, CLASSES)
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.ipc.open_stream(content).read_all(), path)
    else:
        path.write_bytes(content)
    (table,) = read(path)
    assert [row.values["label"] for row in table.rows] == ["ham", "spam", None, 7, None]
    assert table.notes == [f"a.{kind}: label has class indices, read as the class names."]
    parsed = parse(table, build_task({"data": {"train": str(path)}}).data)
    assert [example.target for example in parsed.examples] == ["ham", "spam", "7"]
    assert [item.line for item in parsed.rejected] == [3, 5]


@pytest.mark.parametrize("about", [b"{", b"[]", b'{"info": null}', b'{"info": {"features": [1]}}'])
def test_features_that_say_nothing_change_nothing(about: bytes, tmp_path: Path) -> None:
    table = pyarrow.Table.from_pylist([{"text": "a", "label": 1}])
    pyarrow.parquet.write_table(
        table.replace_schema_metadata({b"huggingface": about}), tmp_path / "a.parquet"
    )
    assert read(tmp_path / "a.parquet")[0].rows[0].values == {"text": "a", "label": 1}


# What a directory holds.


def test_linked_folders_are_read_once_and_dangling_links_are_named(tmp_path: Path) -> None:
    """Planted: data that lies on another disk, which was passed over in silence."""
    write(tmp_path / "disk" / "far.jsonl", ROWS[:2])
    folder = tmp_path / "data"
    write(folder / "near.jsonl", ROWS[2:3])
    (folder / "elsewhere").symlink_to(tmp_path / "disk")
    (folder / "again").symlink_to(tmp_path / "disk")
    (folder / "loop").symlink_to(folder)
    assert places(folder) == [("far.jsonl", 1), ("far.jsonl", 2), ("near.jsonl", 1)]
    (folder / "gone.jsonl").symlink_to(tmp_path / "absent.jsonl")
    with pytest.raises(DataError, match=r"gone\.jsonl: cannot be opened: No such file"):
        read(folder)


def test_11_documents_of_a_test_folder_are_not_trained_on(tmp_path: Path) -> None:
    for name in ("train/a.txt", "train/deep/b.txt", "test/c.txt", "notes on the test.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"text of {name}")
    assert [place for place, _ in places(tmp_path)] == ["a.txt", "b.txt"]
    assert [place for place, _ in places(tmp_path, "test")] == ["c.txt"]
    assert "2 files are not read for train" in read(tmp_path)[0].notes[0]
    for name in ("train.txt", "valid.txt", "test.txt.gz", "testing a bike.txt"):
        (tmp_path / "lines" / name).parent.mkdir(exist_ok=True)
        content = f"text of {name}".encode()
        packed = gzip.compress(content) if name.endswith("gz") else content
        (tmp_path / "lines" / name).write_bytes(packed)
    lines = tmp_path / "lines"
    found = [[place for place, _ in places(lines, side)] for side in ("train", "validation", "test")]
    assert found == [["train.txt"], ["valid.txt"], ["test.txt.gz"]]
    (lines / "train.txt").write_text("one\n\ntwo\n")  # a corpus, not a document
    assert places(lines) == [("train.txt", 1), ("train.txt", 3)]


def test_parts_that_are_missing_are_named(tmp_path: Path) -> None:
    for name in ("train-00000-of-00003.jsonl", "train-00002-of-00003.jsonl", "test-1-of-1.jsonl"):
        write(tmp_path / name, ROWS[:1])
    (note,) = [note for note in read(tmp_path)[0].notes if "parts are" in note]
    assert note.endswith("1 parts are missing: train-00001-of-00003.jsonl.")
    assert not any("parts are" in note for note in read(tmp_path, side="test")[0].notes)
    assert not read(tmp_path / "train-00000-of-00003.jsonl")[0].notes


# The hub.


def test_a_revision_of_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = hub(tmp_path / "cache", monkeypatch)
    other = snapshot.parent / ("1" * 40)
    write(other / "old.jsonl", ROWS[:1])
    refs = tmp_path / "cache" / "datasets--org--name" / "refs"
    (refs / "v1.0").write_text("1" * 40)
    (refs / "refs" / "pr").mkdir(parents=True)
    (refs / "refs" / "pr" / "3").write_text("1" * 40)
    for revision in ("v1.0", "1" * 40, "refs/pr/3"):
        assert files(f"org/name@{revision}") == ["old.jsonl"]
    write(other / "part" / "b.jsonl", ROWS[:1])
    assert files("org/name@v1.0/part") == files("org/name@refs/pr/3/part") == ["b.jsonl"]
    assert files("org/name/other") == ["train.jsonl"]
    with pytest.raises(DataError, match=r"org/name@v9: not a local path, not in"):
        read("org/name@v9")
    (tmp_path / "task.yaml").write_text("data: {train: org/name@v1.0}")
    assert load_task(tmp_path / "task.yaml").data.train == "org/name@v1.0"
    assert hub_parts("a/b@c/d/e") == ("a/b", "c", "d/e") and hub_parts("a/b") == ("a/b", None, None)
    assert not any(map(is_hub_id, ("a@b/c", "a/b@", "a/b@c.jsonl", "@a/b", "a/b@c@d")))


SPLITS = """---
configs:
- config_name: default
  data_files:
  - {split: train_sft, path: main/part-0.parquet}
  - {split: train_gen, path: main/part-1.parquet}
- config_name: small
  data_files:
  - {split: test, path: extra/x.jsonl}
---
"""


def test_a_split_with_a_name_of_its_own_is_read_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (hub(tmp_path / "cache", monkeypatch) / "README.md").write_text(SPLITS)
    assert files("org/name/train_sft") == ["part-0.parquet"]
    assert files("org/name/default/train_gen", "validation") == ["part-1.parquet"]
    assert files("org/name/small/test") == files("org/name/small", "test") == ["x.jsonl"]
    with pytest.raises(DataError, match=r"no split for train\. Name one of train_sft, train_gen: org"):
        read("org/name")
    with pytest.raises(DataError, match=r"org/name/small: no split for train\. Name one of test: org"):
        read("org/name/small")


def test_a_damaged_arrow_file_is_one_message_or_rows_that_can_be_read(tmp_path: Path) -> None:
    """Planted: bytes that point outside of the file, which are followed unless looked at first."""
    content = arrow([{"text": f"message {k}", "label": "ab"[k % 2]} for k in range(40)])
    refused = 0
    for at in range(0, len(content), 3):
        (tmp_path / "a.arrow").write_bytes(
            content[:at] + b"\xff\xfe\xff\xff"[: len(content) - at] + content[at + 4 :]
        )
        try:
            (table,) = read(tmp_path / "a.arrow")
        except DataError as error:
            refused += "cannot be read as Arrow" in str(error)
        else:
            assert all(isinstance(row.values, dict) for row in table.rows)
    assert refused > 50


def test_what_describes_a_folder_is_not_read_as_a_document(tmp_path: Path) -> None:
    """Planted: a licence beside the rows, which made the files of different formats."""
    write(tmp_path / "rows.jsonl", ROWS[:2])
    for name in ("LICENSE.txt", "NOTICE.txt", "README.txt", "requirements.txt"):
        (tmp_path / name).write_text("As is.")
    assert files(tmp_path) == ["rows.jsonl"] and read(tmp_path)[0].notes == []
    assert files(tmp_path / "NOTICE.txt") == ["NOTICE.txt"]
