"""Keys of the train section (task.py) that only some methods read: preference optimisation and
reinforcement learning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from finetooth.config.values import yaml_number, yaml_switch

Number = Annotated[float, BeforeValidator(yaml_number), Field(allow_inf_nan=False)]
Positive = Annotated[Number, Field(gt=0, allow_inf_nan=False)]

# Preferences ------------------------------------------------------------------------------------------------

# Methods that learn from a chosen and a rejected answer, and which of the keys below each one reads.
PREFERENCE_METHODS: Mapping[str, tuple[str, ...]] = {
    "dpo": ("beta", "label_smoothing"),
    "dpo_norm": ("beta", "label_smoothing"),
    "ipo": ("beta",),
    "simpo": ("beta", "gamma"),
    "orpo": ("beta",),
    "kto": ("beta", "desirable_weight", "undesirable_weight"),
    "reward_model": (),
}

BETA = {"simpo": 2.0}  # from the paper, whose rewards are per token
DEFAULT_BETA = 0.1


class PreferenceKeys(BaseModel):
    """How a chosen and a rejected answer become a loss."""

    beta: Positive | None = Field(
        None,
        description="dpo, dpo_norm, ipo, kto: strength of the constraint to the initial model, which is the "
        "reference; simpo: reward scale; orpo: weight of the odds-ratio loss. null is 0.1, or 2 for simpo.",
    )
    label_smoothing: Annotated[Number, Field(ge=0, lt=0.5)] = Field(
        0.0, description="dpo, dpo_norm: assumed label-flip rate; above 0, dpo is conservative DPO."
    )
    gamma: Annotated[Number, Field(ge=0, allow_inf_nan=False)] = Field(
        1.0, description="simpo: target margin between the rewards of the chosen and the rejected answer."
    )
    desirable_weight: Positive = Field(1.0, description="kto: loss weight of chosen answers.")
    undesirable_weight: Positive = Field(1.0, description="kto: loss weight of rejected answers.")


# Reinforcement learning -------------------------------------------------------------------------------------

RL_METHODS = ("grpo", "rloo", "reinforce")  # methods that learn from rewards of the model's own answers
REWARD_MODEL = "reward_model"  # a reward that is a run of that method: {name: reward_model, model: RUN}


def _clip(value: float) -> float:
    if not 0 < value < 1:
        raise ValueError("expected a number between 0 and 1")
    return value


class RewardKeys(BaseModel):
    """How answers are sampled and rewarded, and how the rewards become a gradient."""

    reward: str | dict[str, Any] | list[Any] | None = Field(
        None,
        description="Reward to maximise: a grader as in evaluate.grader, or the weighted mean of several: "
        "{exact: 2, file.py:function: 1}, or a list of graders and {grader: ..., weight: ...}. {name: "
        "reward_model, model: RUN} is a reward model: a run of train.method reward_model, or the directory "
        "of a sequence classifier with one label. null is evaluate.grader, the first if there are several.",
    )
    reward_check: Annotated[Literal["on", "off"], BeforeValidator(yaml_switch)] = Field(
        "on",
        description="on: refuse to train on a reward that is easily hacked: one that gives full marks to "
        "empty, repeated or copied answers, or less to expected ones; or a reward model that scores such "
        "answers at least as high as expected ones.",
    )
    group_size: Annotated[int, Field(ge=1, le=10_000)] = Field(8, description="Answers sampled per prompt.")
    temperature: Annotated[Number, Field(ge=1e-4, allow_inf_nan=False)] = Field(
        1.0, description="Sampling temperature, also applied to the log-probabilities in the loss."
    )
    scale: Literal["deviation", "none"] = Field(
        "deviation",
        description="grpo: deviation divides advantages by the standard deviation of their group; none does "
        "not (Dr. GRPO).",
    )
    average: Literal["token", "row", "length"] = Field(
        "token",
        description="Loss normalisation: token, the mean over all tokens (DAPO); row, the mean over answers "
        "of their token means (GRPO); length, the mean over answers of their token sums divided by the "
        "maximum answer length (Dr. GRPO).",
    )
    clip: Annotated[Number, AfterValidator(_clip)] = Field(0.2, description="Lower PPO clip bound, 1 - clip.")
    clip_high: Annotated[Number, Field(gt=0, allow_inf_nan=False)] = Field(
        0.28, description="Upper PPO clip bound, 1 + clip_high."
    )
    updates: Annotated[int, Field(ge=1, le=10_000)] = Field(
        1, description="Optimizer updates per batch of sampled answers; clipping only acts from 2 on."
    )
    kl: Annotated[Number, Field(ge=0, allow_inf_nan=False)] = Field(
        0.0, description="KL penalty coefficient against the initial model."
    )
    truncated: Literal["keep", "mask", "penalise", "soft"] = Field(
        "penalise",
        description="Answers truncated at evaluate.max_tokens: keep their score, mask (no gradient), "
        "penalise (reward 0), or soft (a penalty that grows to 1 over the last fifth of the length, DAPO).",
    )
    resample: Annotated[int, Field(ge=0, le=10_000)] = Field(
        1,
        description="grpo, rloo: maximum rounds of resampling, in which new prompts replace those whose "
        "answers all have the same reward.",
    )


# Which of these keys each method reads.
_ALWAYS = tuple(key for key in RewardKeys.model_fields if key not in ("scale", "resample"))
RL_METHOD_KEYS: Mapping[str, tuple[str, ...]] = {
    "grpo": (*_ALWAYS, "scale", "resample"),
    "rloo": (*_ALWAYS, "resample"),
    "reinforce": _ALWAYS,
}
