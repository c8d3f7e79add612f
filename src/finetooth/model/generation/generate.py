"""Answers, written side by side: rows that end make room for rows that wait.

Axes: K answers still going.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from finetooth.model.generation.decode import Decoder
from finetooth.model.generation.sampling import StopStrings, sample_tokens, stream_keys, uniform
from finetooth.tree import Ints
from finetooth.types import Completion, Sampling, StopReason

# An answer after one of its tokens, and its completion when that was the last.
GenerationStream = Iterator[tuple["PartialCompletion", Completion | None]]


@dataclass(slots=True)
class PartialCompletion:
    """One answer being written: whose row and sample, its random stream, how many tokens it may have.

    last: what the decoder calls its last token.
    """

    row: int
    sample: int
    key: bytes
    room: int
    last: int = -1
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    def completed(
        self, stop_ids: frozenset[int], strings: StopStrings, decode: Callable[[Sequence[int]], str]
    ) -> Completion | None:
        """The completion when the last token ended the answer, else None."""
        stop: StopReason
        if self.tokens[-1] in stop_ids:
            stop, text = "stop", decode(self.tokens[:-1])
        elif (before := strings.cut(self.tokens)) is not None:
            stop, text = "string", before
        elif len(self.tokens) >= self.room:
            stop, text = "length", decode(self.tokens)
        else:
            return None
        return Completion(self.row, tuple(self.tokens), tuple(self.logprobs), text, stop, self.sample)


def pending_completions(
    contexts_R: Sequence[Ints], sampling: Sampling, longest: int
) -> list[PartialCompletion]:
    """The answers to be written, all samples of a context side by side. longest: row, in tokens."""
    return [
        PartialCompletion(row, sample, key, max(1, min(sampling.max_tokens, longest - tokens.size)))
        for row, (tokens, key) in enumerate(
            zip(contexts_R, stream_keys(contexts_R, sampling.seed), strict=True)
        )
        for sample in range(sampling.samples)
    ]


def generate(
    decoder: Decoder,
    answers: Sequence[PartialCompletion],
    sampling: Sampling,
    stop_ids: frozenset[int],
    decode: Callable[[Sequence[int]], str],
) -> GenerationStream:
    """Write the answers, one for each of the decoder's rows; yields each after each of its tokens.

    decode turns tokens into text.
    """
    strings = StopStrings(sampling.stop, decode)
    going: list[int] = []
    reads = None
    while True:
        entered, entered_reads = decoder.admit()
        going += entered
        if not going:
            return
        pieces = [piece for piece in (reads, entered_reads) if piece is not None]
        _write(decoder, torch.cat(pieces), [answers[row] for row in going], sampling)
        longer: list[int] = []
        for row in going:
            done = answers[row].completed(stop_ids, strings, decode)
            if done is None:
                longer.append(row)
            else:
                decoder.release(row)
            yield answers[row], done
        going, reads = longer, None
        if going:
            last = [answers[row] for row in going]
            reads, numbers = decoder.extend(going, [a.last for a in last], [a.tokens[-1] for a in last])
            for answer, number in zip(last, numbers, strict=True):
                answer.last = number


@torch.inference_mode()
def _write(
    decoder: Decoder, reads: torch.Tensor, going: Sequence[PartialCompletion], sampling: Sampling
) -> None:
    """Append the next token to each answer."""
    start = 0
    for logits_KV in decoder.logits(reads):
        some = going[start : start + len(logits_KV)]
        start += len(some)
        drawn = [uniform(a.key, a.sample, len(a.tokens)) for a in some] if sampling.temperature else []
        tokens, logprobs = sample_tokens(logits_KV, drawn, sampling)
        for answer, token, logprob in zip(some, tokens, logprobs, strict=True):
            answer.tokens.append(token)
            answer.logprobs.append(logprob)
