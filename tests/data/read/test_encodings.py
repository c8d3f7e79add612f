"""Text in other encodings: named, it is read; not named, the message says how to name it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from finetooth.config.task import build_task
from finetooth.data.read.encodings import readings
from finetooth.data.read.files import read
from finetooth.errors import ConfigError, DataError
from finetooth.quality.prepare import assemble


def make(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_bytes_of_another_encoding_say_how_to_name_it(tmp_path: Path) -> None:
    rows = "".join(f"café {k},{'ab'[k % 2]}\n" for k in range(90))
    path = make(tmp_path / "a.csv", f"text,label\n{rows}".encode("cp1252"))
    with pytest.raises(DataError, match=r"“café”\. If that is right: `data\.encoding: cp1252`$"):
        read(path)
    assert not assemble(build_task({"data": {"train": str(path), "encoding": "cp1252"}})).findings


TEXTS = {
    "cp1252": "Grüße – schön, L'été à la plage",
    "cp1250": "Příliš žluťoučký kůň pieniędzy",
    "cp1251": "Здравствуйте, где мой заказ",
    "koi8-r": "Здравствуйте, где мой заказ",
    "cp1253": "Καλημέρα, πού είναι η παραγγελία μου",
    "cp850": "Grüße, Rückerstattung",
}


@pytest.mark.parametrize("encoding", TEXTS)
def test_the_encoding_is_recognised_by_words_that_read_well(encoding: str) -> None:
    found = readings("\n".join(["text,label", *3 * [TEXTS[encoding]]]).encode(encoding))
    assert found[0].encoding == encoding
    assert set(found[0].words) <= set(re.findall(r"\w+", TEXTS[encoding]))


def test_readings_that_differ_are_shown_and_doubtful_text_has_none() -> None:
    spanish = readings(3 * "El niño comió mañana, señor\n".encode("cp1252"))
    assert [one.encoding for one in spanish] == ["cp1252", "cp1250"]
    assert [one.words[0] for one in spanish] == ["mañana", "mańana"]
    assert readings(3 * b"\x81\x8d\x90 \xff\xfe\n") == []
    four = 4 * "Grüße\n".encode("cp1252")
    assert readings(four) and readings(5 * "Grüße\n".encode() + four) == [], "two encodings in a file"
    assert readings(500 * b"text\n" + four) == [], "a few broken lines of many"
    assert readings(four[:12]) == [], "two broken lines"


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


def test_a_header_that_is_not_utf_8_is_reason_enough_to_name_the_encoding() -> None:
    """The file cannot be read without it, however few of its lines are not UTF-8."""
    rows = "".join(f"{n};plain text;lost\n" for n in range(400))
    assert [one.encoding for one in readings(f"N°;Message;Team\n{rows}".encode("cp1252"))] == ["cp1252"]
    assert not readings(f"No;Message;Team\n{rows}7;café;lost\n".encode("cp1252"))
    assert not readings("N°;Größe\n".encode("cp1252") + "1;Größe\n2;Höhe\n".encode())
