"""Attention over a tree, behind one function that transformers' AttentionInterface calls in every layer.

The tree alone decides what is visible: node j is visible to node i if j <= i < end_N[j], and in a windowed
layer if also depth_N[i] - depth_N[j] < window. The back-ends are interchangeable:

* dense: one boolean mask. The reference, and the back-end of devices without a better one.
* segment (CPU): runs of nodes without a branch, one kernel call each (segments.py).
* flex (CUDA): one fused kernel with a block mask (flex.py).

Layers with soft-capping or attention sinks compute all scores under the mask of dense (softmax.py); flex caps
scores in its kernel.

Axes: N nodes, H query heads, G key/value heads, D head dimension.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from finetooth.errors import ModelError
from finetooth.model.attention import flex, segments
from finetooth.model.attention.segments import visible
from finetooth.model.attention.softmax import AttentionParams, softmax_attention
from finetooth.model.device import on_device
from finetooth.tree import PrefixTree

NAME = "finetooth"
# Arguments of some models that change nothing here. Any other that is not None is refused.
HARMLESS = frozenset({"position_ids", "use_cache", "cache_position", "output_attentions", "is_causal"})


class AttentionPlan(Protocol):
    """Computes the attention of each layer in one forward pass, which passes it on as the argument `tree`.

    read_K: the tokens whose last hidden states are read, if the last layer may skip the others; else None.
    """

    read_K: Tensor | None

    def attend(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, params: AttentionParams
    ) -> Tensor:
        """query [1, H, Q, D], key and value [1, G, Q, D] of the Q tokens of this call -> [1, H, Q, D]."""


def attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    tree: AttentionPlan | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The function registered with transformers. Raises ModelError for arguments it does not implement."""
    unknown = [name for name, value in kwargs.items() if value is not None and name not in HARMLESS]
    if unknown or attention_mask is not None or dropout:
        names = unknown or (["attention_mask"] if attention_mask is not None else ["dropout"])
        raise ModelError(f"The tree back-end does not implement {', '.join(names)}.")
    if tree is None:
        raise ModelError("This model computes over trees: call it through finetooth.Model.")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    # Under autocast, float32 rotary tables or norms make queries and keys wider than values.
    query, key = query.to(value.dtype), key.to(value.dtype)
    params = AttentionParams(scale, softcap, sliding_window, s_aux)
    return tree.attend(module, query, key, value, params).transpose(1, 2), None


class TreeAttention:
    """The attention of one forward pass over a tree, by one of the back-ends dense, segment and flex."""

    def __init__(self, tree: PrefixTree, kind: str, device: torch.device, dtype: torch.dtype):
        self.tree, self.kind, self.device, self.dtype = tree, kind, device, dtype
        self.read_K: Tensor | None = None
        self._masks: dict[int | None, Tensor] = {}
        self._blocks: list[segments.Block] | None = None
        self._block_masks: flex.TreeBlockMasks | None = None
        self._longest = int(tree.depth_N.max()) + 1
        # On CUDA only the bfloat16 kernel has grouped keys; another one would keep all scores.
        batched = (kind != "flex" or dtype == torch.bfloat16) and UnsharedRows.fit(tree, kind)
        self._unshared = UnsharedRows(tree, device) if batched else None

    def attend(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, params: AttentionParams
    ) -> Tensor:
        """See AttentionPlan."""
        window = None if params.window is None or self._longest <= params.window else params.window
        plain = params.softcap is None and params.sink_H is None
        if self._unshared is not None and window is None and plain:
            return self._unshared(query, key, value, params.scale)
        if self.kind == "segment" and window is None and plain:
            if self._blocks is None:
                self._blocks = segments.plan(self.tree, self.dtype)
            return segments.attend(query, key, value, self._blocks, params.scale)
        if self.kind == "flex" and params.sink_H is None:
            self._block_masks = self._block_masks or flex.TreeBlockMasks(self.tree, self.device)
            return flex.attend(query, key, value, self._block_masks, params.scale, window, params.softcap)
        if window not in self._masks:
            self._masks[window] = on_device(visible(self.tree, window), self.device)
        mask = self._masks[window]
        if not plain:
            # Recomputed in the backward pass: otherwise every layer would keep its [H, N, N] scores.
            out: Tensor = checkpoint(
                softmax_attention, query, key, value, params, mask,
                use_reentrant=False, preserve_rng_state=False,
            )  # fmt: skip
            return out
        group = query.shape[1] // key.shape[1]
        if group > 1 and self.device.type == "cuda":  # the masked kernel that keeps no scores has no groups
            key, value, group = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1), 1
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, scale=params.scale, enable_gqa=group > 1
        )


class UnsharedRows:
    """Rows without shared prefixes as a batch that is padded on the right: causal attention needs no mask.

    No token sees the padding behind it, and the results of padding are dropped.
    """

    def __init__(self, tree: PrefixTree, device: torch.device):
        start_R = np.flatnonzero(tree.parent_N < 0)
        size_R = np.diff(start_R, append=len(tree))
        position_T = np.arange(int(size_R.max()))
        inside_RT = position_T < size_R[:, None]
        node_RT = np.where(inside_RT, start_R[:, None] + position_T, start_R[:, None])
        self.shape = node_RT.shape
        self.node = on_device(node_RT.ravel(), device)
        self.inside = on_device(np.flatnonzero(inside_RT), device)

    @staticmethod
    def fit(tree: PrefixTree, kind: str) -> bool:
        """Whether nothing branches and padding costs less than what the back-end would do otherwise.

        segment would make one call for each row, which is worth padding of up to half the tokens; dense would
        compute all pairs of nodes.
        """
        start_R = np.flatnonzero(tree.parent_N < 0)
        if np.count_nonzero(tree.parent_N != np.arange(-1, len(tree) - 1)) != start_R.size - 1:
            return False
        longest = int(np.diff(start_R, append=len(tree)).max())
        padded = longest * start_R.size
        return padded <= 1.5 * len(tree) or (kind == "dense" and padded * longest < len(tree) ** 2)

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """[1, H, N, D] -> [1, H, N, D]."""

        def batch(states: Tensor) -> Tensor:
            padded: Tensor = states[0].index_select(1, self.node).unflatten(1, self.shape)
            return padded.transpose(0, 1)

        out = functional.scaled_dot_product_attention(
            batch(query),
            batch(key),
            batch(value),
            is_causal=True,
            scale=scale,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        return out.transpose(0, 1).flatten(1, 2).index_select(1, self.inside).unsqueeze(0)
