"""A mistake inside the list that a flag gives is named, rather than the list as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetooth.cli.app import invoke


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("[dedupe, strip_htm]", "'strip_htm'; did you mean strip_html"),
        ("[{balance: {by: label, max_ratio: 0}}]", "max_ratio must be a number of at least 1"),
        ("[dedupe, {balance: {max_ratio: 3}]", "is a bracket, a brace or a comma missing?"),
    ],
)
def test_a_mistake_inside_a_list_is_named(
    value: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = tmp_path / "task.yaml"
    task.write_text("data: {train: rows.jsonl}\n")
    assert invoke(["check", str(task), "--data.clean", value]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
