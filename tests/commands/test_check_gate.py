"""The data gate from the command line: what blocks, what is allowed, what is written, and wrong input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from html_for_tests import NASTY, Page, harmless
from models_for_tests import tiny_model_dir
from undo import undo

import finetooth as ft
from finetooth.cli.app import invoke
from finetooth.config.load import load_task
from finetooth.quality.rules.leaks import NOT_CHECKED
from finetooth.rundir import OWN, read_json, read_jsonl
from finetooth.runs import workspace

WORDS = {"apple": "sweet red crisp orchard", "engine": "loud oil metal piston"}
ROWS = [
    {"text": f"number {n} is {WORDS[word].split()[n % 4]} and {WORDS[word].split()[n % 3]}", "label": word}
    for n in range(100)
    for word in WORDS
]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with rows and two tasks: task.yaml, and leak.yaml whose test repeats a training row."""
    monkeypatch.chdir(tmp_path)
    lines("rows.jsonl", ROWS)
    lines("test.jsonl", [ROWS[7], *({**row, "text": f"other {row['text']} once"} for row in ROWS[:20])])
    Path("task.yaml").write_text("data: {train: rows.jsonl}\n")
    Path("leak.yaml").write_text("data: {train: rows.jsonl, test: test.jsonl}\n")
    return tmp_path


def lines(name: str, rows: list[Any]) -> Path:
    texts = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    Path(name).write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return Path(name)


def page_of(run: str) -> Page:
    page = Page((Path(run) / "data" / "report.html").read_text(encoding="utf-8"))
    assert page.open == []
    harmless(page)
    return page


def test_a_block_is_1_until_its_rule_is_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["check", "leak.yaml", "--out", "no"]) == 1
    shown = capsys.readouterr().out
    assert "NO " in shown and "Next: fix the data, then: finetooth run leak.yaml" in shown
    page = page_of("no")
    assert "blocked" in page.words and "Overridden" not in page.words
    (leak,) = [line for line in read_jsonl(Path("no/data/findings.jsonl")) if line["rule"] == "leak"]
    assert [row["place"].partition(" ")[2] for row in leak["rows"]] == ["(test.jsonl, line 1)"]
    assert leak["severity"] == "block" and "(rows.jsonl, line 8)" in leak["rows"][0]["evidence"]

    assert invoke(["check", "leak.yaml", "--out", "yes", "--allow", "leak", "--allow", "one-label"]) == 0
    shown = capsys.readouterr().out
    assert "allowed" in shown and "NO " not in shown
    assert read_json(Path("yes/data/check.json"))["allowed"] == ["leak"]  # the other found nothing
    words = page_of("yes").words
    before, said, _ = words.partition("Overridden blocking rules: leak .")
    assert said and "Findings" not in before
    assert NOT_CHECKED in words.partition("Not checked")[2]


