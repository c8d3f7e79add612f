"""docs/benchmarks.md says what was measured."""

from __future__ import annotations

from scripts_for_tests import ROOT, load_script

page = load_script("benchmarks/page.py")


def test_the_page_holds_the_results() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.filled(text, page.parts(ROOT / "benchmarks" / "results")) == text
