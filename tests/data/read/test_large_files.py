"""Files that are large, or would be: time in proportion to size, and a limit for what goes into memory."""

from __future__ import annotations

import gzip
import resource
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from finetooth.config.task import DataConfig
from finetooth.data.formats.parse import parse
from finetooth.data.read import memory_limit
from finetooth.data.read.files import read
from finetooth.errors import DataError

SECONDS = 10  # each of these takes well under one; what it guards against takes minutes to days


@pytest.fixture
def small_room(monkeypatch: pytest.MonkeyPatch) -> int:
    """A machine with 16 MB of memory."""
    monkeypatch.setattr(memory_limit, "max_file_bytes", lambda: 4_000_000)
    return 4_000_000


def test_a_small_file_that_unpacks_to_a_large_one_is_refused(tmp_path: Path, small_room: int) -> None:
    """Planted: 100 GB in 100 MB, here 56 MB; it is not unpacked to the end to find out."""
    packer = zlib.compressobj(9, wbits=31)
    piece = b'{"text": "a"}\n' * 100_000
    packed = b"".join(packer.compress(piece) for _ in range(40)) + packer.flush()
    (tmp_path / "a.jsonl.gz").write_bytes(packed)
    assert len(packed) < small_room
    with pytest.raises(DataError, match=r"a\.jsonl\.gz: unpacks to more than 0\.0 GB, a quarter of the mem"):
        read(tmp_path / "a.jsonl.gz")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(piece[:1400]))
    assert len(read(tmp_path / "a.jsonl.gz")[0].rows) == 100


def test_gzip_in_several_members_is_one_text(tmp_path: Path) -> None:
    parts = [gzip.compress(b'{"text": "a"}\n'), gzip.compress(b'{"text": "b"}\n'), bytes(512)]
    (tmp_path / "a.jsonl.gz").write_bytes(b"".join(parts))
    assert [row.values["text"] for row in read(tmp_path / "a.jsonl.gz")[0].rows] == ["a", "b"]


def test_a_file_or_rows_beyond_the_memory_are_refused(tmp_path: Path, small_room: int) -> None:
    with (tmp_path / "a.csv").open("wb") as file:
        file.truncate(small_room + 1)  # holes: nothing is written
    with pytest.raises(DataError, match=r"a\.csv: has more than"):
        read(tmp_path / "a.csv")
    zeros = pyarrow.table({"text": pyarrow.nulls(10_000_000, pyarrow.string())})
    pyarrow.parquet.write_table(zeros, tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < small_room
    with pytest.raises(DataError, match=r"a\.parquet: needs more than"):
        read(tmp_path / "a.parquet")


def test_stray_quotes_in_every_line_do_not_cost_the_square_of_the_lines(tmp_path: Path) -> None:
    """Planted: the first quote of each row is lost, so that each line opens one that never closes."""
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + 'charged twice","billing\n' * 20_000 + "good,other\n")
    start = time.perf_counter()
    (table,) = read(path)
    assert time.perf_counter() - start < SECONDS
    assert [row.values for row in table.rows] == [{"text": "good", "label": "other"}]
    assert [row.line for row in table.rejected] == list(range(2, 20_002))


def test_long_quoted_cells_are_read_whole_as_long_as_quotes_lead_nowhere(tmp_path: Path) -> None:
    document = "a line\n" * 5000
    (tmp_path / "a.csv").write_text(f'text,label\n"{document}",a\nx","y\n"{document}",b\n')
    (table,) = read(tmp_path / "a.csv")
    assert [row.values["label"] for row in table.rows] == ["a", "b"]
    assert [row.line for row in table.rejected] == [5003]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_a_header_of_very_many_columns(name: str, tmp_path: Path) -> None:
    columns = [f"c{k}" for k in range(100_000)] + ["c7"]
    separator = "," if name == "a.csv" else "\t"
    (tmp_path / name).write_text(separator.join(columns) + "\n" + separator.join("x" * 100_001) + "\n")
    start = time.perf_counter()
    with pytest.raises(DataError, match="duplicate column 'c7'"):
        read(tmp_path / name)
    assert time.perf_counter() - start < SECONDS


