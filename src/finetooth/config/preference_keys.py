"""The keys of the methods that learn from pairs, which are a part of the train section (config/task.py)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field

from finetooth.config.values import yaml_number as _yaml_number

# Methods that learn from a chosen and a rejected answer, and which of the keys below each of them reads.
PREFERENCE_METHODS: Mapping[str, tuple[str, ...]] = {
    "dpo": ("beta", "label_smoothing"),
    "dpo_norm": ("beta", "label_smoothing"),
    "ipo": ("beta",),
    "simpo": ("beta", "gamma"),
    "orpo": ("beta",),
    "kto": ("beta", "desirable_weight", "undesirable_weight"),
    "reward_model": (),
}

BETA = {"simpo": 2.0}  # of its paper, whose rewards are per token
DEFAULT_BETA = 0.1

_Number = Annotated[float, BeforeValidator(_yaml_number)]
_Positive = Annotated[_Number, Field(gt=0, allow_inf_nan=False)]


class PreferenceKeys(BaseModel):
    """How a chosen and a rejected answer become a loss."""

    beta: _Positive | None = Field(
        None,
        description="dpo, dpo_norm, ipo, kto: strength of the pull to the model that training starts from; "
        "simpo: scale of rewards; orpo: weight of the odds ratio. null is 0.1, of simpo 2.",
    )
    label_smoothing: Annotated[_Number, Field(ge=0, lt=0.5)] = Field(
        0.0, description="dpo, dpo_norm: share of pairs that are taken to be labelled the wrong way round."
    )
    gamma: Annotated[_Number, Field(ge=0, allow_inf_nan=False)] = Field(
        1.0, description="simpo: by how much the reward of the chosen answer should be the higher one."
    )
    desirable_weight: _Positive = Field(1.0, description="kto: loss weight of chosen answers.")
    undesirable_weight: _Positive = Field(1.0, description="kto: loss weight of rejected answers.")
