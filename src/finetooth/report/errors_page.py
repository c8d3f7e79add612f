"""errors.html: what is wrong, what changed, and every row, to be searched and filtered.

The top is plain HTML. The rows are in the page as JSON, which a small script shows; the page's policy lets
no other script run, and the script writes texts as texts alone, so that what a model answers is never markup.
Texts are shown with personal data redacted.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from finetooth.analysis.annotations import TRUSTED, Annotations, judged_tags
from finetooth.analysis.answered import HALF
from finetooth.analysis.flips import KINDS
from finetooth.evaluation.slices import FALSE_SHARE, SUPPORT
from finetooth.evaluation.verdict_words import percent
from finetooth.report import html
from finetooth.report.flips_part import flips_bar
from finetooth.report.shown_text import LENGTHS, ShownText

SHOWN = 12  # of issues, clusters, slices, confusions and training rows; the rest is folded
Shown = Callable[[str], str]
PROVEN = {"fixed": "better", "regressed": "worse", "new": "worse", "flickering": "not-proven"}


def render(analysis: Mapping[str, Any], annotations: Annotations | None = None, redacted: bool = True) -> str:
    """The page as HTML: self-contained, without a look at the network.

    analysis: as in errors.json. annotations: of the same run; the tags' precision follows from them.
    redacted: whether personal data is hidden in all texts.
    """
    annotations = annotations or Annotations()
    texts = ShownText.of(_texts(analysis), redacted)
    shown = texts.text
    names = _tag_names(analysis, shown)
    tags = [
        {**tag, "tag": names[tag["tag"]], "title": shown(tag["title"]), "about": shown(tag["about"])}
        for tag in judged_tags(analysis, annotations)
    ]
    script = files("finetooth.report").joinpath("errors.js.jinja").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    titles = {tag["tag"]: tag["title"] for tag in tags}
    parts = {
        "issues": list(
            _issues(analysis, {tag: titles.get(name, name) for tag, name in names.items()}, shown)
        ),
        "clusters": list(_clusters(analysis, shown)),
        "slices": [
            {**one, "name": shown(" and ".join(one["conditions"])), "link": _link("group", f"slice-{number}")}
            for number, one in enumerate(analysis["slices"]["found"])
        ],
        "confusions": [
            {
                **one,
                "want": shown(one["want"]),
                "got": shown(one["got"]),
                "link": _link("confusion", str(number)),
            }
            for number, one in enumerate(analysis["confusions"])
        ],
    }
    page = {
        **parts,
        "run": analysis["run"],
        "against": analysis["against"],
        "graded_by": graded_by(analysis),
        "headline": headline(analysis),
        "lead": largest_issue(tags, analysis),
        "kind": "better"
        if all(row["score"] is not None and not row["wrong"] for row in analysis["rows"])
        else "worse",
        "tags": [
            {**tag, "link": _link("tag", tag["tag"]), "why": why_hidden(tag)} for tag in tags if tag["rows"]
        ],
        "absent": [tag["title"] for tag in tags if not tag["rows"]],
        "trusted": TRUSTED,
        "flips": analysis["flips"],
        "flips_bar": flips_bar(analysis["flips"]) if analysis["flips"] else None,
        "flip_links": [(kind, _link("flip", kind)) for kind in KINDS],
        "asked_again": asked_again(analysis),
        **_tested(analysis),
        "chance": FALSE_SHARE,
        "training": [
            {**row, **{key: shown(row[key] or "") for key in ("id", "words", "file")}}
            for row in analysis["training"]
        ],
        "most": SHOWN,
        "cut": texts.most if texts.most < LENGTHS[0] else None,
        "review": f"finetooth errors {shlex.quote(analysis['run'])} --review",
        "script": Markup(script),
        "digest": digest,
        "data": embedded(_data(analysis, annotations, titles, names, parts, texts)),
    }
    return html.render("errors.html.jinja", page)


def _tested(analysis: Mapping[str, Any]) -> dict[str, int]:
    """How many slices were tested, of how many rows; clustered: clusters of these, 0 where they make none."""
    graded = sum(row["score"] is not None for row in analysis["rows"])
    units = analysis["slices"].get("units", graded)  # errors.json of an older version has none
    clustered = units if units < graded else 0
    tested = analysis["slices"]["tested"]
    return {"slices_tested": tested, "support": SUPPORT, "graded": graded, "clustered": clustered}


def embedded(value: Any) -> Markup:
    """JSON that can stand in a <script> element: ASCII, without a character that HTML reads."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def headline(analysis: Mapping[str, Any]) -> str:
    """How many rows are wrong, in words."""
    n, wrong = analysis["n"], analysis["wrong"]
    ungraded = sum(row["score"] is None for row in analysis["rows"])
    if ungraded and ungraded == n:
        return f"None of {n:,} validation rows could be graded"
    said = f"{wrong:,} of {n:,} validation rows {'is' if wrong == 1 else 'are'} wrong"
    if not wrong:
        said = f"None of {n:,} validation rows is wrong"
    return f"{said}; {ungraded:,} could not be graded" if ungraded else said


