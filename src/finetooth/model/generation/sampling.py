"""How the next token is chosen, and what a text is cut at.

Every random number is keyed by (seed, content of the context, sample, position), so what else is generated in
the same call changes no sample. Log-probabilities are those at the sampling temperature, before top-k and
top-p.

Axes: K answers still going, V vocabulary, P tokens of it in descending order of probability.
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

# Tokens sorted for top-p at first. Where they hold less than top_p of the probability, all are sorted.
LIKELY = 512


def check_sampling(sampling: Sampling, decodes: bool = True) -> None:
    """DataError when the numbers cannot be; ModelError for stop strings where nothing decodes tokens."""
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
    """The random stream of each context: of its tokens, and for the k-th copy of a context of k too."""
    copies: Counter[bytes] = Counter()
    keys = []
    for tokens in contexts:
        content = tokens.tobytes()
        keys.append(hashlib.sha256(b"%d|%d|" % (seed, copies[content]) + content).digest())
        copies[content] += 1
    return keys


def uniform(key: bytes, sample: int, position: int) -> float:
    """A number in [0, 1) that depends on nothing but its arguments."""
    digest = hashlib.sha256(key + b"%d|%d" % (sample, position)).digest()
    return (int.from_bytes(digest[:7], "big") >> 3) / (1 << 53)


def sample_tokens(
    logits_KV: Tensor, drawn: Sequence[float], sampling: Sampling
) -> tuple[list[int], list[float]]:
    """The next token of each answer and its log-probability at the temperature (at 1 when greedy).

    drawn: a number in [0, 1) for each answer; not used when greedy.
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
    """[K, 1]: the first of the largest. In two levels: torch's argmax over a long axis is slow."""
    size, block = logits_KV.shape[-1], 128
    if logits_KV.device.type != "cpu" or size % block:
        return logits_KV.argmax(-1, keepdim=True)
    start_K1 = logits_KV.unflatten(-1, (-1, block)).amax(-1).argmax(-1, keepdim=True) * block
    near_KB = start_K1 + torch.arange(block)
    best_K1: Tensor = near_KB.gather(-1, logits_KV.gather(-1, near_KB).argmax(-1, keepdim=True))
    return best_K1


def _draw(logp_KV: Tensor, drawn_K1: Tensor, sampling: Sampling) -> Tensor:
    """[K, 1]: the token at which the cumulative probability of what may be sampled passes that share."""
    size, top_k = logp_KV.shape[-1], sampling.top_k or 0
    if sampling.top_p == 1 and not top_k:
        chance_KV = logp_KV.double().exp()
        return _invert(chance_KV, drawn_K1).clamp_(max=size - 1)
    few = min(top_k + 1 if top_k else LIKELY, size)
    value_KP, token_KP = _ranked(*logp_KV.topk(few, -1))
    token_K1 = _restricted(value_KP, token_KP, drawn_K1, sampling)
    # Where equal tokens stand at the cut, or too little above it, all are sorted: for that answer alone, so
    # that no other one in the call decides about it.
    above_KP = value_KP > value_KP[:, -1:]
    held_K = (value_KP.double().exp() * above_KP).sum(-1)
    settled_K = above_KP.sum(-1) >= top_k if top_k else held_K >= sampling.top_p
    for row in (~settled_K).nonzero()[:, 0].tolist() if few < size else ():
        every = logp_KV[row : row + 1].sort(dim=-1, descending=True, stable=True)
        token_K1[row] = _restricted(*every, drawn_K1[row : row + 1], sampling)[0]
    return token_K1


def _ranked(value_KP: Tensor, token_KP: Tensor) -> tuple[Tensor, Tensor]:
    """In descending order, equal ones by their ids: topk leaves those in any order."""
    token_KP, order_KP = token_KP.sort(-1)
    value_KP, again_KP = value_KP.gather(-1, order_KP).sort(dim=-1, descending=True, stable=True)
    return value_KP, token_KP.gather(-1, again_KP)


def _restricted(value_KP: Tensor, token_KP: Tensor, drawn_K1: Tensor, sampling: Sampling) -> Tensor:
    """[K, 1]: one of the first top_k that together hold top_p; value_KP: log-probs in descending order."""
    chance_KP = value_KP.double().exp()
    if sampling.top_k:
        chance_KP[:, sampling.top_k :] = 0
        chance_KP = chance_KP / chance_KP.sum(-1, keepdim=True)
    # The fewest of the likeliest that hold top_p are those before which there is less than that.
    kept_KP = chance_KP.cumsum(-1) - chance_KP < sampling.top_p
    last_K1 = kept_KP.sum(-1, keepdim=True) - 1
    return token_KP.gather(-1, torch.minimum(_invert(chance_KP * kept_KP, drawn_K1), last_K1))


def _invert(chance_KP: Tensor, drawn_K1: Tensor) -> Tensor:
    """[K, 1]: the first place up to which there is more than the share `drawn` of the sum."""
    cumulative_KP = chance_KP.cumsum(-1)
    return torch.searchsorted(cumulative_KP, drawn_K1 * cumulative_KP[:, -1:], right=True)


class StopStrings:
    """Finds the first of some strings in an answer while it is being written, however tokens cut them."""

    def __init__(self, strings: Sequence[str], decode: Callable[[Sequence[int]], str]):
        self._strings, self._decode = strings, decode
        self._window = 2 * max((len(text.encode()) for text in strings), default=0) + 8

    def cut(self, tokens: Sequence[int]) -> str | None:
        """The text before the first stop string, or None while there is none.

        To be asked after every token: only the text's end is decoded, unless a stop string stands there.
        """
        if not self._strings or not self._stands_in(self._end(tokens)):
            return None
        text = self._decode(tokens)
        found = [at for string in self._strings if (at := text.find(string)) >= 0]
        return text[: min(found)] if found else None

    def _end(self, tokens: Sequence[int]) -> str:
        """The end of the text, long enough for a stop string that the last token completed."""
        count = self._window
        while len(text := self._decode(tokens[-count:])) < self._window and count < len(tokens):
            count *= 2
        return text

    def _stands_in(self, text: str) -> bool:
        return any(string in text for string in self._strings)
