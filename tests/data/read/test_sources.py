"""Which files a source names: globs, directories, lists with weights, splits by name or card, the hub."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from finetooth.config.load import load_task
from finetooth.config.task import build_task
from finetooth.config.values import source_name
from finetooth.data.read.files import read
from finetooth.errors import ConfigError, DataError
from finetooth.quality.prepare import assemble

ROWS = [{"text": f"message {k}", "label": "ab"[k % 2]} for k in range(30)]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """The rows in the kind of file that its ending says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        return path
    separator = {"csv": ",", "tsv": "\t"}.get(kind, "")
    table = [list(rows[0]), *(list(row.values()) for row in rows)]
    lines = [separator.join(cells) for cells in table] if separator else [json.dumps(row) for row in rows]
    text = json.dumps(rows) if kind == "json" else "\n".join(lines) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def places(source: Any, side: str = "train") -> list[tuple[str, int]]:
    return [(row.file or table.name, row.line) for table in read(source, side=side) for row in table.rows]


def files(source: Any, side: str = "train") -> list[str]:
    return [table.name for table in read(source, side=side)]


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "tsv", "parquet"])
@pytest.mark.parametrize("packed", ["", ".gz"])
def test_every_kind_of_file_gives_the_same_rows(kind: str, packed: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"a.{kind}", ROWS)
    if packed:
        content = gzip.compress(path.read_bytes())
        path = tmp_path / f"b.{kind.upper()}.gz"
        path.write_bytes(content)
    (table,) = read(path)
    assert [row.values for row in table.rows] == ROWS and table.columns == ["text", "label"]
    first = 2 if kind in ("csv", "tsv") else 1
    lines = [1] * 30 if kind == "json" else list(range(first, first + 30))
    assert [row.line for row in table.rows] == lines


def test_rows_of_a_json_list_keep_their_line(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"version": 1, "data": ROWS[:3], "more": [{"a": 1}]}, indent=1))
    text = path.read_text().splitlines()
    (table,) = read(path)
    assert [row.values for row in table.rows] == ROWS[:3]
    for row in table.rows:
        assert text[row.line - 1].strip() == "{" and str(row.values["text"]) in text[row.line]
    path.write_text(json.dumps({"version": 1, "examples": ROWS[:3]}))
    assert [row.values for row in read(path)[0].rows] == ROWS[:3]
    talk = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    path.write_text(json.dumps(talk, indent=2))
    assert [row.values for row in read(path)[0].rows] == [talk]


def test_parquet_gives_dates_as_text_and_objects_without_holes(tmp_path: Path) -> None:
    calls = [{"role": "user", "content": "a", "x": None}, {"role": "assistant", "content": "b", "x": 1}]
    table = pyarrow.table(
        {"messages": [calls], "day": pyarrow.array([19_000], pyarrow.date32()), "raw": [b"text"], "n": [None]}
    )
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet")[0].rows[0].values == {
        "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "x": 1}],
        "day": "2022-01-08",
        "raw": "text",
        "n": None,
    }
    pyarrow.parquet.write_table(pyarrow.table({"text": [b"\xff", b"a"]}), tmp_path / "b.parquet")
    (found,) = read(tmp_path / "b.parquet")
    assert found.rejected[0].reason == "contains binary data, which is not text"


def test_text_is_documents_between_blank_lines_or_lines_or_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n\none\ntwo\n \n\n\nthree\n")
    (table,) = read(tmp_path / "a.txt")
    assert [(row.line, row.values["text"]) for row in table.rows] == [(3, "one\ntwo"), (8, "three")]
    assert table.notes == ["a.txt: 2 documents, separated by blank lines."]
    (tmp_path / "b.txt").write_text("aa\na\n")
    (table,) = read(tmp_path / "b.txt")
    assert [(row.line, row.values["text"]) for row in table.rows] == [(1, "aa"), (2, "a")]
    assert table.notes == ["b.txt: 2 documents, one per line, because there is no blank line."]
    (tmp_path / "c.txt").write_text("")
    (table,) = read(tmp_path)
    assert [(row.file, row.line, row.values["text"]) for row in table.rows] == [
        ("a.txt", 3, "one\ntwo\n \n\n\nthree"),
        ("b.txt", 1, "aa\na"),
    ]
    assert [(row.file, row.line) for row in table.rejected] == [("c.txt", 1)]
    both = [str(tmp_path / f"{name}.txt") for name in "ab"]
    data = assemble(build_task({"data": {"train": both, "validation": 0, "test": 0}}))
    assert [row.tags["file"] for row in data.sides["train"]] == ["a.txt", "b.txt"] and data.format == "text"