@pytest.mark.parametrize("verb", ["run", "train"])
def test_a_block_stops_before_any_training(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke([verb, "leak.yaml", "--train.epochs", "2", "--out", "out"]) == 2
    told = capsys.readouterr().err
    assert "leak: 1 of 21 test rows repeats a row" in told and "(test.jsonl, line 1)" in told
    assert "For the full report: finetooth check leak.yaml --train.epochs 2\n" in told
    assert "out/data/report.html" in told
    written = sorted(str(path.relative_to("out")) for path in Path("out").rglob("*") if path.is_file())
    written = [name for name in written if not name.startswith(OWN)]
    assert written == ["data/check.json", "data/findings.jsonl", "data/report.html"]
    assert workspace.open_run(load_task(Path("task.yaml")), Path("out")) is None  # a run may still begin


def test_a_run_keeps_what_was_allowed(place: Path) -> None:
    """On the first page of its report, and in data/report.html beside it."""
    model = tiny_model_dir(place / "model")
    quick = {"model": str(model), "train.max_steps": 1, "evaluate.shots": [0], "evaluate.limit": 4}
    done = ft.run("leak.yaml", "out", {**quick, "data.allow": ["leak", "one-label"]}, quiet=True)
    words = Page((done.path / "report.html").read_text(encoding="utf-8")).words
    assert "Overridden blocking rules of the data gate: leak . Interpret every result" in words
    assert "Some prompts are on both sides of the split" in words
    assert "Overridden blocking rules: leak ." in page_of("out").words


def test_fix_writes_a_new_file_and_a_patch(capsys: pytest.CaptureFixture[str]) -> None:
    dirty = {"text": "a <b>bold</b> claim&nbsp;here", "label": "apple"}
    source = lines("dirty.jsonl", [*ROWS, dirty])
    before = source.read_bytes()
    assert invoke(["check", "dirty.jsonl", "--fix"]) == 0
    assert "dirty.fixed.jsonl (1 row changed, 0 dropped), patch" in " ".join(capsys.readouterr().out.split())
    assert source.read_bytes() == before
    folder = Path("runs/dirty/data/fixed")
    fixed, patch = folder / "dirty.fixed.jsonl", folder / "dirty.patch.jsonl"
    rows = list(read_jsonl(fixed))
    assert rows[:-1] == ROWS and rows[-1] == {"text": "a bold claim here", "label": "apple"}
    assert undo(fixed, patch) == [*ROWS, dirty]
    assert workspace.open_run(load_task({"data": {"train": str(fixed)}}), Path("runs/dirty")) is None
    assert fixed.is_file()
    assert invoke(["check", "dirty.jsonl", "--fix"]) == 2  # never over what is there
    assert "already exists" in capsys.readouterr().err
    assert invoke(["check", str(fixed), "--fix", "--out", "again"]) == 0
    assert "Nothing can be fixed safely." in capsys.readouterr().out


def test_fix_says_which_rows_the_new_file_has_not(capsys: pytest.CaptureFixture[str]) -> None:
    """A row that cannot be read is left out, and one that is too long is the user's to decide about."""
    long = {"text": "long " * 3000, "label": "apple"}
    lines("torn.jsonl", [*ROWS, ROWS[0], "{torn", long])
    assert invoke(["check", "torn.jsonl", "--fix"]) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "(0 rows changed, 1 dropped, 1 unreadable ones left out), patch" in shown
    assert list(read_jsonl(Path("runs/torn/data/fixed/torn.fixed.jsonl"))) == [*ROWS, long]


def test_the_label_queue_has_as_many_rows_as_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """Planted: three rows with the other label, which come first."""
    planted = [
        {"text": f"metal piston and oil, loud as number {n} ever was", "label": "apple"} for n in "pqr"
    ]
    lines("flipped.jsonl", [*ROWS, *planted])
    none = ["--data.test", "0", "--data.validation", "0"]
    assert invoke(["check", "flipped.jsonl", "--label-queue", "5", *none]) == 0
    assert "label_queue.jsonl (5 rows)" in " ".join(capsys.readouterr().out.split())
    queue = list(read_jsonl(Path("runs/flipped/data/label_queue.jsonl")))
    assert len(queue) == 5
    assert {"line 201", "line 202", "line 203"} >= {queue[0]["place"].split(", ")[1].rstrip(")")}
    lines("asked.jsonl", [{"question": row["text"], "answer": f"{row['text']}?"} for row in ROWS])
    assert invoke(["check", "asked.jsonl", "--label-queue", "5"]) == 0
    assert "Label queue: no suspicious label" in capsys.readouterr().out


def test_nothing_in_the_data_can_act_in_a_page() -> None:
    """Orders in questions, labels, column names, values of columns, the file's name and broken rows."""
    rows = [
        {**row, "text": f"{NASTY} {row['text']}", "label": f"{NASTY}{row['label']}", NASTY: f"{NASTY}{n % 2}"}
        for n, row in enumerate(ROWS)
    ]
    name = "\"'><img src=x onerror=alert(3)><script>alert(4)<.jsonl"
    lines(name, [*rows, rows[0], {**rows[0], "label": NASTY}, {"text": NASTY}, f"{NASTY}{{"])
    clean = json.dumps(["dedupe", "strip_html"])
    for out, more in (("kept", []), ("cleaned", ["--data.clean", clean])):
        invoke(["check", name, "--out", out, "--data.rates", NASTY, *more])
        words = page_of(out).words
        assert "onerror=alert(3)" in words and "<script>alert(4)<" in words
        assert words.count("<script>alert(1)</script>") >= 5


def rows_of(count: int, broken: int) -> Callable[[], Path]:
    texts = [json.dumps({"text": f"message {k} of mine", "label": "ab"[k % 2]}) for k in range(1, count + 1)]
    texts[broken - 1] = texts[broken - 1][:-1]
    return lambda: lines("file.jsonl", texts)


@pytest.mark.parametrize(
    ("make", "flags", "code", "words"),
    [
        (lambda: lines("file.jsonl", []), [], 2, "file.jsonl"),
        (rows_of(1000, 41), [], 0, "file.jsonl, line 41: not valid JSON"),
        (rows_of(50, 41), [], 1, "train file.jsonl, line 41: not valid JSON"),
        (None, ["--data.clean", "[dedupe, strip_htm]"], 2, "did you mean strip_html"),
        (None, ["--data.clean", "[{balance: {by: who, max_ratio: 2}}]"], 2, "balance: no row has 'who'"),
        (None, ["--allow", "leek"], 2, "'leek' is not a blocking rule; did you mean leak?"),
        (None, ["--allow", "near-duplicate"], 2, "is not a blocking rule"),
        (None, ["--allow", "overlong"], 2, "cannot be allowed, as training would stop there; set"),
        (None, ["--allow", "empty-answer"], 2, "is not a blocking rule"),
        (None, ["--allow", "empty-side"], 2, "'empty-side' cannot be allowed"),
        (None, ["--data.rates", "who"], 2, "data.rates: no training row has 'who'"),
        (None, ["--label-queue", "0"], 2, "0 is not in the range"),
        (None, ["--out", "rows.jsonl"], 2, "rows.jsonl"),
    ],
)
def test_wrong_input_is_told(
    make: Callable[[], Path] | None,
    flags: list[str],
    code: int,
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = make() if make else Path("rows.jsonl")
    assert invoke(["check", str(path), *flags]) == code
    printed = capsys.readouterr()
    told = printed.err if code == 2 else printed.out
    assert words in " ".join(told.split()) and "Traceback" not in told
    assert (not printed.out) == (code == 2)
