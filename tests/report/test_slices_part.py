"""The page's part on weak slices: those of the validation rows, and never of the sealed test."""

from __future__ import annotations

from pathlib import Path

from html_for_tests import page_of
from made_up_run import made_up_run

import finetooth as ft
from finetooth.data.examples import read_examples, to_json
from finetooth.report.slices_part import run_slices, slices_part
from finetooth.rundir import read_jsonl, write_jsonl


def run_with_team(tmp_path: Path, weak: bool = True, split: str = "validation") -> Path:
    """A run in which every fourth row of a split is of one team, of which most answers are wrong."""
    run = made_up_run(tmp_path / f"{split}-{weak}", tuned=0.9)
    data = run / "data" / ("validation.jsonl" if split == "validation" else "sealed.jsonl")
    rows = [to_json(row) for row in read_examples(data)]
    for at, row in enumerate(rows):
        row["tags"]["team"] = "night shift" if at % 4 == 0 else "day"
    write_jsonl(data, rows)
    records = run / "evaluate" / split / "records.jsonl"
    lines, seen = list(read_jsonl(records)), 0
    for line in lines:
        if line["candidate"] == "tuned":
            if weak and seen % 8 == 0:
                line["score"], line["text"], line["got"] = 0.0, "none", "none"
            seen += 1
    write_jsonl(records, lines)
    return run


def test_the_page_names_the_slice_with_its_figures(tmp_path: Path) -> None:
    run = run_with_team(tmp_path)
    found = run_slices(run)
    assert found is not None
    first = found.found[0]
    assert first.conditions == ("team is night shift",) and first.rows == 60
    tuned = [
        line for line in read_jsonl(run / "evaluate/validation/records.jsonl") if line["candidate"] == "tuned"
    ]
    assert first.error == sum(line["score"] == 0 for line in tuned[::4]) / 60
    words = page_of(run).words
    assert "Weak slices" in words and "team is night shift" in words and f"{100 * first.error:.1f}%" in words
    assert ft.Run.open(run).weak_slices()[0]["conditions"] == ("team is night shift",)


def test_without_one_the_page_says_how_many_were_tested(tmp_path: Path) -> None:
    run = run_with_team(tmp_path, weak=False)
    part = slices_part(run)
    assert part is not None and not part["rows"]
    assert f"None of {part['tested']} groups" in page_of(run).words


def test_the_sealed_test_is_not_searched(tmp_path: Path) -> None:
    """A weak slice of sealed rows alone is on no page, though its records lie in the run."""
    run = run_with_team(tmp_path, split="test")
    assert run_slices(run, "test") is None
    assert "night shift" not in page_of(run).words
    (run / "evaluate" / "validation" / "records.jsonl").unlink()
    assert run_slices(run) is None and slices_part(run) is None
