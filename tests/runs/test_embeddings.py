"""Vectors of texts: those of the model's own forward pass, and the same whatever is computed beside them."""

from __future__ import annotations

import numpy as np
import torch
from transformers import AutoModel

from finetooth.data.hub import model_directory
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.runs.embeddings import TOKENS, embedder

TEXTS = ["Where is my parcel?", "Where is my refund?", "", "A long one. " * 200, "Where is my parcel?"]


def test_vectors_are_the_mean_of_the_last_hidden_states() -> None:
    vectors = embedder("milktooth")(TEXTS)
    directory = model_directory("milktooth")
    plain = AutoModel.from_pretrained(directory, dtype=torch.float32)
    encode = Tokenizer.load(directory).encode
    for text, vector in zip(TEXTS, vectors, strict=True):
        ids = torch.tensor([encode(text or " ")[:TOKENS]])
        with torch.no_grad():
            mean = plain(ids).last_hidden_state[0].mean(0)
        np.testing.assert_allclose(vector, mean.numpy(), atol=1e-4)
    np.testing.assert_allclose(vectors[0], vectors[4], atol=1e-6)


def test_what_stands_beside_a_text_changes_nothing() -> None:
    embed = embedder("milktooth")
    many = embed([f"Text number {number}" for number in range(70)])
    np.testing.assert_allclose(many[65:66], embed(["Text number 65"]), atol=1e-5)
