"""The words of a report as a reader sees them, from HTML and from Markdown: for report_truth.py."""

from __future__ import annotations

import re
from html.parser import HTMLParser

VOID = {"meta", "br", "col", "link", "rect", "line", "circle", "polyline"}


class PageWords(HTMLParser):
    """The words of elements of a class: without charts, commands and the axis above the bars.

    flips: the shares of the bar of rows that flip, by their class. titles: of all cells of the page.
    """

    def __init__(self, html: str, inside: str = "first") -> None:
        super().__init__()
        self.inside = inside
        self.titles: list[str] = []
        self.stack: list[
            tuple[str, bool, bool]
        ] = []  # tag, whether it is on the first page, whether it is shown
        self.parts: list[str] = []
        self.flips: dict[str, float] = {}
        self.feed(html)
        self.words = " ".join(" ".join(self.parts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        kinds = (given.get("class") or "").split()
        if tag == "rect" and self.stack and self.stack[-1][0] == "flips":
            self.flips[" ".join(kinds).replace("-", " ")] = float((given["width"] or "").rstrip("%"))
        self.titles += [given["title"] or ""] if "title" in given else []
        if tag in VOID:
            return
        _, first, shown = self.stack[-1] if self.stack else ("", False, True)
        hidden = tag == "svg" or "axis" in kinds or "command" in kinds
        name = "flips" if "flips" in kinds else tag
        self.stack.append((name, first or self.inside in (*kinds, tag), shown and not hidden))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            return
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            self.stack.pop()

    def handle_data(self, data: str) -> None:
        if self.stack and self.stack[-1][1] and self.stack[-1][2]:
            self.parts.append(data)


def words_of_markdown(text: str) -> str:
    """The words of Markdown as they show: without front matter, blocks, rulers and markup."""
    text = re.sub(r"\A---\n.*?^---$", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^(`{3,})\w+\n.*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^\|(?: :?-+:? \|)+$", "", text, flags=re.MULTILINE).replace("\u2060", "")
    text = re.sub(r"(?<!\\)[|*`]|^#+ |^- ", " ", text, flags=re.MULTILINE)
    return " ".join(re.sub(r"\\(.)", r"\1", text).split())
