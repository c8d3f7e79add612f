"""Interpolation between the weights of a base model and of a model that was fine-tuned from it.

Source: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models" (WiSE-FT), section 3: base + share *
(tuned - base). Of LoRA, base + A B, that is a factor on B.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from finetooth.errors import ModelError
from finetooth.model.api import Model


class Interpolation:
    """A tuned model whose weights move on the line from its base's (share 0) to its own (share 1)."""

    def __init__(self, model: Model, base: Mapping[str, Tensor] | None = None) -> None:
        """model: the tuned one, which is changed in place. base: the base's weights by name, for a model
        without an adapter. Raises ModelError when these are not of the same model.
        """
        self.model = model
        if model.peft is not None:
            weights = {name: w for name, w in model.hf.named_parameters() if ".lora_B." in name}
            base = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        else:
            assert base is not None, "the base's weights"
            weights = dict(model.hf.named_parameters())
            shapes = [{name: weight.shape for name, weight in each.items()} for each in (weights, base)]
            if shapes[0] != shapes[1]:
                raise ModelError("The base and the tuned model differ in their weights' names or shapes.")
        self._lines = [(weight, base[name], weight.detach().clone()) for name, weight in weights.items()]

    def move(self, share: float) -> Model:
        """The model with base + share * (tuned - base) as its weights; exactly the tuned ones at share 1."""
        with torch.no_grad():
            for weight, base, tuned in self._lines:
                weight.copy_(torch.lerp(base.to(tuned), tuned, share))
        return self.model
