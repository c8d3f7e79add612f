"""Generation: completions are decoded in a batch, in which rows that end make room for waiting ones.

Axes: K completions that are being generated, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from finetooth.model.generation.decode import Decoder
from finetooth.model.generation.sampling import StopStrings, sample_tokens, stream_keys, uniform
from finetooth.tree import Ints
from finetooth.types import Completion, Sampling, StopReason

# A completion after each of its tokens; the second is None until the last.
GenerationStream = Iterator[tuple["PartialCompletion", Completion | None]]


@dataclass(slots=True)
class PartialCompletion:
    """A completion that is being generated. row, sample: of the context and among its samples. key: of its
    random stream. max_tokens: the most that it may have. last: the decoder's number of its last token.
    """

    row: int
    sample: int
    key: bytes
    max_tokens: int
    last: int = -1
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    def completed(
        self, stop_ids: frozenset[int], strings: StopStrings, decode: Callable[[Sequence[int]], str]
    ) -> Completion | None:
        """The completion if its last token ended it, else None."""
        stop: StopReason
        if self.tokens[-1] in stop_ids:
            stop, text = "stop", decode(self.tokens[:-1])
        elif (before := strings.cut(self.tokens)) is not None:
            stop, text = "string", before
        elif len(self.tokens) >= self.max_tokens:
            stop, text = "length", decode(self.tokens)
        else:
            return None
        return Completion(self.row, tuple(self.tokens), tuple(self.logprobs), text, stop, self.sample)


def pending_completions(
    contexts_R: Sequence[Ints], sampling: Sampling, longest_row: int
) -> list[PartialCompletion]:
    """The completions to generate, all samples of a context one after the other."""
    keys = stream_keys(contexts_R, sampling.seed)
    return [
        PartialCompletion(row, sample, key, max(1, min(sampling.max_tokens, longest_row - tokens.size)))
        for row, (tokens, key) in enumerate(zip(contexts_R, keys, strict=True))
        for sample in range(sampling.samples)
    ]


def generate(
    decoder: Decoder,
    pending: Sequence[PartialCompletion],
    sampling: Sampling,
    stop_ids: frozenset[int],
    decode: Callable[[Sequence[int]], str],
) -> GenerationStream:
    """Generate the completions, one for each row of the decoder; yields each after each of its tokens.

    decode: token ids -> text.
    """
    strings = StopStrings(sampling.stop, decode)
    active: list[int] = []
    hidden_KD = None
    while True:
        admitted, admitted_KD = decoder.admit()
        active += admitted
        if not active:
            return
        parts = [part for part in (hidden_KD, admitted_KD) if part is not None]
        _append_tokens(decoder, torch.cat(parts), [pending[row] for row in active], sampling)
        unfinished: list[int] = []
        for row in active:
            done = pending[row].completed(stop_ids, strings, decode)
            if done is None:
                unfinished.append(row)
            else:
                decoder.release(row)
            yield pending[row], done
        active, hidden_KD = unfinished, None
        if active:
            growing = [pending[row] for row in active]
            last_K, token_K = [one.last for one in growing], [one.tokens[-1] for one in growing]
            hidden_KD, numbers = decoder.extend(active, last_K, token_K)
            for completion, number in zip(growing, numbers, strict=True):
                completion.last = number


@torch.inference_mode()
def _append_tokens(
    decoder: Decoder, hidden_KD: Tensor, growing: Sequence[PartialCompletion], sampling: Sampling
) -> None:
    """Choose the next token of each completion."""
    start = 0
    for logits_kV in decoder.logits(hidden_KD):
        some = growing[start : start + len(logits_kV)]
        start += len(some)
        random = some if sampling.temperature else []
        drawn = [uniform(one.key, one.sample, len(one.tokens)) for one in random]
        tokens, logprobs = sample_tokens(logits_kV, drawn, sampling)
        for completion, token, logprob in zip(some, tokens, logprobs, strict=True):
            completion.tokens.append(token)
            completion.logprobs.append(logprob)
