"""The name of a run is the name of one folder, wherever it comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetooth.cli.app import invoke
from finetooth.config.load import load_task
from finetooth.config.values import folder_name, safe_name
from finetooth.errors import ConfigError

WRONG = [
    *(
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "/etc",
        "a\\b",
        "C:x",
        "a\x00b",
        "a\nb",
        "a\x1b[31m",
        "a\u202eb",
        "a\u200bb",
    ),
    *(
        ".hidden",
        "x.",
        " x",
        "x ",
        "nul",
        "CON",
        "com1.txt",
        "a*",
        "a?",
        'a"b',
        "a|b",
        "<a>",
        "n" * 101,
        "é" * 51,
    ),
]


@pytest.mark.parametrize("name", WRONG)
def test_a_name_that_is_no_folder_is_refused_and_mended(name: str) -> None:
    with pytest.raises(ConfigError, match="expected the name of one folder"):
        load_task({"name": name, "data": {"train": "x.csv"}})
    assert folder_name(safe_name(name))


@pytest.mark.parametrize(
    "name", ["support-triage", "Ünï 日本", "run 2 (new)", "v1.2", "console", "a_b", "-x"]
)
def test_ordinary_names_stay(name: str) -> None:
    assert load_task({"name": name, "data": {"train": "x.csv"}}).name == safe_name(name) == name


def test_a_file_with_a_strange_name_gives_a_safe_run(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    text = "text,label\n" + "".join(f"question {i} about {i * 7 % 13},l{i % 2}\n" for i in range(60))
    (tmp_path / "what?: now.csv").write_text(text)
    assert invoke(["check", "what?: now.csv"]) in (0, 1)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["what-- now"]


def test_check_writes_nowhere_else(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "victim" / "data").mkdir(parents=True)
    (tmp_path / "victim" / "data" / "report.html").write_text("MINE")
    (tmp_path / "t.yaml").write_text("{name: ../victim, data: {train: t.jsonl}}")
    assert invoke(["check", "t.yaml"]) == 2
    assert "name: expected the name of one folder" in capsys.readouterr().err
    assert (tmp_path / "victim" / "data" / "report.html").read_text() == "MINE"
