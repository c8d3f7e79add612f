"""The task: one frozen, validated value that defines everything a run does.

Every key of a task file is a field here. The field's description is its documentation in `--help` and
docs/reference.md. An unknown key is an error that names the nearest known one; names that other tools use
for the same thing are recognised.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)
from pydantic.fields import FieldInfo

from finetooth.config.cleaning import validate_operations as _cleaning
from finetooth.config.evaluate_keys import Auto, Count, EvaluateKeys, Share
from finetooth.config.messages import explain_problems
from finetooth.config.method_keys import Number, Positive, PreferenceKeys, RewardKeys
from finetooth.config.other_tools import key_hint
from finetooth.config.values import SEEDS, file_list, folder_name, one_or_more, yaml_switch
from finetooth.config.values import encoding as _encoding
from finetooth.config.values import source as _source
from finetooth.errors import ConfigError

EMBEDDED = ("milktooth",)  # models that come with the package; such a name is never read as a folder


def _seed(value: int) -> int:
    if not 0 <= value < SEEDS:
        raise ValueError(f"expected a whole number from 0 to {SEEDS - 1} (2**64 - 1)")
    return value


Rows = list[str | dict[str, Any]]  # rows, or files: values.is_files tells which


class Section(BaseModel):
    """A section of the task file: frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, **values: Any) -> None:
        """Raises ConfigError, which lists every problem, each with what to do."""
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError(explain_problems(error, "the task", suggest)) from None

    # As in pydantic's RootModel: validation fills the fields itself, so only callers go through __init__.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]


class DataConfig(Section):
    """Where the rows come from, how they are read, and how they are split."""

    train: Annotated[str | Rows, BeforeValidator(_source)] = Field(
        description="Training examples: a file (.jsonl .json .csv .tsv .parquet .arrow .xlsx .txt, also "
        ".gz), a directory, a glob, a hub id, or a list of these and of {path, weight} (from Python also a "
        "list of dicts)."
    )
    validation: Annotated[Share | str | Rows, BeforeValidator(_source)] = Field(
        0.1,
        description="Held-out rows for checkpoint selection and early stopping: an approximate share of "
        "all rows in data.train, or files as in data.train.",
    )
    test: Annotated[Share | str | Rows, BeforeValidator(_source)] = Field(
        0.2,
        description="Sealed test set, held out before anything looks at it: an approximate share of all "
        "rows in data.train, or files as in data.train.",
    )
    format: Literal["auto", "text", "qa", "prompt", "alpaca", "chat", "sharegpt", "labels", "preference"] = (
        Field("auto", description="Row format; auto detects it from the column names.")
    )
    encoding: Annotated[str, AfterValidator(_encoding)] = Field(
        "utf-8", description="Encoding of text files, such as cp1252; a byte-order mark overrides it."
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Column mapping {column: role}, with the roles id, system, context, answer, label "
        "(several columns can be labels), text (several columns are joined, also for context and prompt), "
        "messages, prompt, completion, conversations, chosen, rejected, tools, group, weight.",
    )
    group: str | None = Field(
        None, description="Column that groups rows; rows of a group stay in the same split."
    )
    split_from: str | None = Field(
        None,
        description="Run whose split is kept: its rows, edited ones too, stay in training, validation or the "
        "sealed test set; only new rows are assigned.",
    )
    add: Annotated[list[str], BeforeValidator(file_list)] = Field(
        default_factory=list,
        description="Change sets to apply, in order: rows to add to the training rows, corrected rows, and "
        "training rows to remove; written by `finetooth errors --next`. A data file without the column "
        "finetooth_change adds all of its rows.",
    )
    clean: Annotated[list[str | dict[str, Any]], BeforeValidator(_cleaning)] = Field(
        default_factory=list,
        description="Cleaning operations, applied in order before the rows are split: fix_encoding, "
        "strip_html, normalise_space, mask_pii, drop_empty, dedupe; on the training split only, "
        "{balance: {by: label, max_ratio: 3}}.",
    )
    allow: Annotated[list[str], BeforeValidator(one_or_more)] = Field(
        default_factory=list,
        description="Blocking data rules to override (leak, one-label, labels-are-unique, broken-rows); "
        "recorded in reports. As a flag: --allow RULE.",
    )
    rates: str | None = Field(None, description="Column to group by when check compares answer rates.")
    max_tokens: Auto | Count = Field(
        "auto", description="Maximum row length in tokens; auto is the model's context length."
    )
    overlong: Literal["raise", "drop", "cut"] = Field(
        "raise",
        description="Rows longer than data.max_tokens: raise stops, drop leaves them out, cut truncates "
        "the context from the left.",
    )


