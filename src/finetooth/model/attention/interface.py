"""Attention over a tree, behind one function that transformers' AttentionInterface calls in every layer.

What may be seen is the tree's rule and nothing else: node j is visible to node i when j <= i < end_N[j],
and in a windowed layer when also depth_N[i] - depth_N[j] < window. The back-ends are interchangeable:

* dense: one boolean mask. The reference, and the back-end of devices without a better one.
* segment (CPU): stretches without a branch, one kernel call each (segments.py).
* flex (CUDA): one fused kernel with a block mask (flex.py).

Layers that cap their scores or have sinks are computed score by score under the mask of dense; flex caps
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
from finetooth.model.attention.softmax import AttentionParams
from finetooth.model.device import on_device
from finetooth.tree import PrefixTree

NAME = "finetooth"
# Arguments that models pass along and that change nothing here. Anything else that is not None is refused.
HARMLESS = frozenset({"position_ids", "use_cache", "cache_position", "output_attentions", "is_causal"})


class AttentionPlan(Protocol):
    """Something that computes one layer's attention; travels as the forward's keyword argument `tree`.

    read_K: the tokens whose last hidden states are asked for, when nothing else is to be computed.
    """

    read_K: Tensor | None

    def attend(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, scores: AttentionParams
    ) -> Tensor:
        """query [1, H, Q, D], key and value [1, G, Q, D] of the tokens of this call -> [1, H, Q, D]."""


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
    """The function registered with transformers. Refuses whatever it does not implement (ModelError)."""
    unknown = [name for name, given in kwargs.items() if given is not None and name not in HARMLESS]
    if unknown or attention_mask is not None or dropout:
        named = unknown or (["attention_mask"] if attention_mask is not None else ["dropout"])
        raise ModelError(f"The tree back-end does not implement {', '.join(named)}.")
    if tree is None:
        raise ModelError("This model computes over trees: call it through finetooth.Model.")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    # Under autocast float32 rotary tables or norms leave queries and keys wider than values.
    query, key = query.to(value.dtype), key.to(value.dtype)
    scores = AttentionParams(scale, softcap, sliding_window, s_aux)
    return tree.attend(module, query, key, value, scores).transpose(1, 2), None


def softmax_attention(
    query: Tensor, key: Tensor, value: Tensor, scores: AttentionParams, mask: Tensor
) -> Tensor:
    """Attention with what fused kernels leave out, score by score: query [B, H, Q, D], mask [Q, S] -> the
    same shape.

    Sources: soft-capping, Gemma Team 2024, "Gemma 2", section 2; sinks, Xiao et al. 2023, "Efficient
    Streaming Language Models with Attention Sinks", in gpt-oss's form (one learned score a head).
    """
    grouped = query.unflatten(1, (key.shape[1], -1))
    score = grouped @ key.unsqueeze(2).transpose(-1, -2) * scores.scale  # [B, G, H / G, Q, S]
    if scores.softcap is not None:
        score = scores.softcap * torch.tanh(score / scores.softcap)
    score = score.masked_fill(~mask, float("-inf")).flatten(1, 2)
    if scores.sink_H is not None:
        sink = scores.sink_H.to(score.dtype).view(1, -1, 1, 1).expand(*score.shape[:-1], 1)
        score = torch.cat([score, sink], -1)
    weight = functional.softmax(score, -1, dtype=torch.promote_types(score.dtype, torch.float32))
    weight = weight[..., : key.shape[-2]].to(value.dtype).unflatten(1, (key.shape[1], -1))
    out: Tensor = (weight @ value.unsqueeze(2)).flatten(1, 2)
    return out


class TreeAttention:
    """The attention of one forward pass over a tree."""

    def __init__(self, tree: PrefixTree, kind: str, device: torch.device, dtype: torch.dtype):
        self.tree, self.kind, self.device, self.dtype = tree, kind, device, dtype
        self.read_K: Tensor | None = None  # the nodes whose last hidden states are asked for; None: all
        self._masks: dict[int | None, Tensor] = {}
        self._blocks: list[segments.Block] | None = None
        self._forest: flex.TreeBlockMasks | None = None
        self._longest = int(tree.depth_N.max()) + 1
        # On CUDA only the bfloat16 kernel shares keys between heads; another one would keep all scores.
        batched = (kind != "flex" or dtype == torch.bfloat16) and UnsharedRows.fit(tree, kind)
        self._chains = UnsharedRows(tree, device) if batched else None

    def attend(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, scores: AttentionParams
    ) -> Tensor:
        """See AttentionPlan."""
        window = None if scores.window is None or self._longest <= scores.window else scores.window
        plain = scores.softcap is None and scores.sink_H is None
        if self._chains is not None and window is None and plain:
            return self._chains(query, key, value, scores.scale)
        if self.kind == "segment" and window is None and plain:
            if self._blocks is None:
                self._blocks = segments.plan(self.tree, self.dtype)
            return segments.attend(query, key, value, self._blocks, scores.scale)
        if self.kind == "flex" and scores.sink_H is None:
            self._forest = self._forest or flex.TreeBlockMasks(self.tree, self.device)
            return flex.attend(query, key, value, self._forest, scores.scale, window, scores.softcap)
        if window not in self._masks:
            self._masks[window] = on_device(visible(self.tree, window), self.device)
        mask = self._masks[window]
        if not plain:
            # Its [H, N, N] scores are computed again in the backward pass: they would be kept for each layer.
            out: Tensor = checkpoint(
                softmax_attention, query, key, value, scores, mask,
                use_reentrant=False, preserve_rng_state=False,
            )  # fmt: skip
            return out
        shared = query.shape[1] // key.shape[1]
        if shared > 1 and self.device.type == "cuda":  # the masked kernel that keeps no scores has no groups
            key, value, shared = key.repeat_interleave(shared, 1), value.repeat_interleave(shared, 1), 1
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, scale=scores.scale, enable_gqa=shared > 1
        )


class UnsharedRows:
    """Rows that share nothing, as a batch padded on the right: causal attention then needs no mask at all.

    What stands behind a row's last token is never seen by it, and its results are not read back.
    """

    def __init__(self, tree: PrefixTree, device: torch.device):
        start_R = np.flatnonzero(tree.parent_N < 0)
        size_R = np.diff(start_R, append=len(tree))
        place_T = np.arange(int(size_R.max()))
        inside_RT = place_T < size_R[:, None]
        node_RT = np.where(inside_RT, start_R[:, None] + place_T, start_R[:, None])
        self.shape = node_RT.shape
        self.gather = on_device(node_RT.ravel(), device)
        self.back = on_device(np.flatnonzero(inside_RT), device)

    @staticmethod
    def fit(tree: PrefixTree, kind: str) -> bool:
        """Nothing branches, and padding costs less than what the back-end would do instead.

        segment computes no padding but one call a row: half of the tokens again is the limit. dense computes
        all pairs of nodes.
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
            padded: Tensor = states[0].index_select(1, self.gather).unflatten(1, self.shape)
            return padded.transpose(0, 1)

        out = functional.scaled_dot_product_attention(
            batch(query),
            batch(key),
            batch(value),
            is_causal=True,
            scale=scale,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        return out.transpose(0, 1).flatten(1, 2).index_select(1, self.back).unsqueeze(0)
