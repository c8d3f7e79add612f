"""Nothing that is printed commands the terminal, however it is printed."""

from __future__ import annotations

import io
import re

import pytest
from rich.progress import Progress, TextColumn
from rich.table import Table
from rich.text import Text

from finetooth.errors import printable
from finetooth.report.console import Terminal

EVIL = "a\x1b]0;pwned\x07\x1b[2K\x9b31m\u202eb\x7f\r"
OWN = re.compile("\x1b\\[[0-9;?]*[A-Za-z]")  # colours and the cursor, which the console itself writes


def table() -> Table:
    found = Table(title=EVIL)
    found.add_column(EVIL)
    found.add_row(EVIL)
    return found


@pytest.mark.parametrize(
    "print_it",
    [
        lambda console: console.print(EVIL),
        lambda console: console.print(EVIL, style="yellow", soft_wrap=True),
        lambda console: console.print(Text(EVIL, style="bold")),
        lambda console: console.print(table()),
        lambda console: console.print("[link=http://example.com]here[/link]"),
        lambda console: console.log(EVIL),
        lambda console: console.rule(EVIL),
        lambda console: bar(console),
    ],
)
def test_control_characters_are_shown_and_not_obeyed(print_it) -> None:
    file = io.StringIO()
    print_it(Terminal(file=file, force_terminal=True, width=120, color_system="truecolor"))
    written = OWN.sub("", file.getvalue())
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202e]", written), ascii(written)
    assert "pwned" not in written or "\\x1b]0;pwned" in written


def bar(console: Terminal) -> None:
    with Progress(TextColumn("{task.description}", markup=False), console=console) as progress:
        progress.add_task(EVIL, total=1)


def test_text_that_people_write_is_unchanged() -> None:
    text = "Grüße\t漢字 \u05d0\u05d1 😀 e\u0301\nnext \u200d line"
    assert printable(text) == text
    assert printable("\x1b[0m\u202e") == "\\x1b[0m\\u202e"
