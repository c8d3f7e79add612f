"""The first page of a run's report as Markdown, for a pull request, a wiki or a model card.

Texts that are not ours (names, files, instructions) are escaped, so that GitHub shows them as they are: no
markup, HTML, link, mention or formula.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from finetooth.errors import printable
from finetooth.evaluation.verdict_words import percent, points
from finetooth.report.html import format_corpus_score, format_seconds
from finetooth.report.run_page import FirstPage
from finetooth.report.verdict_part import rows_in_words

_MARKUP = re.compile(r"([\\`*_\[\]<>|~$&])")
_MENTION = re.compile(r"([@#])(?=\w)")  # GitHub links @name and #12 even where they are escaped
JOINER = "\u2060"  # has no width


def escaped(text: str) -> str:
    """A text on one line that shows as it is."""
    line = " ".join(printable(text).split())
    line = _MENTION.sub(rf"\1{JOINER}", _MARKUP.sub(r"\\\1", line)).replace("://", "\\://")
    return re.sub(r"^(\d*)([-+=#]|(?<=\d)[.)])", r"\1\\\2", line)


def code(text: str) -> str:
    """A text on one line as a code span, in which nothing is markup; not for tables."""
    line = " ".join(printable(text).split())
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    room = " " if line.startswith("`") or line.endswith("`") or not line else ""
    return f"{fence}{room}{line}{room}{fence}"


def block(text: str, language: str = "") -> str:
    """A text of several lines as a fenced block."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{printable(text)}\n{fence}"


def markdown(page: FirstPage) -> str:
    """Verdict, scores, the lines of the parts, limits, and how to reproduce."""
    about = [code(page.name)]
    about += [f"base model {code(page.model)}"] if page.model else []
    about += [page.date] if page.date else []
    parts = [f"## {escaped(headline(page))}", " · ".join(about), *verdict_paragraphs(page)]
    if page.table:
        parts += score_paragraphs(page)
    parts += [line_items(page)] if page.lines else []
    parts += ["### Limits", bullets(page.unchecked)]
    parts += reproduction_paragraphs(page, "### Reproduce")
    return "\n\n".join(parts) + "\n"


def headline(page: FirstPage) -> str:
    """The verdict in a few words."""
    return str(page.verdict["headline"]) if page.verdict else "Not evaluated yet"


def verdict_paragraphs(page: FirstPage) -> list[str]:
    """What the verdict is about, in plain words and with its numbers; and rules that were overridden."""
    parts = []
    if page.verdict:
        verdict = str(page.verdict.get("verdict", "no verdict"))
        lead = escaped(page.verdict["plainly"] or page.verdict["words"])
        parts = [f"**{verdict}** on {escaped(page.verdict['where'])}. {lead}"]
        parts += [escaped(page.verdict["words"])] if page.verdict["plainly"] else []
    parts += [escaped(page.skipped)] if page.skipped else []
    if page.allowed:
        rules = ", ".join(map(code, page.allowed))
        parts.append(
            f"Overridden blocking rules of the data check: {rules}. Interpret every figure accordingly."
        )
    return parts


def score_paragraphs(page: FirstPage) -> list[str]:
    """The table of all candidates, a sentence before it, and the candidates' notes."""
    table = page.table or {}
    clusters = f" in {table['groups']:,} clusters" if table["groups"] else ""
    split = rows_in_words(table["split"])
    where = f"{table['n']:,} {'rows of ' if table['split'] == 'test' else ''}"
    about = f"All candidates on the same {where}{split if table['split'] == 'test' else split[4:]}"
    notes = [f"{name}: {note}" for name, note in table["notes"]]
    return [
        f"{escaped(about)}{clusters}, graded by {escaped(table['grader'])}:",
        score_table(table),
        *([bullets(notes)] if notes else []),
    ]


def score_table(table: dict[str, Any]) -> str:
    """The candidates with their intervals, the difference to the tuned model, and what an answer takes."""
    columns = ["Candidate", "Score", "95% CI"]
    columns += ["Tuned minus this (95% CI)"] if table["against"] else []
    columns += [f"Corpus {table['corpus']}"] if table["corpus"] else []
    columns += ["Form forgiven"] if table["lenient"] else []
    columns += ["Prompt tokens", "Answer tokens"]
    columns += ["Seconds"] if table["seconds"] else []
    columns += ["Price of 1,000"] if table["price"] else []
    columns += [name.capitalize() for name in ("truncated",) if table[name]]
    columns += ["Grader errors"] if table["errors"] else []
    rows = [_cells(row, table) for row in table["rows"]]
    ruler = ["---", *["---:"] * (len(columns) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (columns, ruler, *rows))


def _cells(row: dict[str, Any], table: dict[str, Any]) -> list[str]:
    name = escaped(row["name"])
    cells = [f"**{name}**" if row["kind"] == "tuned" else name]
    scored = row["score"] is not None
    cells += (
        [percent(row["score"]), f"{percent(row['low'])} – {percent(row['high'])}"] if scored else ["–", "–"]
    )
    if table["against"]:
        one = row["against"]
        cells.append(
            f"{points(one['difference'])} ({points(one['low'])} to {points(one['high'])})" if one else ""
        )
    cells += [format_corpus_score(row["corpus_score"])] if table["corpus"] else []
    if table["lenient"]:
        lenient = (row.get("lenient") or {}).get("score")
        cells.append("–" if lenient is None else percent(lenient))
    for key in ("prompt_tokens", "completion_tokens"):
        cells.append(f"{row[key]:,.1f}" if row[key] else "–")
    cells += [format_seconds(row["seconds"])] if table["seconds"] else []
    if table["price"]:
        cells.append("–" if row.get("price") is None else f"{row['price']:.3g}")
    return cells + [str(row[key]) for key in ("truncated", "errors") if table[key]]


def line_items(page: FirstPage, public: bool = False) -> str:
    """The lines of the parts as a list. public: without values of the data."""
    return "\n".join(
        f"- **{escaped(line.label.rstrip('?.'))}{'?' if line.label.endswith('?') else '.'}** "
        f"{f'*{escaped(line.badge)}.* ' if line.badge else ''}"
        f"{escaped((public and line.public) or line.words)}"
        for line in page.lines
    )


def bullets(sentences: Sequence[str]) -> str:
    """Sentences as a list."""
    return "\n".join(f"- {escaped(sentence)}" for sentence in sentences)


def reproduction_paragraphs(page: FirstPage, heading: str, command: str | None = None) -> list[str]:
    """The command, and what has to be the same. command: in place of the page's."""
    shown = page.reproduction.command if command is None else command
    same = " · ".join(f"{escaped(name)} {code(value)}" for name, value in page.reproduction.same)
    return [heading, *([block(shown, "sh")] if shown else []), *([same] if same else [])]
