"""A user's own grader in a file beside the task."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetooth.config.load import load_task
from finetooth.errors import GradeError
from finetooth.evaluation.graders import grader_digest, resolve
from finetooth.types import Answer, Example, Message

ROW = Example("1", (Message("user", "2 + 2"),), (Answer("4"),))
GRADE = "from scale import TOP\ndef grade(example, text):\n    return TOP * (text == example.target)\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A task with its grader, which imports a file beside it; commands are started elsewhere."""
    inside = tmp_path / "task"
    inside.mkdir()
    (inside / "scale.py").write_text("TOP = 1.0\n")
    (inside / "grader.py").write_text(GRADE)
    (inside / "rows.jsonl").write_text('{"text": "a", "label": "b"}\n')
    (inside / "task.yaml").write_text(
        "data: {train: rows.jsonl}\nevaluate: {grader: [exact, grader.py:grade]}\n"
    )
    monkeypatch.chdir(tmp_path)
    return inside


def test_the_file_is_found_beside_the_task(folder: Path) -> None:
    spec = load_task(folder / "task.yaml").evaluate.grader[1]
    name, grade = resolve(spec, "labels", Path.cwd())
    assert name == "grader.py:grade"
    assert (grade(ROW, "4").value, grade(ROW, "5").value) == (1.0, 0.0)


def test_a_flag_means_the_working_directory(folder: Path) -> None:
    task = load_task(folder / "task.yaml", {"evaluate.grader": "task/grader.py:grade"})
    assert resolve(task.evaluate.grader, "labels")[1](ROW, "4").value == 1.0


def test_a_mended_file_is_another_grader_at_once(folder: Path) -> None:
    spec = f"{folder / 'grader.py'}:grade"
    before, digest = resolve(spec, "labels")[1], grader_digest(spec)
    (folder / "grader.py").write_text("def grade(example, text):\n    return 0.5\n")
    assert resolve(spec, "labels")[1](ROW, "4").value == 0.5
    assert grader_digest(spec) != digest
    assert before(ROW, "4").value == 1.0


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        (None, "grade", "no such file"),
        ("def grade(:\n", "grade", "SyntaxError"),
        ("import sys\nsys.exit(3)\n", "grade", "SystemExit"),
        ("import nothing_like_it\n", "grade", "nothing_like_it"),
        ("grade = 3\n", "grade", "found int"),
        ("", "grade", "no such name"),
    ],
)
def test_a_file_that_is_no_grader_is_one_message(
    folder: Path, text: str | None, name: str, said: str
) -> None:
    if text is None:
        (folder / "grader.py").unlink()
    else:
        (folder / "grader.py").write_text(text)
    for _ in range(2):  # a failed import leaves nothing behind
        with pytest.raises(GradeError, match=said):
            resolve(f"{folder / 'grader.py'}:{name}", "labels")
