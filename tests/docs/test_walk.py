"""docs/walk.md is what happens: a traced run calls every function on the page, each from one before it.

A hop of the page is a line `N. `file` `function`: text`. The run is a real one, of the spreadsheet in
tests/docs/files, with a tiny model. Two rows of it are followed: one that is trained, one that is scored.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytest
from html_for_tests import Page
from models_for_tests import tiny_model_dir

from finetooth.cli.app import invoke
from finetooth.rundir import read_jsonl

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "finetooth"
OURS = f"{SOURCE}/"
PAGE = ROOT / "docs" / "walk.md"
TICKETS = Path(__file__).parent / "files" / "tickets.csv"
HOP = re.compile(r"^\d+\. `([\w/]+\.py)` `([\w.]+)`: \S", re.MULTILINE)
MOST = {"To the gradient": 24, "To the score": 12, "To the report": 4}  # files that are new in each part
SCREEN = 60  # lines of a part

Place = tuple[str, str]  # file, qualified name of the function


class Traced(NamedTuple):
    """What a run did. callers: of each function of finetooth, the functions of finetooth that called it."""

    run: Path
    callers: dict[Place, set[Place]]
    trained: set[str]


def parts() -> dict[str, str]:
    """The parts of the page by their heading."""
    pieces = re.split(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(pieces[1::2], pieces[2::2], strict=True))


def hops(text: str) -> list[Place]:
    return [(match[1], match[2]) for match in HOP.finditer(text)]


def place(frame: FrameType) -> Place | None:
    """Where a frame is; that of a comprehension or a nested function is the function around it."""
    code = frame.f_code
    return place_of(code.co_filename, code.co_qualname) if code.co_filename.startswith(OURS) else None


@cache
def place_of(file: str, name: str) -> Place:
    return str(Path(file).relative_to(SOURCE)), name.partition(".<locals>")[0]


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Traced:
    folder = tmp_path_factory.mktemp("walk")
    tiny_model_dir(folder / "model")
    (folder / "task.yaml").write_text(
        f"model: {folder / 'model'}\n"
        f"data: {{train: {TICKETS}}}\n"
        "train: {max_steps: 2, batch_size: 200, rank: 4, preflight: off}\n"
        "evaluate: {shots: [0]}\n"
    )
    found = Traced(folder / "run", {}, set())

    def watch(frame: FrameType, event: str, argument: Any) -> None:  # None: no events within the call
        own = place(frame)
        if own is None:
            return
        above = frame.f_back
        while above is not None and place(above) in (None, own):
            above = above.f_back
        callers = found.callers.setdefault(own, set())
        if above is not None and (caller := place(above)):
            callers.add(caller)
        if own[1] == frame.f_code.co_name == "train_step":
            found.trained.update(row.example_id for row in frame.f_locals["rows"])

    before = sys.gettrace()
    sys.settrace(watch)
    try:
        assert invoke(["run", str(folder / "task.yaml"), "--out", str(found.run), "--quiet"]) == 0
    finally:
        sys.settrace(before)
    return found


def wrong(pages: dict[str, list[Place]], callers: dict[Place, set[Place]]) -> Iterator[str]:
    """What the page says and the run did not do."""
    before: set[Place] = set()
    files: set[str] = set()
    for part, listed in pages.items():
        for hop in listed:
            if hop not in callers:
                yield f"{hop} was not called"
            elif before and not callers[hop] & before:
                yield f"{hop} is called by no function before it, but by {sorted(callers[hop])[:3]}"
            before.add(hop)
        new = {file for file, _ in listed} - files
        files |= new
        if len(new) > MOST[part]:
            yield f"{part}: {len(new)} files, at most {MOST[part]}"


def test_the_page_is_what_the_run_does(traced: Traced) -> None:
    pages = {part: hops(parts()[part]) for part in MOST}
    assert all(len(listed) > 3 for listed in pages.values())
    found = list(wrong(pages, traced.callers))
    assert not found, "\n".join(found)


def test_a_page_that_is_wrong_is_seen(traced: Traced) -> None:
    first, *rest = hops(parts()["To the gradient"])
    for planted in (
        [first, ("training/step.py", "no_such_function"), *rest],  # renamed
        [first, *[hop for hop in rest if hop[0] != "training/loop.py"]],  # a hop is left out
        [first, ("report/html.py", "render"), *rest],  # a call that is made from elsewhere
    ):
        assert list(wrong({"To the gradient": planted}, traced.callers))


def test_no_part_is_longer_than_a_screen() -> None:
    for part in MOST:
        assert parts()[part].count("\n") <= SCREEN


def test_the_rows_on_the_page_go_where_it_says(traced: Traced) -> None:
    """The one that the page trains has a gradient, the one that it scores has a record and a place."""
    text = PAGE.read_text(encoding="utf-8")
    number, other = (int(found) for found in re.findall(r"[Ll]ine (\d+) of\s+`tickets.csv`", text)[:2])
    train = {row["tags"]["line"]: row for row in read_jsonl(traced.run / "data" / "train.jsonl")}
    validation = {row["tags"]["line"]: row for row in read_jsonl(traced.run / "data" / "validation.jsonl")}
    assert number == 2 and train[number]["id"] in traced.trained
    scored = validation[other]
    records = list(read_jsonl(traced.run / "evaluate" / "validation" / "records.jsonl"))
    assert {"zero-shot", "tuned"} <= {line["candidate"] for line in records if line["id"] == scored["id"]}
    page = Page((traced.run / "report.html").read_text(encoding="utf-8"))
    assert scored["context"][-1]["content"] in page.words