def graded_by(analysis: Mapping[str, Any]) -> str:
    """The grader, and where its scores are not all 0 or 1 which of them are wrong."""
    by = f"graded by {analysis['grader']}"
    parts = any(row["score"] not in (None, 0, 1) for row in analysis["rows"])
    return f"{by}; wrong: below {HALF:.0%}" if parts else by


def largest_issue(tags: Sequence[Mapping[str, Any]], analysis: Mapping[str, Any]) -> str:
    """The tag of the headline with the most wrong rows, with its own precision; "" without one.

    Only a tag whose rows are wrong more often than all rows are: another one fires on right answers alike.
    """
    known = [tag for tag in tags if tag["headline"] and tag["wrong"]]
    n, wrong = analysis["n"], analysis["wrong"]
    often = (tag for tag in known if tag["wrong"] == tag["rows"] or tag["wrong"] * n > wrong * tag["rows"])
    first = next(often, None)
    if first is None:
        return ""
    rows = f"{first['wrong']:,} wrong row{'' if first['wrong'] == 1 else 's'}"
    return f"The largest issue: {first['title']}, in {rows} ({precision_words(first)})."


def precision_words(tag: Mapping[str, Any]) -> str:
    """A tag's own precision with its interval, or that nobody has judged it."""
    judged, others = tag["confirmed"] + tag["rejected"], tag["others"]
    if not judged:
        return f"precision not known: {_outside(others) if others else 'no row reviewed'}"
    low, high = (f"{100 * bound:.0f}" for bound in (tag["low"], tag["high"]))
    more = f", {_outside(others)}" if others else ""
    return f"precision {100 * tag['precision']:.0f}%, 95% CI {low} – {high}%, {judged} reviewed{more}"


def _outside(others: int) -> str:
    return f"{others:,} reviewed outside its random sample"


def why_hidden(tag: Mapping[str, Any]) -> str:
    """Why a tag is not in the headline; "" if it is."""
    if tag["headline"]:
        return ""
    judged = tag["confirmed"] + tag["rejected"]
    return f"cries wolf: {tag['confirmed']} of {judged} reviewed were right, below {TRUSTED:.0%}"


def asked_again(analysis: Mapping[str, Any]) -> str:
    """How often an answer changes when the same model is asked again: what chance alone flips."""
    if not (again := analysis["asked_again"]) or not again["rows"]:
        return ""
    counts, share = f"{again['changed']:,} of {again['rows']:,}", percent(again["changed"] / again["rows"])
    return f"Asked again, {counts} answers of the same model changed ({share})."


def _texts(analysis: Mapping[str, Any]) -> Iterator[str]:
    for row in analysis["rows"]:
        yield from (row["question"], row["want"], row["text"])
        if row["before"]:
            yield row["before"]["text"]


def _link(name: str, value: str) -> str:
    """The address of the page with this filter, for right and wrong rows."""
    return f"#{name}={quote(value, safe='')}&show=all"


