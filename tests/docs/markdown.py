"""Reads the documents: their fenced blocks, what each is for, and the commands in them.

An HTML comment on the line before a block says what is special about it:

    <!-- not run: REASON -->   the block is not run; the reason is required
    <!-- file: NAME -->        the block is the content of a file that later commands use

Blocks marked `bash` hold commands; in blocks marked `console` the lines after `$ ` do, the others are output
and are not compared. Blocks marked `python` are programs. Other blocks are for reading only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

BLOCK = re.compile(
    r"(?:^<!-- *(?P<word>not run|file):(?P<about>[^\n]*?)-->[ ]*\n)?^```(?P<kind>\w+)\n(?P<body>.*?)^```",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """line: of the document, where the body starts. file: what the body is the content of."""

    line: int
    kind: str
    body: str
    file: str | None
    exempt: bool


def blocks(text: str) -> Iterator[Block]:
    """Every fenced block with a language, in order. ValueError for an exemption without a reason."""
    for match in BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("body")) + 1
        about = (match["about"] or "").strip()
        if match["word"] and not about:
            raise ValueError(f"line {line}: `{match['word']}:` needs a word after it")
        file = about if match["word"] == "file" else None
        yield Block(line, match["kind"], match["body"], file, match["word"] == "not run")


def commands(block: Block) -> list[str]:
    """The commands of a bash or console block, continuation lines joined, comments left out."""
    lines = block.body.replace("\\\n", " ").splitlines()
    if block.kind == "console":
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
