"""Files that the documents name exist: modules in code spans, and the tests in the tables of planted bugs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ("docs/design.md", "docs/walk.md", "CONTRIBUTING.md")
UNDER = ("", "src/finetooth", "tests")  # what a path may be relative to
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
PATH = re.compile(r"(?:[\w.-]+/)+|(?:[\w.-]+/)*[\w-]+\.py")  # folders end with a slash
TEST = re.compile(r"\b(?:[\w-]+/)+test_\w+(?:\.py)?\b")


def named(text: str) -> Iterator[str]:
    """Files and folders named in code spans, and tests named anywhere, with or without their extension."""
    text = FENCED.sub("", text)
    yield from (span for span in SPAN.findall(text) if PATH.fullmatch(span))
    for test in TEST.findall(text):
        yield test if test.endswith(".py") else f"{test}.py"


def missing(text: str) -> list[str]:
    """The named paths that are nowhere; a bare file name may be in any folder."""
    return [
        path
        for path in sorted(set(named(text)))
        if not any((ROOT / under / path).exists() for under in UNDER)
        and not ("/" not in path and any(any((ROOT / under).rglob(path)) for under in UNDER[1:]))
    ]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_path_in_a_document_exists(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    assert len(set(named(text))) > 10
    assert missing(text) == []


def test_a_path_that_does_not_exist_is_seen() -> None:
    text = "`training/step.py` `training/steps.py` `gate.py` `gates.py` `model/` `models/`"
    table = "| laws/test_resume, laws/test_resumed |"
    assert missing(text + table) == ["gates.py", "laws/test_resumed.py", "models/", "training/steps.py"]
