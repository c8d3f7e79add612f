"""Sampling the next token, and stop strings.

Every random number is keyed by (seed, content of the context, sample, position), so other contexts in the
same call change no sample. Log-probabilities are those at the sampling temperature, before top-k and top-p.

Axes: K completions, V vocabulary, P tokens of it in descending order of probability.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from finetooth.errors import DataError, ModelError
from finetooth.tree import Ints
from finetooth.types import Sampling

LIKELY = 512  # tokens that top-p sorts at first; all are sorted if these hold less than top_p


def check_sampling(sampling: Sampling, decodes: bool = True) -> None:
    """Raise DataError for values out of range, ModelError for stop strings without a tokenizer (decodes)."""
    if not (sampling.temperature == 0 or 1e-4 <= sampling.temperature < np.inf):
        raise DataError(f"temperature must be 0 (greedy) or at least 0.0001, found {sampling.temperature}.")
    if sampling.max_tokens < 1 or sampling.samples < 1:
        raise DataError("max_tokens and samples must be at least 1.")
    if not 0 < sampling.top_p <= 1:
        raise DataError(f"top_p must be above 0 and at most 1, found {sampling.top_p}.")
    if sampling.top_k is not None and sampling.top_k < 0:
        raise DataError(f"top_k must be at least 1, or 0 or None for all tokens; found {sampling.top_k}.")
    if isinstance(sampling.stop, str) or not all(isinstance(text, str) and text for text in sampling.stop):
        raise DataError(f"stop must be a tuple of non-empty strings, found {sampling.stop!r}.")
    if sampling.stop and not decodes:
        raise ModelError("Stop strings need the model's tokenizer, and this model has none.")


def stream_keys(contexts: Iterable[Ints], seed: int) -> list[bytes]:
    """The key of each context's random stream: a hash of the seed, its tokens and the number of its copy."""
    copies: Counter[bytes] = Counter()
    keys = []
    for tokens in contexts:
        content = tokens.tobytes()
        keys.append(hashlib.sha256(b"%d|%d|" % (seed, copies[content]) + content).digest())
        copies[content] += 1
    return keys


def uniform(key: bytes, sample: int, position: int) -> float:
    """A pseudo-random number in [0, 1), a function of its arguments."""
    digest = hashlib.sha256(key + b"%d|%d" % (sample, position)).digest()
    return (int.from_bytes(digest[:7], "big") >> 3) / (1 << 53)


def sample_tokens(
    logits_KV: Tensor, drawn: Sequence[float], sampling: Sampling
) -> tuple[list[int], list[float]]:
    """The next token of each completion and its log-probability at the temperature (1 for greedy decoding).

    drawn: a uniform random number for each completion; not used for greedy decoding.
    """
    logp_KV = torch.log_softmax(logits_KV / sampling.temperature if sampling.temperature else logits_KV, -1)
    if sampling.temperature == 0:
        token_K1 = _argmax(logits_KV)
    else:
        drawn_K1 = torch.tensor(drawn, dtype=torch.float64, device=logp_KV.device)[:, None]
        token_K1 = _draw(logp_KV, drawn_K1, sampling)
    logp_K = logp_KV.gather(-1, token_K1)[:, 0].tolist()
    if any(math.isnan(logp) for logp in logp_K):
        raise ModelError("The model's log-probabilities are not numbers (NaN); its weights are damaged.")
    return token_K1[:, 0].tolist(), logp_K


def _argmax(logits_KV: Tensor) -> Tensor:
    """[K, 1]: the first largest. On the CPU in two steps, because torch's argmax over a long axis is slow."""
    size, block = logits_KV.shape[-1], 128
    if logits_KV.device.type != "cpu" or size % block:
        return logits_KV.argmax(-1, keepdim=True)
    start_K1 = logits_KV.unflatten(-1, (-1, block)).amax(-1).argmax(-1, keepdim=True) * block
    block_KB = start_K1 + torch.arange(block)
    best_K1: Tensor = block_KB.gather(-1, logits_KV.gather(-1, block_KB).argmax(-1, keepdim=True))
    return best_K1


