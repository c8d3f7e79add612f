"""Label search: the most likely option after each context, exactly, by best-first search over their trie.

A partial option is at least as likely as all of its continuations together, so what is not expanded yet also
bounds the probability that the other options can still have.

Axes: K partial options that are expanded in one call, D hidden size, M tokens that may follow them.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from finetooth.errors import DataError, ModelError
from finetooth.model.generation.decode import Decoder

WIDEST = 64  # partial options of one context that are expanded in one round, at most
EXPANDED = 1024  # tokens of one such call; bounds its memory
OPEN = 1e-4  # share of the options' probability that may be left unexpanded when `share` is computed
Wanted = Literal["best", "share", "all"]  # the best option; and its share; and every option's log-probability


class Choice(NamedTuple):
    """The best option after one context: the indices of both, and its log-probability in nats.

    share: its probability among the options alone, at most OPEN too low; None unless it was asked for.
    logprobs: that of every option, in their order, exactly; None unless they were asked for.
    """

    row: int
    option: int
    logprob: float
    share: float | None = None
    logprobs: tuple[float, ...] | None = None


@dataclass(slots=True)
class Node:
    """A node of the options' trie. order: its number. children: by token. option: the one that ends here.

    options: how many pass through it.
    """

    order: int
    children: dict[int, Node] = field(default_factory=dict)
    option: int | None = None
    options: int = 0


class _Entry(NamedTuple):
    """A trie node on a row's heap. Of equal cost, complete options (partial 0) come before partial ones.

    cost: negative log-probability. order: the option's index, or the node's number. token: leads to the node.
    parent: the decoder's number of the token before.
    """

    cost: float
    partial: int
    order: int
    node: Node
    parent: int
    token: int


def build_trie(options: Sequence[Sequence[int]]) -> Node:
    """The options as a trie. Raises DataError for no options, an empty option or a duplicate."""
    root, count = Node(0), 1
    for index, tokens in enumerate(options):
        node = root
        for token in tokens:
            if int(token) not in node.children:
                node.children[int(token)] = Node(count)
                count += 1
            node = node.children[int(token)]
            node.options += 1
        if node is root or node.option is not None:
            raise DataError(f"Option {index} is empty or the same as option {node.option}.")
        node.option = index
    if not options:
        raise DataError("There are no options to choose from.")
    return root


def inner_nodes(root: Node) -> int:
    """The number of nodes with children, without the root: the most tokens that a search has to append."""
    return sum(1 + inner_nodes(node) for node in root.children.values() if node.children)


@dataclass(slots=True)
class _Search:
    """The search of one row. complete: options that were popped off the heap, the best one first.

    wanted: what is searched for. temperature: of the share. width: partial options that are expanded in the
    next round.
    """

    wanted: Wanted
    temperature: float
    heap: list[_Entry] = field(default_factory=list)
    complete: list[_Entry] = field(default_factory=list)
    width: int = 1

    def next_round(self) -> list[_Entry]:
        """The partial options to expand now; none once what is wanted is known.

        Each round expands twice as many as the last: a confident model needs one or two, and one that knows
        nothing still needs few rounds.
        """
        chosen: list[_Entry] = []
        if self.complete and self.wanted == "share" and self._open() <= OPEN:
            return chosen
        while self.heap and len(chosen) < self.width:
            if self.heap[0].partial:
                chosen.append(heapq.heappop(self.heap))
            elif chosen and not self.complete:
                break  # what is expanded now may still beat it
            else:
                self.complete.append(heapq.heappop(self.heap))
                if not chosen and self.wanted == "best":
                    return chosen
        self.width = min(2 * self.width, WIDEST)
        return chosen

    def _open(self) -> float:
        """The share of the options' probability that partial options still hold, at most."""
        total = self._sum(self.heap) + self._sum(self.complete)
        return self._sum([entry for entry in self.heap if entry.partial]) / total

    def _sum(self, entries: Sequence[_Entry]) -> float:
        """The probability of these entries together at the temperature, relative to the best option's.

        Of a partial option the most that it can be: above a temperature of 1 that is when its probability is
        spread evenly over the options behind it, below when one of them has it all.
        """
        best, inverse = self.complete[0].cost, 1 / self.temperature
        weights = []
        for entry in entries:
            spread = math.log(entry.node.options) if entry.partial and inverse < 1 else 0.0
            weights.append(math.exp(min((best - entry.cost) * inverse + spread * (1 - inverse), 700)))
        return math.fsum(weights)

    def choice(self, row: int) -> Choice:
        """The best option, with what else is wanted."""
        best = self.complete[0]
        if self.wanted == "best":
            return Choice(row, best.order, -best.cost)
        share = 1 / (self._sum(self.heap) + self._sum(self.complete))
        if self.wanted == "share":
            return Choice(row, best.order, -best.cost, share)
        logp = {entry.order: -entry.cost for entry in self.complete}
        return Choice(row, best.order, -best.cost, share, tuple(logp[option] for option in sorted(logp)))


def choose(
    decoder: Decoder, trie: Node, wanted: Wanted = "best", temperature: float = 1.0
) -> Iterator[Choice]:
    """The most likely option of each of the decoder's rows, by the sum of its tokens' log-probs.

    A partial option's sum is an upper bound of all its continuations, so the first complete option that is
    popped off the heap is the best. Ties go to the option that was given first, except that a prefix of
    another option precedes it. wanted: `share` also computes the probability of the best one among the
    options at the temperature, which goes on until all others are known or hardly likely; `all` goes on until
    all are known.
    """
    searches: dict[int, _Search] = {}
    while True:
        admitted, hidden_KD = decoder.admit()
        if hidden_KD is not None:
            searches |= {row: _Search(wanted, temperature) for row in admitted}
            root = _Entry(0.0, 1, 0, trie, -1, -1)
            _push(decoder, searches, [(row, root) for row in admitted], [-1] * len(admitted), hidden_KD)
        if not searches:
            return
        todo: list[tuple[int, _Entry]] = []
        for row, search in list(searches.items()):
            expanded = search.next_round()
            todo += [(row, entry) for entry in expanded]
            if not expanded:
                del searches[row]
                decoder.release(row)
                yield search.choice(row)
        for start in range(0, len(todo), EXPANDED):
            part = todo[start : start + EXPANDED]
            rows, entries = zip(*part, strict=True)
            parents, tokens = [entry.parent for entry in entries], [entry.token for entry in entries]
            hidden_KD, numbers = decoder.extend(rows, parents, tokens)
            _push(decoder, searches, part, numbers, hidden_KD)


@torch.inference_mode()
def _push(
    decoder: Decoder,
    searches: dict[int, _Search],
    expanded: Sequence[tuple[int, _Entry]],
    numbers: Sequence[int],
    hidden_KD: Tensor,
) -> None:
    """Push the children of expanded nodes, whose decoder numbers these are, on their rows' heaps."""
    children = [(k, token) for k, (_, entry) in enumerate(expanded) for token in entry.node.children]
    read_M, token_M = np.array(children).T
    logp_M = decoder.logprobs(hidden_KD, read_M, token_M)
    if bool(logp_M.isnan().any()):
        raise ModelError("The model's log-probabilities are not numbers (NaN); its weights are damaged.")
    for (k, token), logp in zip(children, logp_M.double().tolist(), strict=True):
        row, parent = expanded[k]
        node, cost = parent.node.children[token], parent.cost - logp
        if node.option is not None:
            heapq.heappush(searches[row].heap, _Entry(cost, 0, node.option, node, numbers[k], token))
        if node.children:
            heapq.heappush(searches[row].heap, _Entry(cost, 1, node.order, node, numbers[k], token))