def test_an_object_of_very_many_keys(tmp_path: Path) -> None:
    keys = ", ".join(f'"{k}": 1' for k in [*range(100_000), 99_999])
    (tmp_path / "a.jsonl").write_text(f'{{{keys}}}\n{{"text": "a"}}\n')
    start = time.perf_counter()
    (table,) = read(tmp_path / "a.jsonl")
    assert time.perf_counter() - start < SECONDS
    assert "duplicate key '99999'" in table.rejected[0].reason


def test_rows_that_each_have_a_key_of_their_own() -> None:
    rows = [{"text": "a", f"key {k}": 1} for k in range(20_000)]
    (table,) = read(rows)
    start = time.perf_counter()
    found = parse(table, DataConfig(train=rows))
    assert time.perf_counter() - start < SECONDS
    assert found.format == "text" and "key 19, key 20" not in found.notes[0]
    assert "and 19980 more" in found.notes[0]
    with pytest.raises(DataError) as caught:
        parse(table, DataConfig(train=rows), "qa")
    assert len(str(caught.value)) < 2000


def _bomb(kind: str, path: Path) -> None:
    """A file of less than 200 kB that stands for 50 MB or more."""
    text = "a" * 50_000_000
    tables = {
        "a list of numbers": {"x": pyarrow.ListArray.from_arrays([0, 2_000_000], np.zeros(2_000_000, int))},
        "one long text": {"text": [text]},
        "a dictionary": {"text": pyarrow.array(["a" * 9_000] * 6_000).dictionary_encode()},
        "runs": {"text": pyarrow.RunEndEncodedArray.from_arrays([50_000], ["a" * 1_000])},
        "nothing": {"text": pyarrow.nulls(2_000_000_000)},
    }
    if kind == "many groups":  # each is small
        table = pyarrow.table({"text": ["a" * 10_000] * 100})
        with pyarrow.parquet.ParquetWriter(path, table.schema, compression="zstd") as writer:
            for _ in range(300):
                writer.write_table(table)
        return
    table = pyarrow.table(tables[kind])
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path, compression="zstd", use_dictionary=kind != "one long text")
        return
    options = pyarrow.ipc.IpcWriteOptions(compression="zstd")
    with pyarrow.ipc.new_stream(str(path), table.schema, options=options) as stream:
        stream.write_table(table)


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [
        *((kind, ".parquet") for kind in ("a list of numbers", "one long text", "many groups")),
        *((kind, ".arrow") for kind in ("one long text", "a dictionary", "runs", "nothing")),
    ],
)
def test_a_small_columnar_file_that_stands_for_a_large_one_is_refused(
    kind: str, suffix: str, tmp_path: Path, small_room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (kind, suffix) == ("one long text", ".arrow"):  # the only one whose size is not written in the file
        monkeypatch.setattr(memory_limit, "ARENAS", 0)
    path = tmp_path / f"a{suffix}"
    _bomb(kind, path)
    assert path.stat().st_size < 200_000
    limits = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(DataError, match=r"a quarter of the memory here"):
        read(path)
    assert resource.getrlimit(resource.RLIMIT_AS) == limits


@pytest.mark.parametrize("depth", [60, 500])
@pytest.mark.parametrize("wrap", [pyarrow.list_, lambda type: pyarrow.struct([("a", type)])])
def test_deeply_nested_columns_are_read_or_refused(depth: int, wrap: Any, tmp_path: Path) -> None:
    type = pyarrow.string()
    for _ in range(depth):
        type = wrap(type)
    table = pyarrow.table({"text": ["x"], "deep": pyarrow.nulls(1, type)})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    try:
        assert len(read(tmp_path / "a.parquet")[0].rows) == 1
    except DataError as error:
        assert "cannot be read as Parquet" in str(error)
