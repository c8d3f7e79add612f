"""The capability proof: a back-end is used only for architectures on which it was just seen to be right.

A small random copy of the model's architecture (small.py) computes a random forest through the back-end
and, row by row, through the stock forward. What differs (logit scaling, unknown arguments, positions that
cannot be given) is caught here, whatever its name, and the model runs through `rows` instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import AttentionInterface

from finetooth.errors import ModelError
from finetooth.model import fused
from finetooth.model.attention import interface
from finetooth.model.load import quiet
from finetooth.model.tiny_copy import VOCABULARY, small_copy
from finetooth.tree import PrefixTree, Row

if TYPE_CHECKING:
    from finetooth.model.api import Model

FASTEST = {"cpu": ("segment",), "cuda": ("flex", "dense")}  # what auto tries, by kind of device
# What is tried with each back-end, and what the log says where the faster way was not right.
SPEEDS = {
    "trimmed": "",
    "fused": "; the last layer computes all tokens, since skipping those that are not read was not proven",
    "stock": "; with stock norms and MLPs, since fused ones were not proven",
}
TOLERANCE = 1e-4  # nats; fp32 rounding of two layers stays under 1e-5


def random_forest(vocabulary: int, seed: int = 0) -> list[Row]:
    """Rows with nested, shared and no prefixes, a duplicate, and one that is a prefix of another."""
    draw = np.random.default_rng(seed)

    def tokens(count: int) -> list[int]:
        return [int(token) for token in draw.integers(0, vocabulary, count)]

    trunk, branch = tokens(6), tokens(4)
    lists = [
        trunk + branch + tokens(5),
        trunk + branch + tokens(3),
        trunk + tokens(7),
        trunk + branch,
        tokens(12),
    ]
    lists += [lists[0], tokens(2)]
    return [Row(row, [0.0] + [1.0] * (len(row) - 1)) for row in lists]


def choose_backend(model: Model, wanted: str) -> None:
    """Set `model.attention` to the back-end that is wanted, or for auto to the fastest that is proven.

    Raises ModelError when a back-end that was asked for by name does not work for the architecture or device.
    """
    if wanted == "segment" and model.device.type != "cpu":
        raise ModelError("attention 'segment' runs on the CPU only; use flex, dense or auto.")
    if wanted == "rows":
        model.padded = rows_can_be_padded(model)
        return
    AttentionInterface.register(interface.NAME, interface.attention)
    refused = ""
    for kind in FASTEST.get(model.device.type, ("dense",)) if wanted == "auto" else (wanted,):
        for speed, lost in SPEEDS.items():
            reason = failure(model, kind, speed)
            if reason is None:
                model.attention = kind
                prepare(model, speed)
                model.notes.append(f"attention: {kind}, proven on a small random copy{refused}{lost}")
                return
        if wanted != "auto":
            raise ModelError(f"attention {kind!r} does not work for {model.hf.config.model_type}: {reason}.")
        refused += f", because {kind} was not proven: {reason}"
    model.padded = rows_can_be_padded(model)
    how = "padded batches" if model.padded else "one row a call"
    model.notes.append(f"attention: rows, {how}{refused}")


def prepare(model: Model, speed: str) -> None:
    """Let the network compute over trees, with the modules of this speed (a key of SPEEDS)."""
    model.hf.set_attn_implementation(interface.NAME)
    if speed != "stock":
        fused.fuse(model.hf)
    model.trimmed = speed == "trimmed" and fused.trim_last(model.hf)


def rows_can_be_padded(model: Model) -> bool:
    """Whether a padded batch of rows gives each row the log-probabilities that it has alone."""
    if _call_dependent_rope(model.hf.config):
        return False
    tree = PrefixTree.build(random_forest(VOCABULARY))
    try:
        alone = model.sibling(small_copy(model.hf).to(model.device), "rows")
        together = model.sibling(alone.hf, "rows")
        together.padded = True
        with torch.no_grad(), quiet():
            gap = together.logprobs(tree) - alone.logprobs(tree)
    except Exception:  # not every architecture takes a mask, or can be copied
        return False
    return float(gap.abs().max()) <= TOLERANCE


def _call_dependent_rope(config: Any) -> str | None:
    """The kind of rotary scaling that looks at the longest position of the call; rows of the proof are short.

    Such a model gives a row other log-probabilities when a long row is in the same call, so that only `rows`
    is right. Sources: transformers' rope utilities, "dynamic" and "longrope".
    """
    found = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    nested = [value for value in found.values() if isinstance(value, dict)]
    kinds = {str(part.get("rope_type") or part.get("type")) for part in (found, *nested)}
    return next((kind for kind in sorted(kinds) if kind in ("dynamic", "longrope", "su")), None)


def failure(model: Model, kind: str, speed: str = "stock") -> str | None:
    """Why this back-end, with modules of this speed (a key of SPEEDS), cannot be used for the model's
    architecture; None when it was just proven right.
    """
    if rope := _call_dependent_rope(model.hf.config):
        return f"its rotary positions ({rope}) depend on the longest row of a call"
    try:
        small = small_copy(model.hf).to(model.device)
        stock = model.sibling(small, "rows")
        rows = random_forest(VOCABULARY)
        tree = PrefixTree.build(rows)
        options = [[3, 5, 7], [3, 5, 9], [3, 8], [4, 1]]
        with torch.no_grad(), quiet():
            want_M = stock.logprobs(tree)
            want = [choice.logprob for choice in sorted(stock.choose(rows, options))]
            ours = model.sibling(small, kind)
            prepare(ours, speed)
            gap = float((ours.logprobs(tree) - want_M).abs().max())
            got = [choice.logprob for choice in sorted(ours.choose(rows, options))]
        if kind == "flex" and model.device.type == "cuda":  # the kernels that training needs can be made
            model.sibling(small.to(model.dtype), kind).logprobs(tree).sum().backward()
        gap = max(gap, float(np.abs(np.subtract(got, want)).max()))
        if gap <= TOLERANCE:
            return None
        reason = f"log-probabilities differ from the stock forward by {gap:.1e}"
    except Exception as error:  # whatever an architecture raises here means: not proven
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:200]
    if not getattr(model.hf, "_supports_attention_backend", False):
        return "its attention takes no function from outside"
    return reason