def _draw(logp_KV: Tensor, drawn_K1: Tensor, sampling: Sampling) -> Tensor:
    """[K, 1]: a token by inverse transform sampling from the distribution after top-k and top-p."""
    size, top_k = logp_KV.shape[-1], sampling.top_k or 0
    if sampling.top_p == 1 and not top_k:
        probability_KV = logp_KV.double().exp()
        return _invert(probability_KV, drawn_K1).clamp_(max=size - 1)
    few = min(top_k + 1 if top_k else LIKELY, size)
    logp_KP, token_KP = logp_KV.topk(few, -1)
    token_KP, order_KP = token_KP.sort(-1)  # topk leaves equal values in any order: sort them by token id
    logp_KP, order_KP = logp_KP.gather(-1, order_KP).sort(dim=-1, descending=True, stable=True)
    token_KP = token_KP.gather(-1, order_KP)
    token_K1 = _draw_sorted(logp_KP, token_KP, drawn_K1, sampling)
    # Where tokens tie at the cut, or those above it hold too little, sort all: for that completion alone, so
    # that the result does not depend on others in the call.
    above_KP = logp_KP > logp_KP[:, -1:]
    held_K = (logp_KP.double().exp() * above_KP).sum(-1)
    enough_K = above_KP.sum(-1) >= top_k if top_k else held_K >= sampling.top_p
    for row in (~enough_K).nonzero()[:, 0].tolist() if few < size else ():
        every = logp_KV[row : row + 1].sort(dim=-1, descending=True, stable=True)
        token_K1[row] = _draw_sorted(*every, drawn_K1[row : row + 1], sampling)[0]
    return token_K1


def _draw_sorted(logp_KP: Tensor, token_KP: Tensor, drawn_K1: Tensor, sampling: Sampling) -> Tensor:
    """[K, 1]: a token after top-k and top-p; logp_KP: in descending order."""
    probability_KP = logp_KP.double().exp()
    if sampling.top_k:
        probability_KP[:, sampling.top_k :] = 0
        probability_KP = probability_KP / probability_KP.sum(-1, keepdim=True)
    # The fewest tokens that hold top_p: those before which the sum is less.
    kept_KP = probability_KP.cumsum(-1) - probability_KP < sampling.top_p
    last_K1 = kept_KP.sum(-1, keepdim=True) - 1
    return token_KP.gather(-1, torch.minimum(_invert(probability_KP * kept_KP, drawn_K1), last_K1))


def _invert(probability_KP: Tensor, drawn_K1: Tensor) -> Tensor:
    """[K, 1]: the first index at which the cumulative sum exceeds the share `drawn` of the total."""
    cumulative_KP = probability_KP.cumsum(-1)
    return torch.searchsorted(cumulative_KP, drawn_K1 * cumulative_KP[:, -1:], right=True)


class StopStrings:
    """Finds the first stop string in a growing completion, wherever token boundaries are."""

    def __init__(self, strings: Sequence[str], decode: Callable[[Sequence[int]], str]):
        self._strings, self._decode = strings, decode
        self._window = 2 * max((len(text.encode()) for text in strings), default=0) + 8

    def cut(self, tokens: Sequence[int]) -> str | None:
        """The text before the first stop string, or None while there is none. Call it after every token.

        Unless one is found, only the end of the text is decoded: as much as a stop string can span that the
        last token completed.
        """
        if not self._strings:
            return None
        count = self._window
        while len(end := self._decode(tokens[-count:])) < self._window and count < len(tokens):
            count *= 2
        if not any(string in end for string in self._strings):
            return None
        text = self._decode(tokens)
        found = [index for string in self._strings if (index := text.find(string)) >= 0]
        return text[: min(found)] if found else None
