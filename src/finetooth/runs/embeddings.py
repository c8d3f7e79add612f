"""Text embeddings from a model's hidden states: for paraphrases, and for the demonstrations of a prompt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from finetooth.data.cache import Say, silent
from finetooth.model.api import Model
from finetooth.quality.findings import Embed
from finetooth.tree import PrefixTree, Row

TEXTS, TOKENS = 32, 256  # texts per batch, and tokens used of each


def embedder(name: str, say: Say = silent) -> Embed:
    """Load a model; texts -> (texts, D) float32: the mean of the last hidden states over a text's tokens.

    Only the first 256 tokens of a text are used. say: as in Model.load. Raises ModelError when the
    model cannot be loaded.
    """
    return embedder_of(Model.load(name, say=say))


def embedder_of(model: Model) -> Embed:
    """The same for a model that is loaded, as it is when it is asked: with or without its adapter."""
    assert model.tokenizer is not None
    encode = model.tokenizer.encode

    def embed(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        vectors = []
        with model.eval_mode(), torch.no_grad():
            for start in range(0, len(texts), TEXTS):
                batch = [encode(text or " ")[:TOKENS] for text in texts[start : start + TEXTS]]
                rows = [Row(ids, np.zeros(len(ids))) for ids in batch]
                tree = PrefixTree.build(rows)
                hidden_ND = model.hidden(tree, np.arange(len(tree))).float().cpu().numpy()
                vectors += [hidden_ND[path].mean(axis=0) for path in tree.path_R]
        return np.stack(vectors)

    return embed
