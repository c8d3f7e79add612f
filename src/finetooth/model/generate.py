"""Answers from next-token logits: greedy, sampled, or the best of given options.

Every random number is keyed by (seed, context, sample, position), so what else is generated in the same call
changes no sample. A completion carries the log-probabilities of its tokens at the sampling temperature.

Axes: B contexts, K contexts still going, V vocabulary.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from finetooth.errors import DataError
from finetooth.model.decode import Decoder, Path
from finetooth.model.head import at_least_float32
from finetooth.tree import Row
from finetooth.types import Completion, Sampling

WIDEST = 64  # partial options of one context that are expanded in one round, at most
LOGIT_ROWS = 1024  # tokens of one such call: bounds the memory of their logits


class Choice(NamedTuple):
    """The best option for one context: indices in the caller's order and the sum of its log-probs, nats."""

    row: int
    option: int
    logprob: float


@dataclass(slots=True)
class Answering:
    """One answer being written: which of the decoder's contexts, whose row and sample, its random stream.

    room: how many tokens it may have.
    """

    context: int
    row: int
    sample: int
    key: bytes
    room: int
    path: Path = field(default_factory=Path)
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


def stream_keys(contexts: Sequence[Row], sampling: Sampling) -> list[bytes]:
    """The random stream of each context: of its tokens, and for the k-th copy of a context of k too."""
    copies: Counter[bytes] = Counter()
    keys = []
    for row in contexts:
        content = row.tokens.tobytes()
        keys.append(hashlib.sha256(b"%d|%d|" % (sampling.seed, copies[content]) + content).digest())
        copies[content] += 1
    return keys


def uniform(key: bytes, sample: int, position: int) -> float:
    """A number in [0, 1) that depends on nothing but its arguments."""
    digest = hashlib.sha256(key + b"%d|%d" % (sample, position)).digest()
    return int.from_bytes(digest[:7], "big") / (1 << 56)


def pick(
    logits_KV: Tensor, answers: Sequence[Answering], temperature: float
) -> tuple[list[int], list[float]]:
    """The next token of each answer and its log-probability at the temperature (at 1 when greedy)."""
    logp_KV = torch.log_softmax(at_least_float32(logits_KV) / (temperature or 1.0), -1)
    if temperature == 0:
        token_K = logp_KV.argmax(-1)
    else:
        drawn = [uniform(answer.key, answer.sample, len(answer.tokens)) for answer in answers]
        cumulative_KV = logp_KV.double().exp().cumsum(-1)
        target_K1 = (
            torch.tensor(drawn, dtype=torch.float64, device=logp_KV.device)[:, None] * cumulative_KV[:, -1:]
        )
        token_K = torch.searchsorted(cumulative_KV, target_K1, right=True)[:, 0].clamp_(
            max=logp_KV.shape[-1] - 1
        )
    return token_K.tolist(), logp_KV.gather(-1, token_K[:, None])[:, 0].tolist()


def generate(
    decoder: Decoder,
    going: list[Answering],
    sampling: Sampling,
    stops: frozenset[int],
    decode: Callable[[Sequence[int]], str],
) -> Iterator[Completion]:
    """One answer to each of the decoder's contexts, as they end. decode turns tokens into text."""
    logits = decoder.first()
    while going:
        tokens, logprobs = pick(logits, going, sampling.temperature)
        longer: list[Answering] = []
        for answer, token, logprob in zip(going, tokens, logprobs, strict=True):
            answer.tokens.append(token)
            answer.logprobs.append(logprob)
            if token not in stops and len(answer.tokens) < answer.room:
                longer.append(answer)
                continue
            stopped = token in stops
            text = decode(answer.tokens[:-1] if stopped else answer.tokens)
            yield Completion(
                row=answer.row,
                tokens=tuple(answer.tokens),
                logprobs=tuple(answer.logprobs),
                text=text,
                stop="stop" if stopped else "length",
                sample=answer.sample,
            )
        going = longer
        if going:
            last = [answer.tokens[-1] for answer in going]
            logits, paths = decoder.extend([a.context for a in going], [a.path for a in going], last)
            for answer, path in zip(going, paths, strict=True):
                answer.path = path


