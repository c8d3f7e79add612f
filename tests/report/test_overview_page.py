"""The overview of a folder of runs: no table holds runs that were measured on different rows."""

from __future__ import annotations

from pathlib import Path

import pytest
from html_for_tests import Page, harmless
from made_up_run import made_up_run

from finetooth.cli.app import invoke
from finetooth.commands import report
from finetooth.errors import ConfigError
from finetooth.evaluation.ledger import LEDGER
from finetooth.rundir import read_json, write_text


def other_sealed_rows(run: Path) -> None:
    """As if another test had been sealed when the run began."""
    ledger = run / LEDGER
    text = ledger.read_text()
    first = text.index('"sha256": "') + 11
    (run / "ledger.sha256").unlink()
    lines = [
        line.partition(', "previous"')[0] + "}" for line in text.splitlines() if '"event": "sealed"' in line
    ]
    ledger.write_text("\n".join(lines).replace(text[first : first + 64], 64 * "a") + "\n")


def overview_page(folder: Path) -> tuple[report.OverviewReport, Page]:
    result = report.run_overview(folder)
    page = Page(result.path.read_text(encoding="utf-8"))
    assert page.open == []
    harmless(page)
    return result, page


def test_runs_on_the_same_rows_share_a_table_and_no_others(tmp_path: Path) -> None:
    for name, tuned in (("one", 0.8), ("two", 0.9), ("other", 0.95)):
        made_up_run(tmp_path / name, name=name, tuned=tuned)
        report.run(tmp_path / name)
    other_sealed_rows(tmp_path / "other")
    made_up_run(tmp_path / "validated", test=False)
    result, page = overview_page(tmp_path)
    names = [[run["name"] for run in table["runs"]] for table in result.contents["tables"]]
    assert sorted(names) == [["other"], ["two", "one"], ["validated"]]
    assert "cannot be compared" in page.words
    assert page.words.count("Only this run answered these rows") == 2
    [both] = [table for table in result.contents["tables"] if len(table["runs"]) == 2]
    assert both["compare"] == f"finetooth compare {tmp_path / 'two'} {tmp_path / 'one'} --sealed"
    assert page.words.count("finetooth compare") == 1
    links = [attributes["href"] for tag, attributes in page.seen if tag == "a"]
    assert sorted(filter(None, links)) == ["one/report.html", "other/report.html", "two/report.html"]
    for run in both["runs"]:
        tuned = next(
            entry
            for entry in read_json(Path(run["path"]) / "evaluate" / "test" / "summary.json")["candidates"]
            if entry["name"] == "tuned"
        )
        assert (run["score"], run["low"], run["high"]) == (tuned["score"], tuned["low"], tuned["high"])
        assert f"{100 * tuned['score']:.1f}%" in page.words


def test_other_graders_are_other_tables(tmp_path: Path) -> None:
    made_up_run(tmp_path / "one")
    made_up_run(tmp_path / "two")
    summary = tmp_path / "two" / "evaluate" / "test" / "summary.json"
    write_text(summary, summary.read_text().replace('"grader": "label"', '"grader": "exact"'))
    result, _ = overview_page(tmp_path)
    assert [table["grader"] for table in result.contents["tables"]].count("label") == 1
    assert len(result.contents["tables"]) == 2


def test_unfinished_and_broken_runs_are_listed_with_what_to_do(tmp_path: Path) -> None:
    made_up_run(tmp_path / "trained <b>", evaluated=False)
    write_text(tmp_path / "broken" / "config.yaml", "name: [x\n")
    result, page = overview_page(tmp_path)
    assert result.contents["tables"] == [] and len(result.contents["others"]) == 2
    assert "config.yaml cannot be read" in page.words
    assert "finetooth train" in page.words and "trained <b>" in page.words


def test_report_of_a_folder_writes_the_overview_and_never_over_a_users_file(tmp_path: Path) -> None:
    made_up_run(tmp_path / "runs" / "one")
    assert invoke(["report", str(tmp_path / "runs"), "--quiet"]) == 0
    assert invoke(["report", str(tmp_path / "runs"), "--quiet"]) == 0, "its own page may be replaced"
    write_text(tmp_path / "runs" / "report.html", "mine")
    with pytest.raises(ConfigError, match="was not written by finetooth"):
        report.run_overview(tmp_path / "runs")
    assert (tmp_path / "runs" / "report.html").read_text() == "mine"
