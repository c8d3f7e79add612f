"""Reviewing errors for real: keys at a terminal, lines in a pipe, and a process that is killed."""

import io
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from made_up_errors import LABELS, made_up_errors
from processes import Launched
from rich.console import Console
from terminal_for_tests import Terminal

from finetooth.analysis.annotations import ANNOTATIONS, Annotations, annotate, read_annotations
from finetooth.analysis.review_order import review_order
from finetooth.commands.errors_review import Review, review
from finetooth.commands.review_keys import LineKeys
from finetooth.errors import ConfigError
from finetooth.report.console import terminal
from finetooth.rundir import locked, start_manifest, write_json

AT_A_TERMINAL = """\
import json, sys
from pathlib import Path
from finetooth.commands.errors_review import review
from finetooth.report.console import terminal
run = Path(sys.argv[1])
review(run, json.loads((run / "analysis.json").read_text()), terminal()).print(terminal())
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir()
    start_manifest(path)
    return path


def reviewed(run: Path, lines: str, analysis: dict[str, Any], **options: Any) -> tuple[Review, str]:
    """A review whose commands are these lines, and what it printed."""
    out = io.StringIO()
    result = review(run, analysis, terminal(file=out, width=100), LineKeys(io.StringIO(lines)), **options)
    return result, out.getvalue()


def rows_of(analysis: dict[str, Any]) -> list[Any]:
    """The rows in the order of a first review."""
    return list(review_order(analysis["rows"], Annotations()))


def test_lines_judge_correct_note_and_search(run: Path) -> None:
    analysis = made_up_errors(312, seed=1)
    rows = rows_of(analysis)
    first, second = rows[:2]
    assert len(first["tags"]) == len(second["tags"]) == 2
    shop = next(row for row in rows[2:] if "the shop" in row["question"])
    lines = "y\n1n\n2y\nb\nb\nb\nc refund\nt two questions\n/THE SHOP\nc Billing\nq\ny\n"
    result, text = reviewed(run, lines, analysis)
    names = [[one["tag"] for one in row["tags"]] for row in (first, second)]
    known = read_annotations(run)
    assert known.verdicts == {
        **{(first["id"], name): True for name in names[0]},
        **{(second["id"], names[1][0]): False, (second["id"], names[1][1]): True},
    }
    assert known.answers == {first["id"]: "refund", shop["id"]: "billing"}  # as the label is written
    assert known.notes == {first["id"]: "two questions"}
    assert "This is the first row." in text
    left = analysis["wrong"] - 2
    assert result == Review(4, 2, 1, left)
    for row in (first, second, shop):
        assert row["id"] in text and row["text"] in text
    # The next review goes on with what is not reviewed.
    _, again = reviewed(run, "q\n", analysis)
    assert rows[2]["id"] in again and "1 of " in again


def test_a_misspelled_label_is_not_taken_and_a_free_answer_is(run: Path) -> None:
    analysis = made_up_errors(60)
    first = rows_of(analysis)[0]["id"]
    result, text = reviewed(run, "c bilingg\nc qqqqqq\nc\n", analysis)
    assert result.answers == 0 and not (run / ANNOTATIONS).exists()
    assert "'bilingg' is none of the 6 labels." in text and "Did you mean billing?" in text
    assert f"They are: {', '.join(sorted(LABELS))}" in text and "nothing was changed" in text
    result, _ = reviewed(run, "c other\n", analysis, labels=["other"])
    assert read_annotations(run).answers == {first: "other"}
    analysis["grader"] = "rouge"
    reviewed(run, "c Dear Ms Roe, it is on its way.\n", analysis)
    assert read_annotations(run).answers == {first: "Dear Ms Roe, it is on its way."}


def test_what_cannot_be_done_is_said(run: Path) -> None:
    analysis = made_up_errors(60)
    bare = next(row for row in analysis["rows"] if row["wrong"])
    bare["tags"] = []
    _, text = reviewed(run, f"9\nz\n/{bare['id']}\ny\n/zebra\n?\n", analysis)
    assert "There is no tag 9 here." in text and "'z' is no command." in text
    assert "This row has no tag to judge" in text and "No wrong row has 'zebra'." in text
    assert read_annotations(run) == Annotations()
    all_right = made_up_errors(10, wrong=0.0)
    assert "No row is wrong." in reviewed(run, "y\n", all_right)[1]


def test_nothing_that_is_shown_commands_the_terminal(run: Path) -> None:
    analysis = made_up_errors(60)
    for row in analysis["rows"]:
        row |= {
            "text": "red \x1b[31m\x07 \u202e [bold]x[/bold]",
            "question": "\x1b]0;owned\x07" + "q" * 5_000,
        }
    _, text = reviewed(run, "\n\n", analysis)
    assert "\x1b" not in text and "\x07" not in text and "\u202e" not in text
    assert "[bold]x[/bold]" in text and "3,5" in text and "characters …]" in text


def _endless(run: str) -> None:
    """Confirm and reject as fast as possible, forever."""

    class Forever(io.StringIO):
        count = 0

        def readline(self, *_: Any) -> str:
            self.count += 1
            return ("y\n", "n\n", "t a note\n", "b\n")[self.count % 4]

    review(Path(run), made_up_errors(100), Console(quiet=True), LineKeys(Forever()))


@pytest.mark.parametrize("wanted", [1, 40, 97])
def test_a_review_has_the_run_to_itself_and_loses_nothing_when_killed(run: Path, wanted: int) -> None:
    process = Launched(_endless, (str(run),), run.parent)
    path, deadline = run / ANNOTATIONS, time.monotonic() + 60
    while not path.is_file() or path.read_bytes().count(b"\n") < wanted:
        assert time.monotonic() < deadline and process.running
        time.sleep(0.001)
    with pytest.raises(ConfigError, match="in use by another finetooth process"):
        reviewed(run, "y\n", made_up_errors(100))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    written = path.read_bytes().count(b"\n")
    before = read_annotations(run)
    assert before.verdicts and written >= wanted
    result, _ = reviewed(run, "y\n", made_up_errors(100))
    assert result.verdicts >= 1
    lines = [json.loads(line) for line in path.read_text().splitlines()]  # every line is whole
    assert len(lines) == written + result.verdicts
    assert before.verdicts.keys() <= read_annotations(run).verdicts.keys()


def test_keys_at_a_terminal(run: Path) -> None:
    analysis = made_up_errors(120)
    write_json(run / "analysis.json", analysis)
    rows = rows_of(analysis)
    at = next(k for k, row in enumerate(rows) if len(row["tags"]) == 1)
    screen = Terminal([sys.executable, "-c", AT_A_TERMINAL, run], run.parent)
    screen.wait_for("q quit")
    for row in rows[:at]:
        assert row["id"] in screen.text
        screen.type(" ")
        screen.wait_for("q quit")
    screen.type("y")  # one tag: judged, so the next row follows without a key
    screen.wait_for(rows[at + 1]["id"])
    screen.wait_for("1 of 1 right")
    screen.type("\x1b[D")  # arrow to the left: back
    screen.wait_for(rows[at]["id"])
    screen.wait_for("q quit")
    screen.type("t")
    screen.wait_for("note: ")
    screen.type("späte Frage\n")
    screen.wait_for("Noted.")
    screen.type("c")
    screen.wait_for("expected answer: ")
    screen.type("refnd\n")
    screen.wait_for("Did you mean refund?")
    screen.wait_for("expected answer: ")
    screen.type("\n")  # the label that was meant stands there already
    screen.wait_for("Expected answer: refund")
    screen.type("c")
    screen.wait_for("expected answer: ")
    screen.interrupt_prompt()  # Ctrl-C gives up the line, not the review
    screen.wait_for("nothing was changed")
    assert read_annotations(run).notes == {rows[at]["id"]: "späte Frage"}
    screen.interrupt_prompt()
    screen.wait_for("Tags judged: 1; answers corrected: 1; notes: 1.")
    assert screen.end() == 0
    known = read_annotations(run)
    assert known.verdicts == {(rows[at]["id"], rows[at]["tags"][0]["tag"]): True}
    assert known.answers == {rows[at]["id"]: "refund"}


def test_a_closed_terminal_has_lost_nothing(run: Path) -> None:
    analysis = made_up_errors(60)
    write_json(run / "analysis.json", analysis)
    screen = Terminal([sys.executable, "-c", AT_A_TERMINAL, run], run.parent)
    screen.wait_for("q quit")
    screen.type("n")
    screen.wait_for(" right")
    os.close(screen._handle)
    assert isinstance(screen.process.wait(60), int)
    first = rows_of(analysis)[0]
    assert read_annotations(run).verdicts == {(first["id"], one["tag"]): False for one in first["tags"]}
    with locked(run):
        annotate(run, [{"id": "x", "note": "y"}])
