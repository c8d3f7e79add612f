"""The table of the guide: every sample in it, written into a file of that name, is read as the table says."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import openpyxl
import pyarrow
import pyarrow.parquet
import pytest
import yaml

from finetooth.config.task import FORMATS, DataConfig
from finetooth.data.formats.parse import parse
from finetooth.data.read.files import EXAMPLES, read
from finetooth.types import Example

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guide.md"
ROW = re.compile(r"^\| `(a\.[\w.]+)` \| `(.+?)` \| `(\w+)`(?: with `(.+?)`)? \| (.+?) \|$", re.MULTILINE)
SAMPLES = ROW.findall(GUIDE.read_text(encoding="utf-8"))


def write(path: Path, sample: str) -> None:
    text = sample.replace("⏎", "\n").replace("⇥", "\t")
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([json.loads(text)]), path)
    elif path.suffix == ".xlsx":
        book, row = openpyxl.Workbook(), json.loads(text)
        assert book.active is not None
        book.active.append([*row])
        book.active.append([*row.values()])
        book.save(path)
    elif path.suffix == ".arrow":
        table = pyarrow.Table.from_pylist([json.loads(text)])
        with pyarrow.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table)
    else:
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def shown(example: Example) -> str:
    context = " · ".join(f"{turn.role}: {turn.content}" for turn in example.context)
    answers = ", rather than ".join(answer.text for answer in example.answers)
    return f"{context} → {answers}".strip()


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: f"{sample[0]} {sample[2]}")
def test_a_file_is_read_as_the_guide_says(sample: tuple[str, ...], tmp_path: Path) -> None:
    name, content, format, columns, expected = sample
    write(tmp_path / name, content)
    (table,) = read(tmp_path / name)
    parsed = parse(table, DataConfig(train=name, columns=yaml.safe_load(columns) if columns else {}))
    assert not parsed.rejected and parsed.format == format
    assert shown(parsed.examples[0]) == expected


def test_every_format_and_every_kind_of_file_is_in_the_table() -> None:
    assert {sample[2] for sample in SAMPLES} == set(FORMATS) - {"auto"}
    kinds = {"." + sample[0].removesuffix(".gz").partition(".")[2] for sample in SAMPLES}
    assert kinds == {*EXAMPLES, ".parquet", ".arrow", ".xlsx"} and any(
        sample[0].endswith(".gz") for sample in SAMPLES
    )
    table = GUIDE.read_text(encoding="utf-8").partition("| your file |")[2].partition("\n\n")[0]
    assert len(SAMPLES) == len(table.splitlines()) - 2, "a row of the table is not understood"
