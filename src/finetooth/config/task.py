"""The task: one frozen, validated value that says everything a run does.

Every key of a task file is a field here, and the field's description is its documentation everywhere
(`--help`, docs/reference.md, error messages). An unknown key is an error that names the nearest known one;
names that other tools use for the same thing are recognised.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from finetooth.config.cleaning import validate_operations as _cleaning
from finetooth.config.messages import describe_expected
from finetooth.config.method_keys import PreferenceKeys, RewardKeys
from finetooth.config.other_tools import KEY_HINTS as KEY_HINTS
from finetooth.config.values import encoding as _encoding
from finetooth.config.values import source as _source
from finetooth.config.values import yaml_number as _yaml_number
from finetooth.config.values import yaml_switch as _switch
from finetooth.errors import ConfigError

Auto = Literal["auto"]
EMBEDDED = ("milktooth",)  # models that come with the package; such a name never means a folder


def _no_copies(shots: list[int]) -> list[int]:
    twice = sorted({count for count in shots if shots.count(count) > 1})
    if twice:
        raise ValueError(f"{twice[0]} is given twice; name each number of examples once")
    return shots


def _temperature(value: float) -> float:
    if value != 0 and not 1e-4 <= value < math.inf:
        raise ValueError("expected 0 (the most likely token) or a number from 0.0001 on")
    return value


Number = Annotated[float, BeforeValidator(_yaml_number)]
Positive = Annotated[float, BeforeValidator(_yaml_number), Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, BeforeValidator(_yaml_number), Field(ge=0, lt=1)]
Rows = list[str | dict[str, Any]]  # rows; or files, as values.is_files says
Grader = str | dict[str, Any]  # a name, or its name and an option


class Section(BaseModel):
    """A group of keys: frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, **values: Any) -> None:
        """Raises ConfigError that lists every problem, each with what to do."""
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError(_listed(error, "the task")) from None

    # As pydantic's RootModel does: validation fills the fields itself; only callers come through __init__.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]


class DataConfig(Section):
    """Where the rows come from, how they are read, and how they are split."""

    train: Annotated[str | Rows, BeforeValidator(_source)] = Field(
        description="The examples: a file (.jsonl .json .csv .tsv .parquet .arrow .txt, also .gz), a "
        "directory, a glob, a hub id, or a list of these and of {path, weight} (from Python also a list "
        "of dicts)."
    )
    validation: Annotated[Share | str | Rows, BeforeValidator(_source)] = Field(
        0.1, description="Share of the training rows to iterate on, or files as in train."
    )
    test: Annotated[Share | str | Rows, BeforeValidator(_source)] = Field(
        0.2, description="Share of the rows sealed before anything looks at them, or files as in train."
    )
    format: Literal["auto", "text", "qa", "prompt", "alpaca", "chat", "sharegpt", "labels", "preference"] = (
        Field("auto", description="Shape of a row; auto finds it from the column names.")
    )
    encoding: Annotated[str, AfterValidator(_encoding)] = Field(
        "utf-8",
        description="Encoding of text files, such as cp1252; a mark at the start of a file comes first.",
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Names in this file -> id, system, context, answer, label (also of many columns), text, "
        "messages, prompt, completion, conversations, chosen, rejected, tools, group, weight.",
    )
    group: str | None = Field(None, description="Column whose rows must stay on one side of a split.")
    clean: Annotated[list[str | dict[str, Any]], BeforeValidator(_cleaning)] = Field(
        default_factory=list,
        description="Operations on the rows before they are split, in their order: fix_encoding, strip_html, "
        "normalise_space, mask_pii, drop_empty, dedupe; on train alone {balance: {by: label, max_ratio: 3}}.",
    )
    allow: list[str] = Field(
        default_factory=list,
        description="Rules of the data gate whose blocks do not stop a run; the reports say so.",
    )
    rates: str | None = Field(
        None, description="Column by whose values check compares the rates of the answers."
    )
    max_tokens: Auto | Count = Field(
        "auto", description="Longest row in tokens; auto is what the model allows."
    )
    overlong: Literal["raise", "drop", "cut"] = Field(
        "raise",
        description="Rows longer than max_tokens: stop, leave them out, or cut context from the left.",
    )


