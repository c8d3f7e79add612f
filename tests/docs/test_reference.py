"""The generated parts of docs/reference.md match the code."""

from __future__ import annotations

from scripts_for_tests import load_script

from finetooth.config.task import keys

page_maker = load_script("tools/reference.py")


def test_the_reference_is_what_the_generator_makes() -> None:
    for path in page_maker.PARTS:
        page = path.read_text(encoding="utf-8")
        assert page == page_maker.render(page, path), "out of date: python tools/reference.py"


def test_the_generator_would_notice_a_change() -> None:
    page = page_maker.PAGE.read_text(encoding="utf-8")
    for key, description in keys():
        assert f"| `{key}` |" in page
        assert page_maker.render(page.replace(description, "planted")) == page