def test_a_directory_a_glob_and_a_list_keep_file_and_line(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.csv", "deep/c.parquet", ".hidden.jsonl"):
        write(tmp_path / name, ROWS[:2])
    (tmp_path / "notes.md").write_text("x")
    expected = [
        ("a.csv", 2),
        ("a.csv", 3),
        ("b.jsonl", 1),
        ("b.jsonl", 2),
        ("c.parquet", 1),
        ("c.parquet", 2),
    ]
    assert places(tmp_path) == places(str(tmp_path)) == expected
    assert places(str(tmp_path / "*")) == expected[:4]
    assert places(str(tmp_path / "**" / "*.parquet")) == expected[4:]
    assert places([str(tmp_path / "b.jsonl"), str(tmp_path / "a.csv")]) == [*expected[2:4], *expected[:2]]
    write(tmp_path / "deep" / "b.jsonl", ROWS[:1])
    assert files(tmp_path) == ["a.csv", "b.jsonl", "deep/b.jsonl", "deep/c.parquet"]
    with pytest.raises(DataError, match=r"\*\.tsv: matches nothing"):
        read(str(tmp_path / "*.tsv"))
    with pytest.raises(DataError, match=r"b\.jsonl: named twice.*weight: 2"):
        read([str(tmp_path / "b.jsonl"), str(tmp_path / "*.jsonl")])


def test_weights_of_files_and_rows_multiply(tmp_path: Path) -> None:
    one = write(tmp_path / "a.jsonl", ROWS[:20])
    two = write(
        tmp_path / "b.jsonl", [{**row, "text": f"other {row['text']}", "weight": 0.5} for row in ROWS]
    )
    sources = ["a.jsonl", {"path": "b.jsonl", "weight": "3e0"}]
    (tmp_path / "task.yaml").write_text(f"data: {{train: {json.dumps(sources)}, validation: 0, test: 0}}")
    task = load_task(tmp_path / "task.yaml")
    assert task.data.train == [str(one), {"path": str(two), "weight": 3.0}]
    assert source_name(task.data.train) == f"{one}, {two}" and source_name(ROWS) == "rows from Python"
    found = {(row.tags["file"], row.answers[0].weight) for row in assemble(task).sides["train"]}
    assert found == {("a.jsonl", 1.0), ("b.jsonl", 1.5)}


@pytest.mark.parametrize(
    "entry", [{"path": "b", "weight": 0}, {"path": "b", "weight": "x"}, {"path": 3}, 7, {}]
)
def test_a_list_of_files_with_something_else_in_it_is_refused(entry: Any) -> None:
    with pytest.raises(ConfigError, match="file 2 is neither a path nor"):
        build_task({"data": {"train": ["a.jsonl", entry]}})


def test_the_splits_of_a_directory_are_told_by_name(tmp_path: Path) -> None:
    """Planted: the directory's test rows, which training on all files would have learned."""
    for name in ("data/train-00000-of-00002.jsonl", "data/train-00001-of-00002.jsonl", "data/test.jsonl"):
        write(tmp_path / name, ROWS[:1])
    assert files(tmp_path) == ["train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl"]
    assert files(tmp_path, "test") == ["test.jsonl"]
    (note,) = read(tmp_path)[0].notes
    assert "1 files are not read for train: data/test.jsonl" in note
    with pytest.raises(DataError, match="no file for validation; its files are of other splits"):
        read(tmp_path, side="validation")
    write(tmp_path / "data" / "dev.jsonl", ROWS[:1])
    assert files(tmp_path, "validation") == ["dev.jsonl"]
    write(tmp_path / "latest" / "contest.jsonl", ROWS[:1])  # words that only contain the name of a split
    assert files(tmp_path / "latest") == ["contest.jsonl"]


CARD = """---
license: mit
configs:
- config_name: main
  data_files:
  - {split: train, path: "main/part-*"}
  - {split: dev, path: [extra/x.jsonl]}
- config_name: other
  data_files: other/*.jsonl
---
# A data set
"""


def hub(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set org/name in a cache of the hub's own layout, and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(place))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    snapshot = place / "datasets--org--name" / "snapshots" / ("0" * 40)
    for name in ("main/part-0.parquet", "main/part-1.parquet", "extra/x.jsonl", "other/train.jsonl"):
        write(snapshot / name, ROWS[:1])
    refs = place / "datasets--org--name" / "refs"
    refs.mkdir()
    (refs / "main").write_text("0" * 40)
    return snapshot


def test_a_data_set_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = hub(tmp_path / "cache", monkeypatch)
    task = tmp_path / "task.yaml"
    task.write_text("data: {train: org/name/main}")
    assert load_task(task).data.train == "org/name/main"
    assert files("org/name/main") == ["part-0.parquet", "part-1.parquet"]  # a folder: there is no card
    (snapshot / "README.md").write_text(CARD)
    assert files("org/name/main") == ["part-0.parquet", "part-1.parquet"]
    assert files("org/name/main", "validation") == ["x.jsonl"]
    assert files("org/name/other") == ["train.jsonl"]
    with pytest.raises(DataError, match=r"several configurations: main, other\. Name one: org/name/main"):
        read("org/name")
    with pytest.raises(DataError, match="neither a configuration nor a folder 'nothing'"):
        read("org/name/nothing")
    (snapshot / "README.md").write_text(CARD.replace("config_name: other", "config_name: default"))
    assert files("org/name") == ["train.jsonl"]
    (snapshot / "README.md").write_text("---\nconfigs: {broken\n---\n")  # says nothing
    assert files("org/name") == ["train.jsonl"]
    with pytest.raises(DataError, match=r"several configurations: main, other\. Name the files of one"):
        (snapshot / "README.md").write_text(CARD)
        read(snapshot)


def test_a_data_set_that_is_not_there_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub(tmp_path / "cache", monkeypatch)
    with pytest.raises(DataError, match=r"org/absent: not a local path, not in .* cannot be downloaded"):
        read("org/absent")


def test_a_path_is_never_taken_for_the_hubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for name in ("data/absent", "absent/rows.jsonl", "absent/rows.csv.gz", "./absent/rows", "a/b c"):
        with pytest.raises(DataError, match="no such file"):
            read(name)
    assert load_task({"data": {"train": "data/absent"}}).data.train == str(tmp_path / "data" / "absent")
