"""Rows of a size that nobody writes: what reads a text takes time in proportion to its length."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable

import pytest

from finetooth.data.examples import normalise
from finetooth.data.unicode_forms import normal_form
from finetooth.evaluation.graders.forms import readings
from finetooth.evaluation.graders.label_sets import labels
from finetooth.evaluation.graders.numbers import final_quantity
from finetooth.privacy.masking import mask, redact
from finetooth.privacy.patterns import find
from finetooth.quality.repair.text_repair import fix_encoding, normalise_space, strip_html
from finetooth.types import Answer, Example

SIZE = 100_000
SECONDS = 8.0  # processor time; each takes less than one, and took minutes when it was quadratic
READERS: dict[str, Callable[[str], object]] = {
    "redact": redact,
    "strip_html": strip_html,
    "fix_encoding": fix_encoding,
    "normalise_space": normalise_space,
    "normalise": normalise,
    "readings": lambda text: readings(text, True),
    "number": final_quantity,
    "labels": lambda text: labels(Example("row", (), (Answer(text),)), text),
}
TEXTS = {
    "telephone numbers": "212-555-0123 ",
    "telephone numbers with a word": "call 5550123 ",
    "e-mail addresses": "joe@example.org.uk ",
    "IP addresses": "81.2.69.142 ",
    "comments": "<!--",
    "scripts": "<script>(",
    "entities of entities": "amp;",
    "combining marks": "\u0301\u0323",
    "broken encodings": "“Ã” ",
    "line breaks": "\n",
    "spaces": " ",
    "at signs": "a.b@",
    "digits": "1234 ",
    "brackets": "([{",
    "labels": "ab, cd, ",
}
BEFORE = {
    "comments": "-->",
    "scripts": "</s",
    "entities of entities": "&",
    "spaces": "```\n",
    "brackets": "(aa",
}
GATE = ("telephone numbers", "comments", "combining marks")


@pytest.mark.parametrize(
    "kind", [kind if kind in GATE else pytest.param(kind, marks=pytest.mark.slow) for kind in TEXTS]
)
def test_time_grows_with_the_length(kind: str) -> None:
    text = BEFORE.get(kind, "") + TEXTS[kind] * (SIZE // len(TEXTS[kind])) + "x"
    for name, read in READERS.items():
        start = time.process_time()
        read(text)
        assert time.process_time() - start < SECONDS, name


def test_a_list_of_telephone_numbers_is_found_at_once() -> None:
    text = "212-555-0123 212-555-0124 212-555-0125"
    assert [text[one.start : one.end] for one in find(text)] == text.split()
    assert mask(text) == "[PHONE] [PHONE] [PHONE]"


@pytest.mark.parametrize("form", ["NFC", "NFKC"])
def test_normal_forms_are_those_of_unicode(form: str) -> None:
    """Pieces are cut where nothing joins; only rows of hundreds of marks differ."""
    letters = "ếe\u0302\u0301 \u1100\u1161\u11a8각가\u11a8 한국어 中文 क\u093cकि ﬁ ½ Å\u0338 กำ "
    marked = "e" + "\u0301" * 90 + "中" * 1500
    for text in (letters * 200, letters.replace(" ", "") * 200, "中" * 5000, marked):
        assert normal_form(form, text) == unicodedata.normalize(form, text)  # type: ignore[arg-type]
