"""A page as a browser takes it: what its elements are, what it says, and that nothing in it can act."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

from finetooth.commands import report

VOID = {"meta", "br", "col"}
LINK = re.compile(r"#cell-\d+|(?:[\w.%-]+/)*report\.html")  # no scheme, no host
NASTY = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7*7 }}&amp;"


class Page(HTMLParser):
    """Elements, attributes and text of a page; `open` is empty at the end when all tags are balanced."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)
        self.words = " ".join(" ".join(self.text).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text.append(data)


def harmless(page: Page) -> None:
    """No element that loads or runs anything, no handler, and a policy that would stop both."""
    for tag, attributes in page.seen:
        assert tag not in {"script", "img", "iframe", "object", "embed", "link", "form", "base"}
        assert not [name for name in attributes if name.startswith("on") or name == "src"]
        if "href" in attributes:  # to a place on the page, or to another page of ours beside it
            assert tag == "a" and LINK.fullmatch(attributes["href"] or ""), attributes
    policies = [a["content"] for tag, a in page.seen if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"]


def page_of(run_path: Path) -> Page:
    """The report of a run, balanced and harmless."""
    result = report.run(run_path)
    page = Page(result.path.read_text(encoding="utf-8"))
    assert page.open == []
    harmless(page)
    return page
