"""`report --markdown`: the result for a pull request or a wiki, in which the user's texts are only texts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from command_line import finetooth
from html_for_tests import NASTY, Page
from made_up_run import made_up_run
from markdown_it import MarkdownIt

from finetooth.commands import report
from finetooth.report.markdown import block, code, escaped
from finetooth.rundir import write_text

RENDER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
TEXTS = [
    NASTY,
    "# not a heading",
    "1. not a list",
    "- nor this",
    "`` a ` tick",
    "`",
    "| a | b |\n|---|---|",
    "[link](http://example.com) ![image](http://example.com/a.png)",
    "<b>bold</b> &lt; **strong** __also__ ~~gone~~",
    "several\n\nparagraphs",
    "a\\",
    "*",
]


@pytest.mark.parametrize("text", TEXTS)
def test_texts_show_as_they_are(text: str) -> None:
    line = " ".join(text.split())
    for made, tags in ((escaped(text), {"p"}), (code(text), {"p", "code"})):
        page = Page(RENDER.render(made))
        assert {tag for tag, _ in page.seen} == tags
        assert page.words.replace("\u2060", "") == line
    table = Page(RENDER.render(f"| a | b |\n| --- | --- |\n| {escaped(text)} | last |"))
    assert [tag for tag, _ in table.seen].count("td") == 2 and "last" in table.text
    assert line in "".join(table.text).replace("\u2060", "")
    fenced = Page(RENDER.render(f"{block(text)}\n\nafter"))
    assert {tag for tag, _ in fenced.seen} == {"pre", "code", "p"} and fenced.text[-2:] == ["after", "\n"]


@pytest.mark.parametrize("text", ["@ada", "see #12", "mail ada@example.org"])
def test_nobody_is_mentioned(text: str) -> None:
    assert not re.search(r"[@#]\w", escaped(text))


def test_the_markdown_of_a_run(tmp_path: Path) -> None:
    """One heading, a table with a row for each candidate, no row of the data, and nothing of the page."""
    run = made_up_run(tmp_path / "run")
    config = yaml.safe_load((run / "config.yaml").read_text())
    write_text(run / "config.yaml", yaml.safe_dump({**config, "name": NASTY}))
    told = finetooth(tmp_path, "report", run, "--markdown")
    assert told.returncode == 0 and told.stdout == report.as_markdown(run, None).text
    page = Page(RENDER.render(told.stdout))
    tags = [tag for tag, _ in page.seen]
    assert tags.count("h2") == 1 and tags.count("table") == 1 and tags.count("tr") == 6
    plain = "h2 h3 p strong em code pre ul li table thead tbody tr th td"
    assert set(tags) <= set(plain.split())
    assert page.words.startswith("Better than the best prompt") and " ".join(NASTY.split()) in page.words
    assert "Limits" in page.words and "Reproduce" in page.words
    assert not re.search(r"(?:validation|test|train)-\d{4}", told.stdout)
    assert not (run / "report.html").exists()


def test_it_goes_to_a_stated_file(tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "run")
    told = finetooth(tmp_path, "report", run, "--markdown", "--out", "result.md")
    assert told.returncode == 0 and told.stdout == "Report: result.md\n"
    assert (tmp_path / "result.md").read_text() == report.as_markdown(run, None).text


@pytest.mark.parametrize(
    "flags", [["--markdown", "--model-card"], ["--out", "x.md"], ["--markdown", "--evaluation", "new"]]
)
def test_flags_that_do_not_go_together_are_refused(tmp_path: Path, flags: list[str]) -> None:
    run = made_up_run(tmp_path / "run")
    told = finetooth(tmp_path, "report", run, *flags)
    assert told.returncode == 2 and "one run's own result" in told.stderr


def test_a_run_without_a_result_is_told_what_to_do(tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "run", evaluated=False)
    told = finetooth(tmp_path, "report", run, "--markdown")
    assert told.returncode == 2 and f"is not evaluated yet. First: finetooth train {run}" in told.stderr
