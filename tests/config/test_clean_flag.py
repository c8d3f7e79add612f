"""What is wrong inside a list that a flag gives is said, not that the whole of it is no name."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetooth.cli.app import invoke


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("[dedupe, strip_htm]", "'strip_htm'; did you mean strip_html"),
        ("[{balance: {by: label, max_ratio: 0}}]", "max_ratio is a number from 1 on"),
        ("[dedupe, {balance: {max_ratio: 3}]", "is a bracket, a brace or a comma missing?"),
    ],
)
def test_what_is_wrong_inside_a_list_is_said(
    given: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = tmp_path / "task.yaml"
    task.write_text("data: {train: rows.jsonl}\n")
    assert invoke(["check", str(task), "--data.clean", given]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