@dataclass(slots=True)
class _Node:
    """A node of the options' trie: what may follow, and which option ends here."""

    order: int
    children: dict[int, _Node] = field(default_factory=dict)
    option: int | None = None


class _Entry(NamedTuple):
    """A trie node on a row's heap: complete options (partial 0) before partial ones of the same cost.

    order: the option's index, or the node's number. path: of the node's parent. token: leads to the node.
    """

    cost: float
    partial: int
    order: int
    node: _Node
    path: Path
    token: int


def build_trie(options: Sequence[Sequence[int]]) -> _Node:
    """The options as a trie. DataError for an empty option or one given twice."""
    root, count = _Node(0), 1
    for index, tokens in enumerate(options):
        node = root
        for token in tokens:
            if int(token) not in node.children:
                node.children[int(token)] = _Node(count)
                count += 1
            node = node.children[int(token)]
        if node is root or node.option is not None:
            raise DataError(f"Option {index} is empty or the same as option {node.option}.")
        node.option = index
    return root


def choose(decoder: Decoder, contexts: Sequence[int], options: Sequence[Sequence[int]]) -> Iterator[Choice]:
    """The most likely option of each context, by the sum of its tokens' log-probs: exact best-first search.

    A partial option's sum is an upper bound of every completion of it, so the first complete option that
    comes off the heap cannot be beaten. Ties go to the option that was given first. Each round expands twice
    as many partial options as the one before: a model that is sure needs one or two, and one that knows
    nothing still needs few rounds.
    """
    trie = build_trie(options)
    heaps: list[list[_Entry]] = [[] for _ in contexts]
    first = [_Entry(0.0, 1, 0, trie, Path(), -1) for _ in contexts]
    _push(heaps, list(enumerate(first)), [Path()] * len(contexts), decoder.first())
    going, width = list(range(len(contexts))), 1
    while going:
        todo: list[tuple[int, _Entry]] = []
        for row in going:
            taken = _best_partial(heaps[row], width)
            todo.extend((row, entry) for entry in taken)
            if not taken:
                best = heapq.heappop(heaps[row])
                yield Choice(contexts[row], best.order, -best.cost)
        going = sorted({row for row, _ in todo})
        width = min(2 * width, WIDEST)
        for start in range(0, len(todo), LOGIT_ROWS):
            part = todo[start : start + LOGIT_ROWS]
            logits_KV, paths = decoder.extend(
                [row for row, _ in part],
                [entry.path for _, entry in part],
                [entry.token for _, entry in part],
            )
            _push(heaps, part, paths, logits_KV)


def _best_partial(heap: list[_Entry], width: int) -> list[_Entry]:
    """Take up to `width` partial options off the heap, none that a complete option already beats."""
    taken: list[_Entry] = []
    while heap and heap[0].partial and len(taken) < width:
        taken.append(heapq.heappop(heap))
    return taken


def _push(
    heaps: list[list[_Entry]], expanded: list[tuple[int, _Entry]], paths: list[Path], logits_KV: Tensor
) -> None:
    """Put the children of expanded nodes on their rows' heaps."""
    children = [(k, token) for k, (_, entry) in enumerate(expanded) for token in entry.node.children]
    at = torch.tensor(children, device=logits_KV.device).T
    logp = torch.log_softmax(at_least_float32(logits_KV), -1)[at[0], at[1]].double().tolist()
    for (k, token), value in zip(children, logp, strict=True):
        row, parent = expanded[k]
        node, cost = parent.node.children[token], parent.cost - value
        if node.option is not None:
            heapq.heappush(heaps[row], _Entry(cost, 0, node.option, node, paths[k], token))
        if node.children:
            heapq.heappush(heaps[row], _Entry(cost, 1, node.order, node, paths[k], token))


def check_sampling(sampling: Sampling) -> None:
    """DataError when the numbers cannot be."""
    if not (np.isfinite(sampling.temperature) and sampling.temperature >= 0):
        raise DataError(f"temperature must be a number >= 0, found {sampling.temperature}.")
    if sampling.max_tokens < 1 or sampling.samples < 1:
        raise DataError("max_tokens and samples must be at least 1.")
