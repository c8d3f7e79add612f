"""The best of given options behind each context: exact best-first search over the options' trie.

Axes: K partial options that are gone on from in one call, M tokens that may follow them.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from finetooth.errors import DataError, ModelError
from finetooth.model.generation.decode import Decoder

WIDEST = 64  # partial options of one context that are expanded in one round, at most
EXPANDED = 1024  # tokens of one such call: bounds the memory of what it computes


class Choice(NamedTuple):
    """The best option for one context: indices in the caller's order and the sum of its log-probs, nats."""

    row: int
    option: int
    logprob: float


@dataclass(slots=True)
class Node:
    """A node of the options' trie: what may follow, and which option ends here."""

    order: int
    children: dict[int, Node] = field(default_factory=dict)
    option: int | None = None


class _Entry(NamedTuple):
    """A trie node on a row's heap: complete options (partial 0) before partial ones of the same cost.

    order: the option's index, or the node's number. after: what the decoder calls the node's parent. token:
    leads to the node.
    """

    cost: float
    partial: int
    order: int
    node: Node
    after: int
    token: int


def build_trie(options: Sequence[Sequence[int]]) -> Node:
    """The options as a trie. DataError for no option, an empty option or one given twice."""
    root, count = Node(0), 1
    for index, tokens in enumerate(options):
        node = root
        for token in tokens:
            if int(token) not in node.children:
                node.children[int(token)] = Node(count)
                count += 1
            node = node.children[int(token)]
        if node is root or node.option is not None:
            raise DataError(f"Option {index} is empty or the same as option {node.option}.")
        node.option = index
    if not options:
        raise DataError("There are no options to choose from.")
    return root


def inner_nodes(root: Node) -> int:
    """How many nodes something follows, the root left out: the tokens that a search may have to append."""
    return sum(1 + inner_nodes(node) for node in root.children.values() if node.children)


def choose(decoder: Decoder, trie: Node) -> Iterator[Choice]:
    """The most likely option of each of the decoder's rows, by the sum of its tokens' log-probs.

    A partial option's sum is an upper bound of every completion of it, so the first complete option that
    comes off the heap cannot be beaten. Ties go to the option that was given first, but an option with which
    another begins goes before that. Each round of a row expands twice as many partial options as the one
    before: a model that is sure needs one or two, and one that knows nothing still needs few rounds.
    """
    heaps: dict[int, list[_Entry]] = {}
    width: dict[int, int] = {}
    while True:
        entered, reads = decoder.admit()
        if reads is not None:
            heaps |= {row: [] for row in entered}
            width |= dict.fromkeys(entered, 1)
            root = _Entry(0.0, 1, 0, trie, -1, -1)
            _push(decoder, heaps, [(row, root) for row in entered], [-1] * len(entered), reads)
        if not heaps:
            return
        todo: list[tuple[int, _Entry]] = []
        for row, heap in list(heaps.items()):
            taken = _best_partial(heap, width[row])
            width[row] = min(2 * width[row], WIDEST)
            todo.extend((row, entry) for entry in taken)
            if not taken:
                best = heap[0]
                del heaps[row], width[row]
                decoder.release(row)
                yield Choice(row, best.order, -best.cost)
        for start in range(0, len(todo), EXPANDED):
            part = todo[start : start + EXPANDED]
            rows, entries = zip(*part, strict=True)
            reads, numbers = decoder.extend(rows, [e.after for e in entries], [e.token for e in entries])
            _push(decoder, heaps, part, numbers, reads)


def _best_partial(heap: list[_Entry], width: int) -> list[_Entry]:
    """Take up to `width` partial options off the heap, none that a complete option already beats."""
    taken: list[_Entry] = []
    while heap and heap[0].partial and len(taken) < width:
        taken.append(heapq.heappop(heap))
    return taken


@torch.inference_mode()
def _push(
    decoder: Decoder,
    heaps: dict[int, list[_Entry]],
    expanded: Sequence[tuple[int, _Entry]],
    numbers: Sequence[int],
    reads: Tensor,
) -> None:
    """Put the children of expanded nodes on their rows' heaps."""
    children = [(k, token) for k, (_, entry) in enumerate(expanded) for token in entry.node.children]
    read_M, token_M = np.array(children).T
    logp_M = decoder.logprobs(reads, read_M, token_M)
    if bool(logp_M.isnan().any()):
        raise ModelError("The model's log-probabilities are not numbers (NaN); its weights are damaged.")
    for (k, token), logp in zip(children, logp_M.double().tolist(), strict=True):
        row, parent = expanded[k]
        node, cost = parent.node.children[token], parent.cost - logp
        if node.option is not None:
            heapq.heappush(heaps[row], _Entry(cost, 0, node.option, node, numbers[k], token))
        if node.children:
            heapq.heappush(heaps[row], _Entry(cost, 1, node.order, node, numbers[k], token))