class _Training(Section):
    """The keys that every method reads."""

    method: Literal[
        "sft", "dpo", "dpo_norm", "ipo", "simpo", "orpo", "kto", "reward_model", "grpo", "rloo", "reinforce"
    ] = Field(
        "sft",
        description="Training method. sft: supervised fine-tuning. dpo, dpo_norm (length-normalised), ipo, "
        "simpo, orpo, kto: preference optimisation on chosen and rejected answers. reward_model: a model "
        "that scores answers, from the same data. grpo, rloo, reinforce: reinforcement learning on sampled "
        "answers.",
    )
    adapter: Literal["lora", "none"] = Field(
        "lora",
        description="lora: LoRA, low-rank adapters on all linear layers. none: full fine-tuning of every "
        "weight.",
    )
    rank: Annotated[int, Field(ge=1, le=4096)] = Field(16, description="LoRA rank.")
    learning_rate: Auto | Positive = Field("auto", description="Peak learning rate.")
    batch_size: Auto | Count = Field(
        "auto",
        description="Rows per optimizer step: the effective batch size, gradient accumulation included.",
    )
    epochs: Auto | Annotated[Positive, Field(le=100_000)] = Field(
        "auto", description="Passes over the training rows."
    )
    max_steps: Count | None = Field(None, description="Maximum number of optimizer steps.")
    optimizer: Literal["adamw", "muon"] = Field(
        "adamw",
        description="adamw: fused AdamW. muon: Muon for the weight matrices of the layers and AdamW for the "
        "rest.",
    )
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="Learning rate schedule after the warmup."
    )
    warmup: Share = Field(0.05, description="Learning rate warmup, as a share of the optimizer steps.")
    weight_decay: Annotated[Number, Field(ge=0)] = Field(0.0, description="Decoupled weight decay.")
    max_grad_norm: Positive = Field(1.0, description="Gradient clipping: maximum gradient norm.")
    micro_tokens: Auto | Count = Field(
        "auto",
        description="Micro-batch size: distinct tokens per forward pass. Packing and gradient accumulation "
        "follow from it; the loss does not depend on it.",
    )
    validate_every: Auto | Count = Field("auto", description="Optimizer steps between validations.")
    save_every: Auto | Count = Field("auto", description="Optimizer steps between checkpoints.")
    log_every: Count = Field(1, description="Optimizer steps between lines of train/metrics.jsonl.")
    patience: Auto | Count | None = Field(
        "auto",
        description="Early stopping: validations without improvement before training stops; null never "
        "stops early.",
    )
    select: Literal["auto", "score", "loss"] = Field(
        "auto",
        description="Checkpoint selection metric: score (graded answers to up to 64 validation rows, ties "
        "broken by the loss) or loss; auto is score if a built-in grader applies and is cheap.",
    )
    seed: Annotated[int, AfterValidator(_seed)] | None = Field(
        None, description="Random seed of the training alone: row order and adapters; null is `seed`."
    )
    seeds: Annotated[int, Field(ge=1, le=20)] = Field(
        1,
        description="Trainings of one recipe, with seeds that follow each other. The model of the first is "
        "the run's; the others, in RUN/seeds, show on the validation rows what the seed decides.",
    )
    preflight: Annotated[Literal["on", "off"], BeforeValidator(yaml_switch)] = Field(
        "on",
        description="Preflight check before training: overfit up to 8 rows, save, reload and answer them, "
        "then restore the initial state.",
    )
    checkpointing: bool = Field(
        False,
        description="Gradient checkpointing: recompute activations in the backward pass; less memory, "
        "identical gradients.",
    )
    interpolate: Annotated[Positive, Field(le=1)] = Field(
        1.0,
        description="Share of the training's change of the weights that is kept: the model is base + share x "
        "(tuned - base). Below 1 it forgets less; `finetooth evaluate RUN --interpolate auto` chooses one.",
    )
    track: Annotated[
        list[Literal["tensorboard", "mlflow", "wandb", "trackio"]], BeforeValidator(one_or_more)
    ] = Field(
        default_factory=list,
        description="Experiment tracker to log to, or a list of them; each must be installed.",
    )


