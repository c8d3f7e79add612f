"""Streaming: the text of a growing completion, as soon as no later token can change it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from finetooth.data.render.tokenizer import Tokenizer
from finetooth.errors import ModelError
from finetooth.model.generation.generate import GenerationStream
from finetooth.types import Piece

# SentencePiece's tokens of single bytes. Ids without a token (padding of the vocabulary) decode to nothing,
# so bytes before and after them are decoded together: they match as the empty string.
BYTE = re.compile(r"<0x[0-9A-F]{2}>|")
UNDECIDED = "\N{REPLACEMENT CHARACTER}"  # bytes decode to it while they are not a whole character


def stream(
    generated: GenerationStream, tokenizer: Tokenizer | None, strings: Sequence[str]
) -> Iterator[Piece]:
    """The new text of each completion after each of its tokens. strings: the stop strings.

    Pieces without text are left out, but for the last one of a completion, which carries it. Raises
    ModelError without a tokenizer, before the first piece.
    """
    if tokenizer is None:
        raise ModelError("Streaming text needs the model's tokenizer, and this model has none.")

    def pieces(tokenizer: Tokenizer) -> Iterator[Piece]:
        texts: dict[tuple[int, int], IncrementalDetokenizer] = {}
        for partial, done in generated:
            key = (partial.row, partial.sample)
            text = texts.setdefault(key, IncrementalDetokenizer(tokenizer.decode, tokenizer.text_of, strings))
            new = text.settled(partial.tokens) if done is None else text.rest(done.text)
            if done is not None:
                del texts[key]
            if new or done is not None:
                yield Piece(partial.row, new, partial.sample, done)

    return pieces(tokenizer)


class IncrementalDetokenizer:
    """The text of one growing completion. decode: token ids -> text. spelled: a token's text in the
    vocabulary.

    strings: the stop strings.
    """

    def __init__(
        self,
        decode: Callable[[Sequence[int]], str],
        spelled: Callable[[int], str],
        strings: Sequence[str] = (),
    ):
        self._decode, self._spelled, self._strings = decode, spelled, strings
        self._sent = ""

    def settled(self, tokens: Sequence[int]) -> str:
        """The text of these tokens beyond what was returned before, as far as no later token can change it.

        Incomplete characters and possible starts of stop strings are held back. All tokens are decoded every
        time, because a decoder may treat the first one specially; even for thousands of tokens that costs far
        less than generating them.
        """
        count = len(tokens)
        while count and BYTE.fullmatch(self._spelled(tokens[count - 1])):
            count -= 1  # a run of byte tokens is decoded as a whole
        text = self._decode(tokens[:count]).rstrip(UNDECIDED)
        held = max(
            (
                size
                for string in self._strings
                for size in range(1, min(len(string), len(text) + 1))
                if text.endswith(string[:size])
            ),
            default=0,
        )
        return self.rest(text[: len(text) - held])

    def rest(self, text: str) -> str:
        """The part of this text beyond what was returned before."""
        if not text.startswith(self._sent):
            return ""
        new = text[len(self._sent) :]
        self._sent = text
        return new
