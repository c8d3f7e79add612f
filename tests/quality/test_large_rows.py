"""Rows of a size that nobody writes: what reads a text takes time in proportion to its length."""

from __future__ import annotations

import io
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from finetooth.config.load import load_task
from finetooth.data.examples import normalise
from finetooth.data.unicode_forms import normal_form
from finetooth.evaluation.graders.forms import readings
from finetooth.evaluation.graders.label_sets import labels
from finetooth.evaluation.graders.numbers import final_quantity
from finetooth.privacy.masking import mask, redact
from finetooth.privacy.patterns import find
from finetooth.quality.repair.text_repair import fix_encoding, normalise_space, strip_html
from finetooth.quality.survey import EDGE, sample, survey
from finetooth.runs.check import check
from finetooth.runs.context import RunContext
from finetooth.types import Answer, Example, Message

SIZE = 100_000
SECONDS = 8.0  # processor time; each takes less than one, and took minutes when it was quadratic
CHECK_SECONDS = 60.0  # processor time of a whole `check`; a tenth to a third of it is used
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


ROWS = {  # 1 MB of each
    "square brackets": "[",
    "round brackets": "(",
    "braces": "{",
    "angle brackets": "<",
    "mixed brackets": "([{<",
    "one digit": "7",
    "spaces": " ",
    "line breaks": "\n",
    "at signs": "a@",
    "calling codes": "+49",
    "base64": "QmFzZTY0IGlzIG5vIHRleHQ+",
    "emoji with joiners": "\U0001f469\u200d",
    "a family": "\U0001f469\u200d\U0001f469\u200d\U0001f467",
    "combining marks": "\u0301\u0323",
    "invisible characters": "\u200b",
    "Chinese": "\u4e2d",
    "broken characters": "\ufffd",
    "backticks": "`",
    "one letter": "a",
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ROWS)
def test_one_row_of_a_megabyte_costs_seconds(kind: str, tmp_path: Path) -> None:
    """All of `check`: reading, splitting, rendering, every rule, the sample that is shown."""
    rows = [{"text": f"row {k} of {k * 7 % 13}", "label": "ab"[k % 2]} for k in range(60)]
    rows[30]["text"] = "e" + ROWS[kind] * (1_000_000 // len(ROWS[kind]))
    _checked(rows, tmp_path, CHECK_SECONDS)


COPIES = {
    "equal": lambda k: ("It has not come.", "late"),
    "equal with two labels": lambda k: ("It has not come.", "ab"[k % 2]),
    "one character differs": lambda k: (
        f"It has {chr(0x4E00 + k % 20_000)} not come since Monday.",
        "ab"[k % 2],
    ),
    "each has a label of its own": lambda k: ("It has not come.", f"label {k}"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", COPIES)
def test_twice_the_copies_cost_twice_the_time(kind: str, tmp_path: Path) -> None:
    seconds = []
    for count in (2_500, 5_000, 10_000):
        rows = [dict(zip(("text", "label"), COPIES[kind](k), strict=True)) for k in range(count)]
        seconds.append(_checked(rows, tmp_path / str(count), CHECK_SECONDS))
    assert seconds[2] < 3.5 * seconds[1] + 2


def _checked(rows: list[dict[str, str]], out: Path, limit: float) -> float:
    """Processor time of `check`, in seconds; it has to stay below the limit."""
    task = load_task({"data": {"train": rows, "overlong": "cut"}})
    start = time.process_time()
    check(RunContext(task, out, Console(file=io.StringIO())), out)
    taken = time.process_time() - start
    assert taken < limit
    return taken


def test_the_middle_of_a_long_row_is_one_piece(tmp_path: Path) -> None:
    """Work that is counted: each token of the middle would be decoded on its own."""
    renderer = RunContext(load_task({"data": {"train": []}}), tmp_path, Console()).renderer
    example = Example("e", (Message("user", "\u4e2d[" * 20_000),), (Answer("late " * 5_000),))
    rows = renderer.rows(example)
    pieces = sample(renderer, example, rows).pieces
    assert sum(piece.tokens for piece in pieces) == len(rows[0])
    assert len(pieces) <= 4 * EDGE + 2
    text = "".join(piece.text for piece in pieces if piece.scored)
    assert text == renderer.tokenizer.decode(rows[0].tokens[rows[0].weight > 0])


def test_copies_are_rendered_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    renderer = RunContext(load_task({"data": {"train": []}}), tmp_path, Console()).renderer
    asked: list[str] = []
    real = renderer.rows
    monkeypatch.setattr(renderer, "rows", lambda example: asked.append(example.id) or real(example))
    rows = [Example(f"e{k}", (Message("user", f"q{k % 3}"),), (Answer("a"),)) for k in range(30)]
    found = survey(renderer, {"train": rows}, None)
    assert asked == ["e0", "e1", "e2"]
    assert (found.rows, len(found.lengths[0])) == (30, 30)
