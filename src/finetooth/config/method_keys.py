"""The keys that only some methods of training read, a part of the train section (task.py): of preference
methods, and of reinforcement learning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from finetooth.config.values import yaml_number, yaml_switch

_Number = Annotated[float, BeforeValidator(yaml_number)]
_Positive = Annotated[_Number, Field(gt=0, allow_inf_nan=False)]

# Preferences ------------------------------------------------------------------------------------------------

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


# Reinforcement learning -------------------------------------------------------------------------------------

RL_METHODS = ("grpo", "rloo", "reinforce")  # methods that learn from rewards of the model's own answers
REWARD_MODEL = "reward_model"  # a reward that is a run of that method: {name: reward_model, model: RUN}


def _clip(value: float) -> float:
    if not 0 < value < 1:
        raise ValueError("expected a number between 0 and 1")
    return value


class RewardKeys(BaseModel):
    """How answers are sampled, rewarded, and turned into a gradient."""

    reward: str | dict[str, Any] | list[Any] | None = Field(
        None,
        description="What is raised: graders as in evaluate.grader, their weighted mean where there are "
        "several: {exact: 2, file.py:function: 1}, or a list of graders and {grader: ..., weight: ...}. "
        "{name: reward_model, model: RUN} is a reward model: a run of train.method reward_model, or the "
        "directory of a sequence classifier with one label. null is evaluate.grader, the first of several.",
    )
    reward_check: Annotated[Literal["on", "off"], BeforeValidator(yaml_switch)] = Field(
        "on",
        description="on: training does not start with a reward that gives full marks to empty, repeated or "
        "copied answers, or not to expected ones; nor with a reward model that takes such answers to be "
        "worth no less than expected ones.",
    )
    group_size: Annotated[int, Field(ge=1)] = Field(8, description="Answers sampled to each question.")
    temperature: Annotated[_Number, Field(ge=1e-4, allow_inf_nan=False)] = Field(
        1.0, description="Temperature at which answers are sampled and trained."
    )
    scale: Literal["deviation", "none"] = Field(
        "deviation",
        description="grpo: advantages are divided by their group's deviation, or not (Dr. GRPO).",
    )
    average: Literal["token", "row", "length"] = Field(
        "token",
        description="The loss is a mean over all tokens (DAPO), over answers of their own means (GRPO), or "
        "over answers of sums over the longest length allowed (Dr. GRPO).",
    )
    clip: Annotated[_Number, AfterValidator(_clip)] = Field(
        0.2, description="Ratios of new to old probabilities count down to 1 - clip."
    )
    clip_high: Annotated[_Number, Field(gt=0, allow_inf_nan=False)] = Field(
        0.28, description="Ratios count up to 1 + clip_high."
    )
    updates: Annotated[int, Field(ge=1)] = Field(
        1, description="Optimizer updates on the answers of one step; clipping matters from 2 on."
    )
    kl: Annotated[_Number, Field(ge=0, allow_inf_nan=False)] = Field(
        0.0, description="Weight of the divergence from the model that training starts from."
    )
    truncated: Literal["keep", "mask", "penalise", "soft"] = Field(
        "penalise",
        description="Answers cut at evaluate.max_tokens: keep the grader's score, mask (no gradient), "
        "penalise (reward 0), or soft: the last fifth of the length costs up to 1 (DAPO).",
    )
    resample: Annotated[int, Field(ge=0)] = Field(
        1,
        description="grpo, rloo: how often other questions take the place of those whose answers are all "
        "worth the same.",
    )


# Which of these keys each method reads.
_ALWAYS = tuple(key for key in RewardKeys.model_fields if key not in ("scale", "resample"))
RL_METHOD_KEYS: Mapping[str, tuple[str, ...]] = {
    "grpo": (*_ALWAYS, "scale", "resample"),
    "rloo": (*_ALWAYS, "resample"),
    "reinforce": _ALWAYS,
}
