"""errors.html and the terminal hide personal data in every text that comes from data, wherever it stands."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import unquote

import pytest
from made_up_errors import made_up_errors

from finetooth.analysis.annotations import Annotations, collect
from finetooth.report.console import terminal
from finetooth.report.errors_page import render
from finetooth.report.errors_text import print_errors

MAIL, PHONE = "jane.roe@mailbox.org", "+49 171 2345678"
PLANTED = f"{MAIL} or {PHONE}"
TRACES = ("jane.roe", "jane%2Eroe", "mailbox", "2345678", "345678")


def planted(place: str) -> tuple[dict[str, Any], Annotations]:
    """An analysis with a mail address and a phone number in one kind of text, or in all of them."""
    analysis = made_up_errors(60)
    row, tag = analysis["rows"][0], f"{PLANTED} taken for billing"
    row |= {"wrong": True, "score": 0.0}
    notes: list[dict[str, Any]] = []
    if place in ("id", "all"):
        row["id"] = analysis["training"][0]["id"] = PLANTED
        analysis["clusters"][0] |= {"ids": [PLANTED], "typical": [PLANTED]}
        notes = [{"id": PLANTED, "note": "odd"}]
    issue = {**analysis["issues"][0], "tag": "confusion", "ids": [row["id"]]}
    if place in ("metadata", "all"):  # of a column, so that slices and issues are formed over it
        condition = f"contact is {PLANTED}"
        analysis["slices"]["found"][0]["conditions"] = [condition, f"not {PLANTED}"]
        analysis["issues"].insert(0, {**issue, "slice": condition, "words": f"Confused, {condition}: 3 -> 4"})
    if place in ("label", "all"):
        row |= {"want": PLANTED, "tags": [{"tag": tag, "words": "expected", "start": None, "end": None}]}
        analysis["tags"].append({**analysis["tags"][0], "tag": tag, "title": tag, "rows": 90, "wrong": 90})
        analysis["tags"].append({**analysis["tags"][-1], "tag": f"{MAIL} gone", "title": MAIL, "rows": 0})
        analysis["issues"].insert(0, {**issue, "tag": tag, "words": f"{tag}: 3 -> 4 of 40 rows"})
        analysis["issues"].insert(0, {**issue, "tag": f"{MAIL} taken for {PHONE}"})
        analysis["confusions"][0] |= {"want": PLANTED, "got": PHONE}
    if place in ("texts", "all"):
        row |= {
            "question": PLANTED,
            "want": PLANTED,
            "text": PLANTED,
            "before": {"text": PLANTED, "score": 0},
        }
        row["tags"] = [*row["tags"], {"tag": "number", "words": f"{PLANTED!r}", "start": 0, "end": 9}]
        analysis["clusters"][0]["typical"] = [row["id"]]
        notes = [{"id": row["id"], "note": PLANTED}, {"id": row["id"], "answer": PLANTED}]
    if place in ("file", "all"):
        row["file"] = analysis["training"][0]["file"] = f"{MAIL} {PHONE}.csv"
    if place in ("training", "all"):
        analysis["training"][0]["words"] = f"the same question as {PLANTED}, with another answer"
    if place in ("cluster", "all"):
        analysis["clusters"][0]["title"] = f'"{PLANTED}", card'
    if place in ("user tag", "all"):
        own = {"tag": f"from {MAIL}", "title": f"from {MAIL}", "about": f"matches {PLANTED}"}
        analysis["tags"].append({**analysis["tags"][0], **own, "rows": 1, "wrong": 1})
        row["tags"] = [*row["tags"], {"tag": own["tag"], "words": "matches", "start": 0, "end": 1}]
    return analysis, collect(notes)


def printed(analysis: dict[str, Any], known: Annotations) -> str:
    console = terminal(width=400)
    with console.capture() as taken:
        print_errors(analysis, console, known)
    return taken.get()


PLACES = ["metadata", "label", "id", "texts", "file", "training", "cluster", "user tag", "all"]


@pytest.mark.parametrize("place", PLACES)
def test_no_text_of_the_data_shows_personal_data(place: str) -> None:
    analysis, known = planted(place)
    page = render(analysis, known)
    seen = [page, unquote(page), printed(analysis, known)]
    assert not [trace for trace in TRACES for text in seen if trace in text]
    shown = render(analysis, known, redacted=False)
    assert MAIL in shown and "2345678" in shown


def test_where_it_stands_once_it_is_shown() -> None:
    """Each of the texts is on the page if it may be, so the test above looks at all of them."""
    analysis, known = planted("all")
    page = render(analysis, known, redacted=False)
    static, data = re.split(r'<script type="application/json" id="data">', page)
    assert static.count(MAIL) >= 20
    rows = json.loads(data.partition("</script>")[0])
    assert all(MAIL in json.dumps(rows[part]) for part in ("rows", "tags", "groups"))
    for kind in ("issue", "cluster", "slice", "confusion"):
        assert any(MAIL in one["name"] for one in rows["groups"][kind])


def test_tags_that_look_alike_without_personal_data_stay_two() -> None:
    analysis = made_up_errors(60)
    tags = [f"{name}@mailbox.org taken for billing" for name in ("jane.roe", "john.doe")]
    for at, tag in enumerate(tags):
        analysis["tags"].append({**analysis["tags"][0], "tag": tag, "title": tag, "rows": 1, "wrong": 1})
        analysis["rows"][at]["tags"] = [{"tag": tag, "words": "", "start": None, "end": None}]
    page = render(analysis)
    links = [unquote(link) for link in re.findall(r'href="#tag=([^"&]*)', page) if "billing" in link]
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])  # type: ignore[index]
    own = [row["t"][0][0] for row in data["rows"][:2]]
    assert len(set(own)) == 2 and set(own) == set(links) and set(own) <= data["tags"].keys()
