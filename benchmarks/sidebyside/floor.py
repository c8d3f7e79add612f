"""The fewest operations that an exact training step can take, and what the machine needs for them.

Counted is what no arrangement of the work can leave out: every *distinct* token once, the output head only
where a token is scored, attention only to what a token sees. Norms, activations, softmax, gathers and the
optimizer are not counted, though they take time: 100% cannot be reached.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from finetooth.tree import PrefixTree, Row
from sidebyside.rows import Tokens


@dataclass(frozen=True, slots=True)
class Work:
    """What a step's rows hold.

    row_tokens: in all rows. scored: scored tokens of them. distinct: nodes of their tree. read: distinct
    nodes at which a scored token's probability is read. pairs, read_pairs: (query, key) pairs of the tree,
    of all nodes and of the read ones.
    """

    row_tokens: int
    scored: int
    distinct: int
    read: int
    pairs: int
    read_pairs: int

    @classmethod
    def of(cls, rows: Sequence[Tokens]) -> Work:
        """The work of these rows in one tree."""
        tree = PrefixTree.build([Row(row.tokens, row.scored) for row in rows])
        read = np.unique(tree.parent_N[tree.node_M])
        return cls(
            row_tokens=sum(len(row.tokens) for row in rows),
            scored=sum(sum(row.scored) for row in rows),
            distinct=len(tree),
            read=read.size,
            pairs=int((tree.depth_N + 1).sum()),
            read_pairs=int((tree.depth_N[read] + 1).sum()),
        )


def step_gflop(work: Work, shape: Mapping[str, int], adapter: str, rank: int = 16) -> float:
    """10^9 floating-point operations of one training step, two for each multiply-add.

    forward F = (L-1) N (q+k+v+o+mlp) + N (k+v) + K (q+o+mlp) + K head, for N distinct and K read nodes: the
    last layer's queries and MLP matter only where something is read. Input gradients cost F again, less what
    flows below the first layer when nothing is trained there (LoRA); weight gradients F again (full only);
    LoRA's thin products twice r (in+out) a token, since its forward can be merged into the weights.
    Attention: two products of `width` a pair forward, four backward.
    """
    width, layers = shape["hidden_size"], shape["num_hidden_layers"]
    keys = width * shape["num_key_value_heads"] // shape["num_attention_heads"]
    narrow = [(width, keys), (width, keys)]
    wide = [(width, width), (width, width), *[(width, shape["intermediate_size"])] * 3]
    cost_narrow, cost_wide = (sum(a * b for a, b in part) for part in (narrow, wide))
    nodes_narrow, nodes_wide = layers * work.distinct, (layers - 1) * work.distinct + work.read
    forward = nodes_narrow * cost_narrow + nodes_wide * cost_wide
    forward += work.read * width * shape["vocab_size"]
    pairs = (layers - 1) * work.pairs + work.read_pairs
    total = 2 * forward + 6 * pairs * width
    if adapter == "lora":
        thin_narrow, thin_wide = (sum(rank * (a + b) for a, b in part) for part in (narrow, wide))
        total += 2 * (nodes_narrow * thin_narrow + nodes_wide * thin_wide)
        total -= work.distinct * (cost_narrow + width * width)
    else:
        total += forward
    return 2 * total / 1e9
