"""Unicode normal forms in linear time: Python's take the square of the length of a run of combining marks."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

PIECE = 1000  # characters normalised at once where there are long runs
MARKS = 100  # characters before the end of a piece in which the beginning of a character is looked for
# Characters that could be combining marks, so many in a row that they might be an attack, or Chinese.
_RUN = re.compile(r"[^\x00-\u02ff]{100}")
_PLAIN = re.compile(r"[\x00-\x7f]")  # never joins the character before it


def normal_form(form: Literal["NFC", "NFKC"], text: str) -> str:
    """The text in a normal form. Of a row of hundreds of combining marks, each thousand is put in order."""
    if len(text) <= PIECE or not _RUN.search(text):
        return unicodedata.normalize(form, text)
    return "".join(unicodedata.normalize(form, piece) for piece in _pieces(text))


def _pieces(text: str) -> Iterator[str]:
    """The text in pieces that normalise on their own, except within rows of more than MARKS marks."""
    start = 0
    while start < len(text):
        least, most = start + PIECE // 2, start + PIECE
        if found := _PLAIN.search(text, least, most):
            end = found.start()
        else:
            end = next((at for at in range(most, most - MARKS, -1) if _begins(text[at : at + 1])), most)
        yield text[start:end]
        start = end


@lru_cache(4096)
def _begins(char: str) -> bool:
    """Whether no character before this one can join it."""
    return unicodedata.category(char or "a")[0] not in "M" and not "\u1100" <= char <= "\u11ff"