class _Training(Section):
    """The keys that every method has."""

    method: Literal[
        "sft", "dpo", "dpo_norm", "ipo", "simpo", "orpo", "kto", "reward_model", "grpo", "rloo", "reinforce"
    ] = Field(
        "sft",
        description="sft: supervised fine-tuning. From pairs of a chosen and a rejected answer: dpo (with "
        "label_smoothing: conservative DPO), dpo_norm (per token), ipo, simpo, orpo, kto; reward_model: a "
        "model that scores answers. grpo, rloo, reinforce: answers are sampled, and those with more reward "
        "become likelier.",
    )
    adapter: Literal["lora", "none"] = Field(
        "lora", description="lora trains low-rank adapters on all linear layers; none trains every weight."
    )
    rank: Count = Field(16, description="Rank of the LoRA adapters.")
    learning_rate: Auto | Positive = Field("auto", description="Peak learning rate.")
    batch_size: Auto | Count = Field("auto", description="Rows per optimizer step.")
    epochs: Auto | Positive = Field("auto", description="Passes over the training rows.")
    max_steps: Count | None = Field(None, description="Stop after this many optimizer steps.")
    optimizer: Literal["adamw", "muon"] = Field(
        "adamw",
        description="adamw: AdamW, fused. muon: Muon for the matrices inside the layers, AdamW for the rest.",
    )
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="How the learning rate falls after the warm-up."
    )
    warmup: Share = Field(0.05, description="Share of the steps over which the learning rate rises.")
    weight_decay: Annotated[float, BeforeValidator(_yaml_number), Field(ge=0)] = Field(
        0.0, description="Decoupled weight decay."
    )
    max_grad_norm: Positive = Field(1.0, description="Gradients are clipped to this norm.")
    micro_tokens: Auto | Count = Field("auto", description="Distinct tokens of one micro-tree.")
    validate_every: Auto | Count = Field("auto", description="Steps between validations.")
    save_every: Auto | Count = Field("auto", description="Steps between checkpoints.")
    log_every: Count = Field(1, description="Steps between lines of train/metrics.jsonl.")
    patience: Auto | Count | None = Field(
        "auto", description="Validations without improvement before stopping; null is never."
    )
    select: Literal["auto", "score", "loss"] = Field(
        "auto",
        description="What chooses the best weights: score (graded answers to up to 64 validation rows, then "
        "the loss) or loss; auto is score where a built-in grader applies and is cheap.",
    )
    preflight: Annotated[Literal["on", "off"], BeforeValidator(_switch)] = Field(
        "on",
        description="on: before training, up to 8 rows are learned, saved, loaded, answered and forgotten.",
    )
    checkpointing: bool = Field(
        False, description="Compute layers again in the backward pass: less memory, the same gradients."
    )
    track: list[Literal["tensorboard", "mlflow", "wandb", "trackio"]] = Field(
        default_factory=list, description="Log to these too; each has to be installed."
    )


class TrainConfig(PreferenceKeys, RewardKeys, _Training):
    """How the model is fine-tuned."""


class EvaluateConfig(Section):
    """How answers are produced and graded."""

    grader: Grader | list[Grader] = Field(
        "auto",
        description="exact, label, labels, number, contains, json, f1, rouge, rouge1, rouge2, bleu, chrf, "
        "perplexity, file.py:function or package.module:function; {name: number, tolerance: 0.01}, "
        "{name: json, schema: FILE} or {name: regex, pattern: ...}; a list: the first is primary.",
    )
    shots: Annotated[list[Annotated[int, Field(ge=0)]], AfterValidator(_no_copies)] = Field(
        default_factory=lambda: [0, 4],
        description="Prompting baselines of the base model: examples in the prompt.",
    )
    max_tokens: Auto | Count = Field(
        "auto", description="Longest answer; auto is what the training answers need."
    )
    temperature: Annotated[float, BeforeValidator(_yaml_number), AfterValidator(_temperature)] = Field(
        0.0, description="0 takes the most likely token."
    )
    limit: Count | None = Field(None, description="Evaluate at most this many rows of a split.")


class Task(Section):
    """A task file: the model, the examples, and what to do with them."""

    name: str = Field("task", description="Name of the run directory; default: the task file's folder.")
    model: str = Field(
        "milktooth",
        description="milktooth (embedded), a local directory, or a hub id (org/name, org/name@revision); a "
        "directory with config and tokenizer but no weights starts fresh from the seed.",
    )
    start: str | None = Field(
        None,
        description="A run, as of --from: training goes on from what it trained, its adapter included; its "
        "rows stay on their side of the split.",
    )
    instruction: str = Field("", description="System prompt that is part of every context.")
    template: str = Field(
        "auto",
        description="auto (the tokenizer's chat template, else instruction), chat, instruction, "
        "plain, or a .jinja file.",
    )
    data: DataConfig
    train: TrainConfig = Field(default_factory=TrainConfig, description="How the model is fine-tuned.")
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig, description="How answers are graded.")
    seed: int = Field(1, description="Decides splits, order, initialisation and samples.")


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
    """What to say after an unknown key: the name here for another tool's key, or the nearest key."""
    known = [name for name, _ in keys()]
    leaf = key.rsplit(".", 1)[-1]
    if leaf in KEY_HINTS:
        return f" {KEY_HINTS[leaf]}"
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
        raise ConfigError(_listed(error, where)) from None


def _listed(error: ValidationError, where: str) -> str:
    return f"{where}:\n" + "\n".join(dict.fromkeys(_explain(error)))


def _explain(error: ValidationError) -> Iterator[str]:
    """One line a key. A key that takes several kinds of values has one problem for each of them."""
    kinds = {"float", "int", "str", "bool", "list", "constrained", "literal", "function", "dict", "tagged"}
    wrong: dict[str, list[Any]] = {}
    for problem in error.errors():
        path = ".".join(
            str(part)
            for part in problem["loc"]
            if not (isinstance(part, str) and part.split("[")[0].split("-")[0] in kinds)
        )
        if problem["type"] == "extra_forbidden":
            yield f"  unknown key {path}.{suggest(path)}"
        elif problem["type"] == "missing":
            yield f"  {path} is missing."
        else:
            wrong.setdefault(path, []).append(problem)
    for path, problems in wrong.items():
        said = [problem["msg"].removeprefix("Value error, ") for problem in problems]
        plain = [describe_expected(path, problem) for problem in problems]
        own = [text for text, known in zip(said, plain, strict=True) if not known]
        wanted = list(dict.fromkeys(plain))
        last = " or ".join(filter(None, [", ".join(wanted[:-1]), wanted[-1]]))
        yield f"  {path}: {own[0] if own else f'expected {last}'}, found {repr(problems[0]['input'])[:80]}."


FORMATS: tuple[str, ...] = get_args(DataConfig.model_fields["format"].annotation)