def _tag_names(analysis: Mapping[str, Any], shown: Shown) -> dict[str, str]:
    """What each tag is called in links and in the rows, as its name may hold a label or what a user wrote.

    Names that become equal where personal data is hidden are numbered.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    tagged = (one for row in analysis["rows"] for one in row["tags"])
    for tag in dict.fromkeys(one["tag"] for one in (*analysis["tags"], *tagged, *analysis["issues"])):
        name = base = shown(tag)
        number = 1
        while name in taken:
            number += 1
            name = f"{base} ({number})"
        taken.add(name)
        names[tag] = name
    return names


def _issues(analysis: Mapping[str, Any], titles: Mapping[str, str], shown: Shown) -> Iterator[dict[str, Any]]:
    """The issues. titles: of the tags, by their own names."""
    for number, one in enumerate(analysis["issues"]):
        yield {
            **one,
            "title": titles[one["tag"]],
            "slice": shown(one["slice"]),
            "words": shown(one["words"]),
            "kind": PROVEN.get(one["state"], "none"),
            "link": _link("group", f"issue-{number}"),
        }


def _clusters(analysis: Mapping[str, Any], shown: Shown) -> Iterator[dict[str, Any]]:
    """The clusters with their typical rows."""
    rows = {row["id"]: (at, row) for at, row in enumerate(analysis["rows"])}
    for number, one in enumerate(analysis["clusters"]):
        typical = [
            {
                "id": shown(id),
                "link": f"#row={rows[id][0]}",  # ids that are hidden may look alike
                **{key: shown(rows[id][1][key]) for key in ("question", "want", "text")},
            }
            for id in one["typical"]
            if id in rows
        ]
        title = shown(one["title"])
        yield {**one, "title": title, "typical": typical, "link": f"#group=cluster-{number}"}


def _data(
    analysis: Mapping[str, Any],
    annotations: Annotations,
    titles: Mapping[str, str],
    names: Mapping[str, str],
    parts: Mapping[str, list[dict[str, Any]]],
    shown: ShownText,
) -> dict[str, Any]:
    """What the script shows. Rows are named by their number; short keys, since there may be thousands.

    titles: of the tags, by what they are called on the page, which is in `names` by their own names.
    """
    number = {row["id"]: index for index, row in enumerate(analysis["rows"])}
    groups = {
        "issue": [", ".join(filter(None, (one["title"], one["slice"]))) for one in parts["issues"]],
        "cluster": [one["title"] for one in parts["clusters"]],
        "slice": [one["name"] for one in parts["slices"]],
        "confusion": [f"{one['want']} → {one['got']}" for one in parts["confusions"]],
    }
    members = {
        kind: [
            {"name": name[:120], "rows": [number[id] for id in one.get("ids", ()) if id in number]}
            for name, one in zip(groups[kind], parts[f"{kind}s"], strict=True)
        ]
        for kind in groups
    }
    rows = [_row(row, annotations, names, shown) for row in analysis["rows"]]
    return {"tags": titles, "flips": list(KINDS), "groups": members, "rows": rows}


def _row(
    row: Mapping[str, Any], annotations: Annotations, names: Mapping[str, str], texts: ShownText
) -> dict[str, Any]:
    shown = texts.text
    id, before = row["id"], row["before"]
    place = row["file"] or ""
    place += f", row {row['line']}" if place and row["line"] is not None else ""
    verdicts = annotations.verdicts
    data = {
        "id": shown(id),
        "q": shown(row["question"]),
        "w": shown(row["want"]),
        "a": texts.marked(row["text"], [(one["start"], one["end"]) for one in row["tags"]]),
        "s": row["score"],
        "x": row["wrong"] or None,
        "c": row["confidence"],
        "f": row["flip"],
        "p": shown(place),
        "cut": row["stop"] == "length" or None,
        "b": [shown(before["text"]), before["score"]] if before else None,
        "t": [
            [names[one["tag"]], shown(one["words"]), verdicts.get((id, one["tag"]))] for one in row["tags"]
        ],
        "n": shown(annotations.notes.get(id, "")),
        "e": shown(annotations.answers.get(id, "")),
    }
    return {key: value for key, value in data.items() if key == "s" or value not in (None, "", [])}
