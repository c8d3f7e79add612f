"""Text in other encodings: named, it is read; not named, the message says how to name it."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetooth.config.task import build_task
from finetooth.data.read.files import read
from finetooth.errors import ConfigError, DataError
from finetooth.quality.prepare import assemble


def make(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_bytes_of_another_encoding_say_how_to_name_it(tmp_path: Path) -> None:
    rows = "".join(f"café {k},{'ab'[k % 2]}\n" for k in range(90))
    path = make(tmp_path / "a.csv", f"text,label\n{rows}".encode("cp1252"))
    (finding,) = assemble(build_task({"data": {"train": str(path)}})).findings
    assert finding.rule == "broken-rows" and "data.encoding: cp1252" in finding.fix
    assert not assemble(build_task({"data": {"train": str(path), "encoding": "cp1252"}})).findings


def test_a_wrong_encoding_has_one_message(tmp_path: Path) -> None:
    path = make(tmp_path / "a.csv", "text,label\nä,b\n".encode())
    with pytest.raises(DataError, match=r"a\.csv: not ascii, though data\.encoding says so"):
        read(path, "ascii")
    (table,) = read(make(tmp_path / "b.csv", "text,label\nä,b\n".encode("utf-16-le")), "utf-16-le")
    assert table.rows[0].values == {"text": "ä", "label": "b"}


@pytest.mark.parametrize("name", ["klingon", "base64", "rot13", "a\0b", ""])
def test_an_encoding_that_there_is_not(name: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.encoding: expected the name of an encoding"):
        build_task({"data": {"train": "a.csv", "encoding": name}})


def test_an_encoding_has_one_name() -> None:
    names = [
        build_task({"data": {"train": "a", "encoding": name}}).data.encoding for name in ("UTF8", "utf_8")
    ]
    assert names == ["utf-8", "utf-8"]