class TrainConfig(PreferenceKeys, RewardKeys, _Training):
    """How the model is fine-tuned."""


class EvaluateConfig(EvaluateKeys, Section):
    """How answers are produced and graded."""


class Task(Section):
    """A task file: the model, the examples, and what to do with them."""

    name: Annotated[str, AfterValidator(folder_name)] = Field(
        "task",
        description="Run name; the default run directory is runs/NAME. If left out, the name of the task "
        "file, or of its folder if the file is task.yaml.",
    )
    model: str = Field(
        "milktooth",
        description="Base model: a name that `finetooth models` lists (milktooth is embedded), a local "
        "directory, a .gguf file, or a hub id (org/name, org/name@revision). A directory with config and "
        "tokenizer but no weights is initialised from the seed.",
    )
    start: str | None = Field(
        None,
        description="Finished run to continue from; reuses its weights, adapter included, and its split.",
    )
    tuned: str | None = Field(
        None,
        description="Model or PEFT adapter that was trained elsewhere, evaluated as the tuned model in place "
        "of training. Prompts are asked of the adapter's base, for a whole model of `model`.",
    )
    instruction: str = Field("", description="System prompt, part of every context.")
    template: str = Field(
        "auto",
        description="Prompt template: auto (the tokenizer's chat template, else instruction), chat, "
        "instruction, plain, or a .jinja file.",
    )
    data: DataConfig
    train: TrainConfig = Field(default_factory=TrainConfig, description="How the model is fine-tuned.")
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig, description="How answers are graded.")
    seed: Annotated[int, AfterValidator(_seed)] = Field(
        1, description="Random seed of the splits, row order, initialisation and sampling."
    )


def fields(section: type[BaseModel] = Task, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every dotted key with its field, in order: ("train.rank", FieldInfo)."""
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from fields(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def keys() -> Iterator[tuple[str, str]]:
    """Every dotted key with its description: ("train.rank", "Rank of the LoRA adapters.")."""
    return ((key, field.description or "") for key, field in fields())


def suggest(key: str) -> str:
    """What to say after an unknown key: our name for another tool's key, or the nearest key."""
    leaf = key.rsplit(".", 1)[-1]
    if hint := key_hint(leaf):
        return f" {hint}"
    known = [name for name, _ in keys()]
    sections = {name.partition(".")[0] for name in known}
    near = difflib.get_close_matches(key, sorted({*known, *sections}), 1, 0.6)
    if not near:
        leaves = {name.rsplit(".", 1)[-1]: name for name in known}
        near = [leaves[name] for name in difflib.get_close_matches(leaf, list(leaves), 1, 0.6)]
    return f" Did you mean {near[0]}?" if near else " `finetooth train --help` lists all keys."


def build_task(values: Mapping[str, Any], where: str = "the task") -> Task:
    """A validated Task from plain nested values; ConfigError lists every problem, each with what to do."""
    try:
        return Task.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(explain_problems(error, where, suggest)) from None


FORMATS: tuple[str, ...] = get_args(DataConfig.model_fields["format"].annotation)
