"""Graders that hang or end their process: one message, and the command ends; nothing of them outlives it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from finetooth.errors import GradeError
from finetooth.evaluation.graders import grade_all, resolve
from finetooth.types import Answer, Example, Message

ROW = Example("row 7", (Message("user", "2 + 2"),), (Answer("4"),))


def grader(folder: Path, body: str, seconds: float = 1.0):
    file = folder / "mine.py"
    file.write_text(f"import os, signal, sys, time\ndef grade(example, text):\n    {body}\n")
    return resolve(f"{file}:grade", "qa", seconds=seconds)[1]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("while True: pass", "took longer than 1 seconds on row row 7"),
        pytest.param("time.sleep(99)", "took longer than 1 seconds", marks=pytest.mark.full),
        ("os._exit(0)", r"ended its process \(exit code 0\) on row row 7"),
        pytest.param("os.abort()", r"ended its process \(SIGABRT\)", marks=pytest.mark.full),
        pytest.param(
            "os.kill(os.getpid(), signal.SIGKILL)", r"ended its process \(SIGKILL\)", marks=pytest.mark.full
        ),
    ],
)
def test_what_never_answers_is_one_message(tmp_path: Path, body: str, said: str) -> None:
    grade = grader(tmp_path, body)
    for _ in range(2):  # the second call has a worker of its own
        with pytest.raises(GradeError, match=said) as error:
            grade(ROW, "4")
        assert "mine.py" in str(error.value) and "\n" not in str(error.value)
    assert grader(tmp_path, "return text == example.target")(ROW, "4").value == 1.0


def test_an_import_that_ends_the_process_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import os\nos._exit(0)\n")
    with pytest.raises(
        GradeError, match=r"mine.py:grade ended its process \(exit code 0\) while it was loaded"
    ):
        resolve(f"{tmp_path / 'mine.py'}:grade", "qa")


@pytest.mark.parametrize(
    "spec",
    [
        {"name": "regex", "pattern": "(a+)+$"},
        pytest.param(
            {"name": "json", "schema": {"type": "string", "pattern": "^(a+)+$"}}, marks=pytest.mark.full
        ),
        pytest.param(
            {"name": "json", "schema": {"patternProperties": {"^(a+)+$": {"type": "null"}}}},
            marks=pytest.mark.full,
        ),
    ],
)
def test_patterns_that_take_for_ever_are_one_message(spec: dict[str, object]) -> None:
    endless = "a" * 60 + "!"
    row = Example("row 7", (), (Answer("{}"),))
    grade = resolve(spec, "qa", seconds=1.0)[1]
    text = endless if spec["name"] == "regex" else f'{{"{endless}": 1}}'
    text = f'"{endless}"' if "pattern" in str(spec) and "string" in str(spec) else text
    with pytest.raises(GradeError, match="took longer than 1 seconds"):
        grade(row, text)


def test_together_and_one_by_one_give_the_same(tmp_path: Path) -> None:
    grade = grader(tmp_path, "print('seen'); return {'1': 1, '2': 0.5, '3': 1 / 3}[text]", 20.0)
    texts = ["1", "2", "3", "4"] * 100
    together = grade_all(grade, [(ROW, text) for text in texts])
    assert together[:4] == [grade(ROW, text) for text in texts[:4]]
    assert [score.value for score in together[:4]] == [1.0, 0.5, 1 / 3, None]
    assert together[3].error == "KeyError: '4'" and together == together[:4] * 100


PARENT = """
import sys
from finetooth.evaluation.graders import resolve
from finetooth.types import Answer, Example
grade = resolve(sys.argv[1], "qa", seconds=60)[1]
grade(Example("1", (), (Answer("4"),)), sys.argv[2])
"""


def test_the_worker_ends_with_a_killed_parent(tmp_path: Path) -> None:
    file, mark = tmp_path / "mine.py", tmp_path / "pid"
    file.write_text(
        "import os\ndef grade(example, text):\n"
        "    open(text, 'w').write(str(os.getpid()))\n    while True: pass\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", PARENT, f"{file}:grade", str(mark)])
    wait_until(lambda: mark.is_file() and mark.read_text(), 60)
    parent.kill()
    parent.wait()
    wait_until(lambda: not alive(int(mark.read_text())), 20)


def wait_until(done, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.1)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not (state.is_file() and state.read_text().rsplit(")", 1)[-1].split()[0] == "Z")
