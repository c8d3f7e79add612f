"""The encoding of files that are given later than a task's own: UTF-8 where they are in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetooth.data.read.files import encoding_of, read_file
from finetooth.errors import DataError

CSV = "Frage;Farbe\n{0};rot\n{0} und {0};blau\n{0}?;rot\n"
JSONL = '{{"Frage": "{0}"}}\n'


@pytest.mark.parametrize(
    ("name", "text", "written", "configured", "expected"),
    [
        ("a.csv", "Wie grün ist Öl", "utf-8", "cp1252", "utf-8"),
        ("a.csv", "Wie grün ist Öl", "cp1252", "cp1252", "cp1252"),
        ("a.csv", "色は何ですか", "iso2022_jp", "iso2022_jp", "iso2022_jp"),  # ASCII, so it is UTF-8 as well
        ("a.csv", "色は何ですか", "utf-8", "iso2022_jp", "utf-8"),
        ("a.csv", "plain", "utf-16-le", "utf-16-le", "utf-16-le"),
        ("a.csv", "Какой цвет", "utf-16-be", "utf-16-be", "utf-16-be"),
        ("a.csv", "ꧣ", "utf-16-be", "utf-16-be", "utf-16-be"),
        ("a.jsonl", "Wie grün ist Öl", "utf-8", "cp1252", "utf-8"),
        ("a.jsonl", "Wie grün ist Öl", "cp1252", "cp1252", "cp1252"),
        ("a.jsonl", "1 +AGE- 2", "utf-8", "utf-7", "utf-8"),  # as finetooth writes it
        ("a.jsonl", "plain", "utf-16-le", "utf-16-le", "utf-16-le"),
        ("a.jsonl", "色は何ですか", "iso2022_jp", "iso2022_jp", "iso2022_jp"),
    ],
)
def test_utf8_is_preferred_where_a_file_is_in_it(
    name: str, text: str, written: str, configured: str, expected: str, tmp_path: Path
) -> None:
    file = tmp_path / name
    file.write_bytes((JSONL if name.endswith("jsonl") else CSV).format(text).encode(written))
    assert encoding_of(file, configured) == expected
    assert read_file(file, name, expected).rows[0].values["Frage"] == text


def test_a_sheet_that_is_not_utf8_says_how_to_save_it(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text(CSV.format("Wie grün ist Öl"), "cp1252")
    for some_broken in (False, True):
        with pytest.raises(DataError, match=r"a\.csv: not UTF-8\. Save it again as CSV UTF-8"):
            encoding_of(file, "utf-8", some_broken)
    file.write_bytes(CSV.format("grün").encode() * 40 + b"gr\xfcn;rot\n")
    with pytest.raises(DataError, match="not UTF-8"):
        encoding_of(file, "utf-8")
    assert encoding_of(file, "utf-8", some_broken=True) == "utf-8"
    file.write_bytes(CSV.format("grün").encode("utf-16"))  # with its mark
    assert encoding_of(file, "utf-8") == "utf-8"
