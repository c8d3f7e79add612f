"""What every `auto` of the train section becomes, and why, as pure functions of plain facts.

The values are meant to be good for small models and a few hundred to some ten thousand rows. They depend on
the model, the rows and the machine's total memory, never on what happens to be free, so that a run repeats.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from finetooth.config.method_keys import BETA, DEFAULT_BETA, PREFERENCE_METHODS, RL_METHODS
from finetooth.config.task import TrainConfig
from finetooth.training.selection import MOST
from finetooth.tree import PrefixTree, Row, microtrees

LORA_OVER_FULL = (
    10.0  # "LoRA without regret" (Thinking Machines 2025): the best rate is about 10x that of full
)
SFT_OVER_PREFERENCE = 5.0
AS_SFT = ("orpo", "simpo", "reward_model")  # nothing is relative to their start
REWARD_SLOWER = 5  # rewards are noisier than answers to imitate
FEWEST_GRADED = 30  # as for a verdict: fewer answers cannot tell weights apart
FEW_STEPS = 100  # fewer optimizer steps than this rarely teach a format and a task
TOKENS_LOW, TOKENS_HIGH = 256, 16384
LOGITS = 2**27  # bytes: the chunk of logits at hand and what its backward pass needs (model/head.py)


@dataclass(frozen=True, slots=True)
class DefaultsContext:
    """What the auto values are made from.

    family: the architecture's name (llama, qwen2). hidden, layers, vocabulary: its sizes. weights: number of
    parameters. fresh: started from random weights. rows: training rows. validation_rows. memory: bytes in all
    of the device that trains. model_state_bytes: what weights, gradients and the optimizer's state take of a
    GPU's memory; None: on the CPU, whose memory other programs need too. inner: width of the MLP (of all
    experts that a token goes to), 0 for four times hidden. sample: training rows, a step's or more.
    ungradable_reason: why answers to validation rows cannot be graded during training, in words; "" when they
    can.
    """

    family: str
    hidden: int
    layers: int
    vocabulary: int
    weights: int
    fresh: bool
    rows: int
    validation_rows: int
    memory: int
    model_state_bytes: int | None = None
    inner: int = 0
    sample: tuple[Row, ...] = ()
    ungradable_reason: str = "there is nothing to grade"


@dataclass(frozen=True, slots=True)
class Resolved:
    """The train section without any auto; for each replaced key its reason, and warnings, in words."""

    config: TrainConfig
    reasons: Mapping[str, str]
    warnings: tuple[str, ...]


def resolve(config: TrainConfig, facts: DefaultsContext) -> Resolved:
    """Replace every auto by a value with a reason; warn where a value that was set looks wrong."""
    values = config.model_dump()
    reasons: dict[str, str] = {}

    def fill(key: str, value: float | str | None, reason: str) -> None:
        if values[key] == "auto":
            values[key], reasons[key] = value, reason

    rate, why = learning_rate(config.adapter, facts, config.method)
    if config.method in RL_METHODS:
        rate, why = _two_digits(rate / REWARD_SLOWER), f"{why}; less by {REWARD_SLOWER} for rewards"
        fill("patience", None, "never: rewards go up and down")
        fill("select", "score" if facts.validation_rows else "loss", "of answers, which rewards are about")
    fill("learning_rate", rate, why)
    fill("epochs", *epochs(facts, config.method))
    if "beta" in PREFERENCE_METHODS.get(config.method, ()) and config.beta is None:
        values["beta"] = BETA.get(config.method, DEFAULT_BETA)
        reasons["beta"] = f"usual for {config.method}"
    fill("batch_size", *batch_size(facts, float(values["epochs"])))
    trained, batch = facts, values["batch_size"]
    if config.method in RL_METHODS:
        sampled = tuple(row for known in facts.sample for row in as_group(known, config.group_size))
        trained, batch = replace(facts, sample=sampled), batch * config.group_size
    fill("micro_tokens", *micro_tokens(trained, config.adapter, batch, config.checkpointing))
    per_epoch = math.ceil(facts.rows / values["batch_size"])
    steps = max(1, round(values["epochs"] * per_epoch))
    if config.max_steps is not None:
        steps = min(steps, config.max_steps)
    fill("validate_every", *validate_every(facts, steps, per_epoch, values["batch_size"]))
    every = values["validate_every"]
    fill("save_every", every, "as often as the validation loss is taken")
    fill("patience", *patience(facts))
    fill("select", *select(facts, int(every), int(values["batch_size"])))
    warnings = tuple(_warnings(config, facts, rate, why))
    return Resolved(TrainConfig.model_validate(values), reasons, warnings)


def learning_rate(adapter: str, facts: DefaultsContext, method: str = "sft") -> tuple[float, str]:
    """The peak learning rate and its reason; of most preference tuning a fifth of it.

    LoRA: 5e-5 * 10 * (2000 / hidden)^p, p = 0.781 (0.0775 for Qwen), fitted by tinker-cookbook on instruction
    tuning, at most 5e-3. Full fine-tuning: a tenth of it. Fresh weights: 1e-3 at width 256, less when wider.
    """
    if method in PREFERENCE_METHODS and method not in AS_SFT:
        rate, why = learning_rate(adapter, facts)
        return _two_digits(rate / SFT_OVER_PREFERENCE), f"a fifth of that of sft ({why})"
    if facts.fresh and adapter == "none":
        rate = _two_digits(min(3e-3, 1e-3 * math.sqrt(256 / facts.hidden)))
        return rate, f"training from random weights, width {facts.hidden}"
    power = 0.0775 if facts.family.startswith("qwen") else 0.781
    rate = min(5e-3, 5e-4 * (2000 / facts.hidden) ** power)
    if adapter == "none":
        rate = _two_digits(rate / LORA_OVER_FULL)
        return rate, f"full fine-tuning of a {facts.family} of width {facts.hidden}; LoRA takes ten times it"
    rate = _two_digits(rate)
    return rate, f"LoRA on a {facts.family} of width {facts.hidden}; ten times that of full fine-tuning"


def epochs(facts: DefaultsContext, method: str = "sft") -> tuple[float, str]:
    """Passes over the rows: about 12,000 rows seen in all, between 2 and 10 passes; 1 to 3 over pairs."""
    if method in PREFERENCE_METHODS:
        passes = min(3, max(1, math.ceil(3000 / facts.rows)))
        return float(passes), f"{facts.rows} pairs, which are soon known by heart: 1 to 3 times"
    passes = min(10, max(2, math.ceil(12000 / facts.rows)))
    return float(passes), f"{facts.rows} training rows: fewer rows are seen more often, 2 to 10 times"


def batch_size(facts: DefaultsContext, passes: float) -> tuple[int, str]:
    """Rows per step: 16, or less where that leaves fewer than 100 steps."""
    for size in (16, 8, 4, 2):
        if passes * facts.rows / size >= FEW_STEPS:
            break
    else:
        size = 1
    if size == 16:
        return size, "16 rows a step"
    return size, f"{facts.rows} rows, {passes:g} epochs: less than 16, for about {FEW_STEPS} steps or more"


def micro_tokens(
    facts: DefaultsContext, adapter: str = "lora", batch: int = 16, checkpointing: bool = False
) -> tuple[int, str]:
    """Distinct tokens of a micro-tree: what fits into a share of the memory, 256 to 16,384, and on the CPU no
    more than what shared prefixes ask for.

    The share is a quarter of what the weights leave; on the CPU also at most three quarters of what float32
    weights take, or 1 GiB. A token of a layer holds at most about 10 vectors of the model's width for its
    backward pass and 3 of the MLP's, float32: 2.1 MiB a token for the shape of Qwen2.5-0.5B, where 2.2 were
    measured before the gated product was computed again (benchmarks/memory.py). In bfloat16 half of them stay
    float32 (norms) or are kept twice (inputs of adapters), so the same is reckoned. With train.checkpointing
    a layer holds its input alone, and one layer at a time the rest.
    """
    vectors = 10 * facts.hidden + 3 * (facts.inner or 4 * facts.hidden)
    per_token = 4 * (facts.layers * facts.hidden + vectors if checkpointing else facts.layers * vectors)
    trained = 16 if adapter == "none" else 4  # bytes: weight; gradient and two moments besides
    room = (
        max(
            0,
            facts.memory
            - (trained * facts.weights if facts.model_state_bytes is None else facts.model_state_bytes),
        )
        / 4
    )
    if facts.model_state_bytes is None:
        room = min(room, max(2**30, 3 * facts.weights))
    tokens = 128 * int(max(TOKENS_LOW, min(TOKENS_HIGH, (room - LOGITS) / per_token)) / 128)
    most = tokens
    if facts.model_state_bytes is None and facts.sample:
        tokens = _small_trees(facts.sample[:batch], most, 512 if adapter == "none" else 768)
    gib = facts.memory / 2**30
    why = f"about {tokens * per_token / 2**20:.0f} MiB of activations, in {gib:.0f} GiB of memory"
    return tokens, why if tokens == most else f"{why}; more would save little time: these rows share little"


def _small_trees(rows: tuple[Row, ...], most: int, least: int) -> int:
    """The smallest of `least` and its doubles at which micro-trees compute at most a tenth more.

    A CPU is a few percent faster with larger trees, and memory goes with them (log.md); what counts beyond
    is that prefixes are not computed again in each tree. Trained weights need memory of their own, so those
    trees are the smaller ones.
    """
    whole = len(PrefixTree.build(rows))
    for tokens in (least, 2 * least, 4 * least, 8 * least):
        if tokens < most and sum(len(tree) for tree in microtrees(rows, tokens)) <= 1.1 * whole:
            return tokens
    return most


def as_group(row: Row, size: int) -> Iterator[Row]:
    """As many answers to a row's question as are sampled, as long as the row's own and all different."""
    start = int(np.flatnonzero(row.weight)[0]) if row.weight.any() else len(row) - 1
    answer_T, apart = row.tokens[start:], 1 + int(row.tokens.max())
    for number in range(size):
        yield Row(np.concatenate([row.tokens[:start], answer_T + number * apart]), row.weight)


def inner_width(config: Any) -> int:
    """Width of the MLP by a transformers configuration, of all experts that a token goes to; 0: not named."""
    names = ("moe_intermediate_size", "intermediate_size", "ffn_dim", "ffn_hidden_size", "n_inner")
    width = next((value for name in names if isinstance(value := getattr(config, name, None), int)), 0)
    return int(width * (getattr(config, "num_experts_per_tok", None) or 1))


def validate_every(facts: DefaultsContext, steps: int, per_epoch: int, batch: int) -> tuple[int, str]:
    """Steps between validations: ten in all, at least one an epoch, and rarely enough to stay cheap."""
    if facts.validation_rows == 0:
        return max(1, min(per_epoch, steps)), "once an epoch (there are no validation rows)"
    often = max(1, min(per_epoch, steps // 10))
    cheap = math.ceil(facts.validation_rows / batch)
    every = max(1, min(max(often, cheap), steps))
    return every, f"{steps} steps: about {max(1, steps // every)} validations of {facts.validation_rows} rows"


def patience(facts: DefaultsContext) -> tuple[int | None, str]:
    """Validations without improvement before stopping: 4; the best weights are kept in any case."""
    if facts.validation_rows == 0:
        return None, "never: there are no validation rows"
    return 4, "four validations without improvement; the best weights are kept"


def select(facts: DefaultsContext, every: int, batch: int) -> tuple[str, str]:
    """What chooses the best weights: the score where answering costs less than half of the training.

    A token in training counts three (forward and twice that backward), one of an answer five: it is computed
    alone, after the one before it. Between two validations are `every` steps of `batch` rows.
    """
    if facts.ungradable_reason or not facts.validation_rows:
        return "loss", facts.ungradable_reason or "there are no validation rows"
    if facts.validation_rows < FEWEST_GRADED:
        return "loss", f"the score of {facts.validation_rows} validation rows is mostly chance"
    rows = len(facts.sample) or 1
    scored = sum(int((row.weight > 0).sum()) for row in facts.sample) / rows
    length = sum(map(len, facts.sample)) / rows
    answering = min(facts.validation_rows, MOST) * (length - scored + 5 * scored)
    share = answering / max(1.0, 3 * every * batch * length)
    if share > 0.5:
        return "loss", f"grading answers would take {share:.1f} times as long as training"
    return "score", f"of answers to {min(facts.validation_rows, MOST)} validation rows, then the loss"


def _two_digits(value: float) -> float:
    return float(f"{value:.1e}")


def _warnings(config: TrainConfig, facts: DefaultsContext, rate: float, why: str) -> list[str]:
    found = []
    if config.learning_rate != "auto" and not rate / 10 <= config.learning_rate <= rate * 10:
        far = "higher" if config.learning_rate > rate else "lower"
        times = max(config.learning_rate / rate, rate / config.learning_rate)
        found.append(
            f"train.learning_rate {config.learning_rate:g} is {times:.0f} times {far} than {rate:g}, which "
            f"auto would take ({why}). Rates are often copied between full fine-tuning and LoRA by mistake."
        )
    if facts.fresh and config.adapter != "none":
        found.append(
            f"The model starts from random weights, and train.adapter {config.adapter} trains only a small "
            "part of them: set train.adapter none."
        )
    return found
