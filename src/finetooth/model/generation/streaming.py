"""Answers while they are being written: text that no later token can change, as soon as there is some."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from finetooth.data.render.tokenizer import Tokenizer
from finetooth.errors import ModelError
from finetooth.model.generation.generate import GenerationStream
from finetooth.types import Piece

# How SentencePiece names the tokens of single bytes; ids without a token (padding of the vocabulary) are
# left out of a text, so what stands around them is one group too.
BYTE = re.compile(r"<0x[0-9A-F]{2}>|")
UNDECIDED = "\N{REPLACEMENT CHARACTER}"  # how bytes read that do not make a character, or not yet


def stream(written: GenerationStream, tokenizer: Tokenizer | None, strings: Sequence[str]) -> Iterator[Piece]:
    """The new text of each answer after each of its tokens. strings: the stop strings.

    A piece without text is left out, except the last of an answer, which carries its completion. Raises
    ModelError without a tokenizer.
    """
    if tokenizer is None:
        raise ModelError("Streaming text needs the model's tokenizer, and this model has none.")
    return _pieces(written, tokenizer, strings)


def _pieces(written: GenerationStream, tokenizer: Tokenizer, strings: Sequence[str]) -> Iterator[Piece]:
    texts: dict[tuple[int, int], IncrementalDetokenizer] = {}
    for answer, done in written:
        key = (answer.row, answer.sample)
        text = texts.setdefault(key, IncrementalDetokenizer(tokenizer.decode, tokenizer.text_of, strings))
        new = text.settled(answer.tokens) if done is None else text.rest(done.text)
        if done is not None:
            del texts[key]
        if new or done is not None:
            yield Piece(answer.row, new, answer.sample, done)


class IncrementalDetokenizer:
    """The text of one growing answer. decode: tokens to text; spelled: how the vocabulary spells a token."""

    def __init__(
        self,
        decode: Callable[[Sequence[int]], str],
        spelled: Callable[[int], str],
        strings: Sequence[str] = (),
    ):
        self._decode, self._spelled, self._strings = decode, spelled, strings
        self._sent = ""

    def settled(self, tokens: Sequence[int]) -> str:
        """What these tokens add to what was given out before, as far as no later token can change it.

        Held back are a character whose bytes are not all there, and what may be the start of a stop string.
        All tokens are decoded every time: a decoder may treat the first one in a way of its own, and for
        answers of thousands of tokens that is still far below the cost of the tokens themselves.
        """
        count = len(tokens)
        while count and BYTE.fullmatch(self._spelled(tokens[count - 1])):
            count -= 1  # byte tokens are decoded as a group, all of it or none
        text = self._decode(tokens[:count]).rstrip(UNDECIDED)
        return self.rest(text[: len(text) - self._begun(text)])

    def rest(self, text: str) -> str:
        """What this text has beyond what was given out before."""
        if not text.startswith(self._sent):
            return ""
        new = text[len(self._sent) :]
        self._sent = text
        return new

    def _begun(self, text: str) -> int:
        """How many characters at the end may be the start of a stop string."""
        return max(
            (
                size
                for string in self._strings
                for size in range(1, min(len(string), len(text) + 1))
                if text.endswith(string[:size])
            ),
            default=0,
        )
