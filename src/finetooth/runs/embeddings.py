"""Vectors of texts from a base model's hidden states, handed to the rules that compare rows by meaning."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from finetooth.model.api import Model
from finetooth.quality.findings import Embed
from finetooth.tree import PrefixTree, Row

TEXTS, TOKENS = 32, 256  # texts computed at once, and tokens of each that are looked at


def embedder(name: str) -> Embed:
    """Load a model; texts -> (texts, D) float32: the mean of the last hidden states over a text's tokens.

    Of a long text the first 256 tokens. Raises ModelError when the model cannot be loaded.
    """
    model = Model.load(name)
    assert model.tokenizer is not None
    encode = model.tokenizer.encode

    def embed(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        found = []
        with model.eval_mode(), torch.no_grad():
            for start in range(0, len(texts), TEXTS):
                rows = [_row(encode(text or " ")[:TOKENS]) for text in texts[start : start + TEXTS]]
                tree = PrefixTree.build(rows)
                hidden_ND = model.hidden(tree, np.arange(len(tree))).float().cpu().numpy()
                found += [hidden_ND[path].mean(axis=0) for path in tree.path_R]
        return np.stack(found)

    return embed


def _row(ids: Sequence[int]) -> Row:
    return Row(ids, np.zeros(len(ids)))
