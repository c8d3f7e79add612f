"""Files as people have them: headers with spaces, files put together, runs beside them, any numbers."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from finetooth.config.task import DataConfig, build_task
from finetooth.data.formats.parse import parse
from finetooth.data.formats.text_columns import string
from finetooth.data.read.files import read
from finetooth.data.read.table import Table
from finetooth.errors import DataError
from finetooth.quality.prepare import assemble
from finetooth.rundir import start_manifest


def table(path: Path, text: str) -> Table:
    path.write_text(text, encoding="utf-8")
    return read(path)[0]


def test_a_space_after_every_separator_of_the_header_is_no_part_of_cells(tmp_path: Path) -> None:
    found = table(tmp_path / "a.csv", '"text", "label"\n"a, b", "x"\nc, y\n')
    assert [row.values for row in found.rows] == [{"text": "a, b", "label": "x"}, {"text": "c", "label": "y"}]
    found = table(tmp_path / "b.csv", "text,label\na, y\n")
    assert found.rows[0].values == {"text": "a", "label": " y"}, "the header has none"


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("text, original;label\nLamp, order 1;x\n", ["text, original", "label"]),
        ("note, old;tag\nLamp, order 1;x\nLamp;y\n", ["note, old", "tag"]),
        ("text,label;note\na,b\nc;d,e\n", ["text", "label;note"]),
        ("text,a;b\nx;y,z\n", ["text", "a;b"]),
    ],
)
def test_rows_decide_between_commas_and_semicolons(text: str, columns: list[str], tmp_path: Path) -> None:
    assert table(tmp_path / "a.csv", text).columns == columns


def test_a_header_that_may_be_split_in_two_ways_is_a_question(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at commas and at semicolons"):
        table(tmp_path / "a.csv", "text,old;label\nLamp, order 1;x\n")


def test_a_header_in_the_middle_is_set_aside_and_named(tmp_path: Path) -> None:
    rows = "".join(f"row {k},x\n" for k in range(5))
    for middle in ("text,label\n", "\ufefftext,label\n", " text , label\n"):
        found = table(tmp_path / "a.csv", f"text,label\n{rows}{middle}{rows}")
        assert len(found.rows) == 10
        assert [(row.line, row.reason) for row in found.rejected] == [(7, "repeats the header")]
        assert any("row 7 repeats the header" in note for note in found.notes)
    task = build_task({"data": {"train": str(tmp_path / "a.csv"), "test": 0, "validation": 0}})
    assert not assemble(task).findings, "it is no broken row"
    (found,) = read([{"text": "a", "label": "b"}, {"text": "text", "label": "label"}])
    assert [row.reason for row in found.rejected] == ["repeats the header"]
    with pytest.raises(DataError, match=r"row 7: the header again, with its columns in another order"):
        table(tmp_path / "b.csv", f"text,label\n{rows}label,text\nx,row\n")


@pytest.mark.parametrize("middle", ["text\n", "\ufefftext\n", ' "text" \n', "text \n"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_a_repeated_header_of_one_column_is_set_aside(name: str, middle: str, tmp_path: Path) -> None:
    middle = middle.replace(' "text" ', '"text"')
    found = table(tmp_path / name, f"text\nfirst row\nsecond\n{middle}third\n")
    assert [row.values["text"] for row in found.rows] == ["first row", "second", "third"]
    assert [(row.line, row.reason) for row in found.rejected] == [(4, "repeats the header")]


def test_a_word_that_is_the_name_of_its_only_column_is_a_row_where_there_is_no_header(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"text": text}) + "\n" for text in ("a", "text"))
    assert len(table(tmp_path / "a.jsonl", lines).rows) == 2


@pytest.mark.parametrize("hint", ["sep=;", '"sep=;"', "SEP=; ", "\ufeffsep=;"])
def test_the_separator_that_excel_writes_in_the_first_line(hint: str, tmp_path: Path) -> None:
    found = table(tmp_path / "a.csv", f"{hint}\ntext, old;label\na, b;x\nc;y\n")
    assert found.columns == ["text, old", "label"]
    assert [(row.line, row.values["label"]) for row in found.rows] == [(3, "x"), (4, "y")]


@pytest.mark.parametrize("mark", ["|", ",", "\t", ":"])
def test_any_separator_of_the_first_line_is_read(mark: str, tmp_path: Path) -> None:
    for name in ("a.csv", "a.tsv"):
        found = table(tmp_path / name, f"sep={mark}\ntext{mark}label\na{mark}x\n")
        assert [row.values for row in found.rows] == [{"text": "a", "label": "x"}]


def test_a_separator_and_nothing_below_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no header and no rows below 'sep=;'"):
        table(tmp_path / "a.csv", "sep=;\n\n")
    assert table(tmp_path / "b.csv", "sep=x,label\na,b\n").columns == ["sep=x", "label"]


def test_a_byte_order_mark_in_a_later_line_is_named(tmp_path: Path) -> None:
    line = json.dumps({"text": "a", "label": "b"})
    found = table(tmp_path / "a.jsonl", f"\ufeff{line}\n{line}\n\ufeff{line}\n")
    assert [row.line for row in found.rows] == [1, 2]
    assert "byte-order mark" in found.rejected[0].reason and found.rejected[0].line == 3
    found = table(tmp_path / "a.csv", '\ufefftext,label\na,x\n\ufeff"b, c",y\n')
    assert found.rows[1].values == {"text": "b, c", "label": "y"}
    assert "byte-order marks at the start of 1 later lines" in found.notes[0]


def test_what_finetooth_has_written_is_no_data(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a", "label": "b"}\n')
    old, run = tmp_path / "runs" / "old", tmp_path / "runs" / "new"
    for folder in (old / "data", run / "data"):
        folder.mkdir(parents=True)
        (folder / "train.jsonl").write_text('{"id": "1"}\n')
    (old / "config.yaml").touch()
    (old / "environment.json").touch()
    start_manifest(run)
    for source in (tmp_path, f"{tmp_path}/**/*.jsonl"):
        assert [one.name for one in read(source)] == ["rows.jsonl"]
    assert len(read(run / "data")[0].rows) == 1, "named, it is read"
    assert len(read(f"{tmp_path}/runs/*/data/train.jsonl")) == 2


# ---- numbers

DAY = np.datetime64("2024-01-02T03:04:05", "ns")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((getattr(np, f"{sign}int{bits}")(7), "7") for sign in ("", "u") for bits in (8, 16, 32, 64)),
        (np.uint64(2**64 - 1), "18446744073709551615"),
        *((kind("0.1"), "0.1") for kind in (np.float16, np.float32, np.float64, np.longdouble)),
        (np.float32(5), "5"),
        (np.float32("16777216"), "16777216"),
        (1e300, "1e+300"),
        (2.0, "2"),
        (Decimal("0.10"), "0.10"),
        (np.bool_(True), "True"),
        (DAY, "2024-01-02T03:04:05.000000000"),
        (np.float32("nan"), ""),
    ],
)
def test_a_number_in_memory_prints_as_its_own_type(value: Any, text: str) -> None:
    (found,) = read([{"text": "a", "label": value, "many": np.array([value])}])
    assert string(found.rows[0].values["label"], "label") == text
    assert string(found.rows[0].values["many"][0], "many") == text


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_a_number_in_a_file_prints_as_its_own_type(kind: str, tmp_path: Path) -> None:
    f32 = pyarrow.float32()
    columns = {
        "f32": pyarrow.array([0.1, None], f32),
        "f16": pyarrow.array(np.array([0.1, 2], np.float16)),
        "u64": pyarrow.array([2**64 - 1, 0], pyarrow.uint64()),
        "money": pyarrow.array([Decimal("0.10"), None], pyarrow.decimal128(9, 2)),
        "large": pyarrow.array([Decimal("12.50"), None], pyarrow.decimal256(40, 2)),
        "day": pyarrow.array([19724, None], pyarrow.date32()),
        "list": pyarrow.array([[0.1, 0.7], []], pyarrow.list_(f32)),
        "struct": pyarrow.array([{"a": 0.1}, {"a": None}], pyarrow.struct([("a", f32)])),
        "map": pyarrow.array([[("a", 0.1)], []], pyarrow.map_(pyarrow.string(), f32)),
        "words": pyarrow.array(["x", "y"]).dictionary_encode(),
        "long": pyarrow.array(["x", "y"], pyarrow.large_string()),
        "none": pyarrow.nulls(2),
    }
    path = tmp_path / f"a.{kind}"
    made = pyarrow.table(columns)
    if kind == "parquet":
        pyarrow.parquet.write_table(made, path)
    else:
        with pyarrow.ipc.new_file(path, made.schema) as file:
            file.write_table(made)
    first = read(path)[0].rows[0].values
    texts = {name: first[name] for name in columns if name not in ("f32", "f16")}
    assert (string(first["f32"], "f"), string(first["f16"], "f")) == ("0.1", "0.1")
    assert texts == {
        "u64": 2**64 - 1,
        "money": "0.10",
        "large": "12.50",
        "day": "2024-01-02",
        "list": [0.1, 0.7],
        "struct": {"a": 0.1},
        "map": {"a": 0.1},
        "words": "x",
        "long": "x",
        "none": None,
    }


# ---- earlier turns


SAID = [("user", "Hi"), ("assistant", "Yes?"), ("user", "Which?"), ("assistant", "This.")]


@pytest.mark.parametrize(
    "history",
    [
        [["Hi", "Yes?"], ["Which?", "This."]],
        json.dumps([["Hi", "Yes?"], ["Which?", "This."]]),
        [{"human": "Hi", "assistant": "Yes?"}, {"human": "Which?", "assistant": "This."}],
        [{"role": role, "content": text} for role, text in SAID],
        [{"from": {"user": "human"}.get(role, "gpt"), "value": text} for role, text in SAID],
    ],
)
@pytest.mark.parametrize("column", ["history", "dialogue", "past"])
def test_earlier_turns_are_read(history: Any, column: str) -> None:
    rows = [{"instruction": "Help.", "input": "Go on", "output": "Done.", column: history}]
    (found,) = read(rows)
    (example,) = parse(found, DataConfig(train=rows)).examples
    assert [(turn.role, turn.content) for turn in example.context] == [
        ("system", "Help."),
        *SAID,
        ("user", "Go on"),
    ]
    assert {turn.weight for turn in example.context if turn.role == "assistant"} == {0.0}
    assert column not in example.tags


@pytest.mark.parametrize(
    "row",
    [
        {"question": "q", "answer": "a", "history": ["Hi", "Yes?"]},
        {"question": "q", "answer": "a", "history": [["Hi"]]},
        {"text": "t", "turns": [["Hi", "Yes?"]]},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}] * 2,
         "history": [["Hi", "Yes?"]]},
    ],
)  # fmt: skip
def test_earlier_turns_that_cannot_be_read_are_refused(row: dict[str, Any]) -> None:
    (found,) = read([row])
    result = parse(found, DataConfig(train=[row]))
    assert not result.examples and (
        "earlier turns" in result.rejected[0].reason or "messages" in result.rejected[0].reason
    )


def test_an_empty_history_is_none() -> None:
    rows = [
        {"question": "q", "answer": "a", "history": history} for history in ([], None, "", [["Hi", "Yes?"]])
    ]
    (found,) = read(rows)
    assert [len(example.context) for example in parse(found, DataConfig(train=rows)).examples] == [1, 1, 1, 3]
