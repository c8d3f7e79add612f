"""What is wrong with a YAML file, in words: the line, what stands there, and what to type instead."""

from __future__ import annotations

import re

import yaml

SHOWN = 80  # characters of a line

# What the parser says, as a pattern over its context and its problem -> the same in words.
_WORDS = (
    (
        r"found character '\\t'",
        "a tab, and YAML is indented with spaces only. Replace every tab with two spaces",
    ),
    (r"found character '(.)' that cannot start", "a value cannot begin with {}. Put it in quotes"),
    (r"quoted scalar.*unexpected end", "a quotation mark has no second one. Add it at the end of the value"),
    (r"flow mapping.*(?:stream end|block end|document)", "a { has no }. Add the } behind its last value"),
    (r"flow sequence.*(?:stream end|block end|document)", "a [ has no ]. Add the ] behind its last value"),
    (
        r"flow (?:mapping|sequence).*but got ':'",
        "a colon too many between { and }, or a comma too few. Separate the entries with commas, and put a "
        "value that holds a colon in quotes",
    ),
    (r"flow (?:mapping|sequence)", "a comma is missing between two entries, or a bracket has no second one"),
    (r"but found '([}\],])'", "a {} too many. Remove it, or put the whole value in quotes"),
    (
        r"but found '<block mapping start>'|expected <block end>, but found '<scalar>'",
        "this line is not indented like those that it belongs to. Begin the keys of one section in the same "
        "column",
    ),
    (r"but found '-'", "an entry of a list stands among keys. Indent it below its key, as in `key: [a, b]`"),
    (
        r"mapping values are not allowed",
        "a colon where none can be. Put a value that holds a colon in quotes; begin the keys of one section "
        "in the same column",
    ),
    (r"could not find expected ':'", "a key has no colon behind it. Write `key: value`"),
)


def in_words(error: yaml.YAMLError, text: str) -> str:
    """The error of reading this text, on one line, with the number of the line and its beginning."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if not isinstance(error, yaml.MarkedYAMLError) or mark is None:
        return " ".join(str(error).split())
    said = f"{error.context or ''} {error.problem or ''}"
    start = error.context_mark if re.search("flow|quoted|simple key", said) and error.context_mark else mark
    unclosed = start.line < mark.line and "flow" in said  # what is below is read as a part of it
    if unclosed:
        said = f"{'flow mapping' if 'mapping' in (error.context or '') else 'flow sequence'} stream end"
    shown = (text.splitlines() or [""])[min(start.line, max(0, len(text.splitlines()) - 1))].strip()
    for pattern, words in _WORDS:
        if found := re.search(pattern, said, re.DOTALL):
            what = words.replace("{}", repr(found[1])) if found.groups() else words
            return f"line {start.line + 1}, {shown[:SHOWN]!r}: {what}."
    return f"line {start.line + 1}, {shown[:SHOWN]!r}: {(error.problem or said).strip()}."
