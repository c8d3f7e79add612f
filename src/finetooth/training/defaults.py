"""Automatic defaults of the train section: the value of every `auto` and its reason, as pure functions.

The values are tuned for small models and a few hundred to some ten thousand rows. They depend on the model,
the rows and the total memory of the machine, never on free memory, so that runs are reproducible.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finetooth.config.method_keys import BETA, DEFAULT_BETA, PREFERENCE_METHODS, RL_METHODS
from finetooth.config.task import TrainConfig
from finetooth.training.estimate import layer_activations
from finetooth.training.schedule import group_by_unit
from finetooth.training.selection import MOST
from finetooth.tree import RECOMPUTED, PrefixTree, Row, microtrees

LORA_OVER_FULL = 10.0  # learning rate ratio; "LoRA without regret" (Thinking Machines 2025)
SFT_OVER_PREFERENCE = 5.0
AS_SFT = ("orpo", "simpo", "reward_model")  # preference methods whose loss has no reference model
SFT_OVER_RL = 5  # rewards are a noisier signal than answers to imitate
FEWEST_GRADED = 30  # as for a verdict: fewer graded answers cannot rank checkpoints
MOST_ROWS = 16  # of a step
FEW_STEPS = 100  # fewer optimizer steps than this rarely teach a format and a task
TOKENS_LOW, TOKENS_HIGH = 256, 16384
SMALL = 50_000_000  # weights: fewer than a real model has, so that a small tree is as fast
LOGITS = 2**27  # bytes: one chunk of logits and what its backward pass needs (model/head.py)


@dataclass(frozen=True, slots=True)
class DefaultsContext:
    """The facts that the auto values depend on.

    family: architecture name (llama, qwen2). hidden, layers, vocabulary: its sizes. weights: number of
    parameters. fresh: initialised with random weights. rows, validation_rows: their numbers. memory: total
    bytes of the training device. model_state_bytes: what weights, gradients and optimizer state take of a
    GPU's memory; None on the CPU, whose memory is shared with other programs. inner: width of the MLP (of all
    experts that a token is routed to), 0 for four times hidden. sample: training rows, at least one step's.
    ungradable_reason: why answers to validation rows cannot be graded during training; "" if they can.
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
    """The train section without any auto, the reason for each replaced key, and warnings."""

    config: TrainConfig
    reasons: Mapping[str, str]
    warnings: tuple[str, ...]


def resolve(config: TrainConfig, facts: DefaultsContext) -> Resolved:  # long: one default after another
    """Replace every auto by a value with a reason; warn about explicit values that look wrong."""
    values = config.model_dump()
    reasons: dict[str, str] = {}

    def fill(key: str, value: float | str | None, reason: str) -> None:
        if values[key] == "auto":
            values[key], reasons[key] = value, reason

    rate, rate_reason = learning_rate(config.adapter, facts, config.method)
    if config.method in RL_METHODS:
        rate = _two_digits(rate / SFT_OVER_RL)
        rate_reason = f"{rate_reason}; divided by {SFT_OVER_RL} for reinforcement learning"
        fill("patience", None, "no early stopping: rewards are too noisy")
        select_reason = "graded answers are what rewards are meant to improve"
        fill("select", "score" if facts.validation_rows else "loss", select_reason)
    fill("learning_rate", rate, rate_reason)
    fill("epochs", *epochs(facts, config.method))
    if "beta" in PREFERENCE_METHODS.get(config.method, ()) and config.beta is None:
        values["beta"] = BETA.get(config.method, DEFAULT_BETA)
        reasons["beta"] = f"default for {config.method}"
    fill("batch_size", *batch_size(facts, float(values["epochs"])))
    batch, group = values["batch_size"], config.group_size if config.method in RL_METHODS else 1
    budget, budget_reason = micro_tokens(facts, config.adapter, batch, config.checkpointing, group)
    fill("micro_tokens", budget, budget_reason)
    per_epoch = math.ceil(facts.rows / values["batch_size"])
    steps = max(1, round(values["epochs"] * per_epoch))
    if config.max_steps is not None:
        steps = min(steps, config.max_steps)
    fill("validate_every", *validate_every(facts, steps, per_epoch, values["batch_size"]))
    every = values["validate_every"]
    fill("save_every", every, "at every validation")
    if facts.validation_rows:
        fill("patience", 4, "stop after four validations without improvement; the best weights are kept")
    else:
        fill("patience", None, "no early stopping: there are no validation rows")
    fill("select", *select(facts, int(every), int(values["batch_size"])))
    warnings = []
    if config.learning_rate != "auto" and not rate / 10 <= config.learning_rate <= rate * 10:
        direction = "higher" if config.learning_rate > rate else "lower"
        times = max(config.learning_rate / rate, rate / config.learning_rate)
        warnings.append(
            f"train.learning_rate {config.learning_rate:g} is {times:.0f} times {direction} than the default "
            f"{rate:g} ({rate_reason}). LoRA takes about ten times the rate of full fine-tuning."
        )
    if config.micro_tokens != "auto":
        sampled = _sample_steps(facts.sample, batch, group)
        times, auto_times = (recomputation(sampled, size) for size in (config.micro_tokens, budget))
        if times > max(RECOMPUTED, 1.05 * auto_times):
            warnings.append(
                f"train.micro_tokens {config.micro_tokens} is too small for what rows share: each micro-tree "
                f"computes it again, so a step computes up to {times:.1f} times its distinct tokens. With "
                f"auto ({budget}) it is {auto_times:.1f} times."
            )
    if facts.fresh and config.adapter != "none":
        warnings.append(
            f"The model has random weights, and train.adapter {config.adapter} trains only a small part of "
            "them: set train.adapter none."
        )
    return Resolved(TrainConfig.model_validate(values), reasons, tuple(warnings))


def learning_rate(adapter: str, facts: DefaultsContext, method: str = "sft") -> tuple[float, str]:
    """The peak learning rate and its reason; a fifth of it for most preference methods.

    LoRA: 5e-5 * 10 * (2000 / hidden)^p, p = 0.781 (0.0775 for Qwen), fitted by tinker-cookbook on instruction
    tuning, at most 5e-3. Full fine-tuning: a tenth of it. Random weights: 1e-3 at hidden size 256, less
    above.
    """
    if method in PREFERENCE_METHODS and method not in AS_SFT:
        rate, reason = learning_rate(adapter, facts)
        return _two_digits(rate / SFT_OVER_PREFERENCE), f"a fifth of the SFT rate ({reason})"
    if facts.fresh and adapter == "none":
        rate = _two_digits(min(3e-3, 1e-3 * math.sqrt(256 / facts.hidden)))
        return rate, f"training from random weights, hidden size {facts.hidden}"
    power = 0.0775 if facts.family.startswith("qwen") else 0.781
    rate = min(5e-3, 5e-4 * (2000 / facts.hidden) ** power)
    model = f"{facts.family}, hidden size {facts.hidden}"
    if adapter == "none":
        return _two_digits(rate / LORA_OVER_FULL), f"full fine-tuning of {model}; a tenth of the LoRA rate"
    return _two_digits(rate), f"LoRA on {model}; ten times the full fine-tuning rate"


def epochs(facts: DefaultsContext, method: str = "sft") -> tuple[float, str]:
    """Epochs: about 12,000 rows seen in total, between 2 and 10 epochs; 1 to 3 for preference pairs."""
    if method in PREFERENCE_METHODS:
        passes = min(3, max(1, math.ceil(3000 / facts.rows)))
        return float(passes), f"{facts.rows} pairs, which are quickly memorised: 1 to 3 epochs"
    passes = min(10, max(2, math.ceil(12000 / facts.rows)))
    return float(passes), f"{facts.rows} training rows; the fewer rows, the more epochs, 2 to 10"


def batch_size(facts: DefaultsContext, passes: float) -> tuple[int, str]:
    """Rows per optimizer step: 16, or fewer where 16 would leave fewer than 100 steps."""
    for size in (MOST_ROWS, 8, 4, 2, 1):
        if passes * facts.rows / size >= FEW_STEPS:
            break
    if size == MOST_ROWS:
        return size, f"{MOST_ROWS} rows per step"
    return (
        size,
        f"{facts.rows} rows, {passes:g} epochs: below {MOST_ROWS} for about {FEW_STEPS} steps or more",
    )


def micro_tokens(
    facts: DefaultsContext,
    adapter: str = "lora",
    batch: int = 16,
    checkpointing: bool = False,
    group: int = 1,
) -> tuple[int, str]:
    """Distinct tokens of a micro-tree: what fits into a share of the memory, 256 to 16,384; on the CPU no
    more than shared prefixes benefit from.

    The share is a quarter of what the weights leave. On the CPU it is also at most three quarters of the size
    of the weights in float32, or 2 GiB, unless prefixes that rows share would then be computed more than a
    tenth again. What a layer keeps is layer_activations: in bfloat16 half of it stays float32 (norms) or is
    kept twice (adapter inputs), so the estimate is the same. With train.checkpointing a layer keeps only its
    input, and one layer at a time the rest. group: answers sampled for each row.
    """
    layer = layer_activations(facts.hidden, facts.inner or 4 * facts.hidden)
    per_token = 4 * facts.layers * facts.hidden + layer if checkpointing else facts.layers * layer

    def fitting(memory: float) -> int:
        return 128 * int(max(TOKENS_LOW, min(TOKENS_HIGH, (memory - LOGITS) / per_token)) / 128)

    if facts.model_state_bytes is None:  # bytes per weight: the weight; gradient and two moments if trained
        room = max(0, facts.memory - (16 if adapter == "none" else 4) * facts.weights) / 4
        usual, most = fitting(min(room, max(2**31, 3 * facts.weights))), fitting(room)
    else:
        usual = most = fitting(max(0, facts.memory - facts.model_state_bytes) / 4)
    tokens, steps = usual, _sample_steps(facts.sample, batch, group)
    if facts.model_state_bytes is None and steps:
        # Beyond these sizes a CPU is hardly faster, and memory grows with the tree (log.md). Take the first
        # at which recomputing shared prefixes in each tree costs at most a tenth. Full fine-tuning needs
        # memory for gradients and moments, so its trees start smaller.
        least = 512 if adapter == "none" else 768 if facts.weights < SMALL else 1536
        doublings = [least * 2**power for power in range(6)]
        sizes = sorted({usual, most, *(size for size in doublings if size < most)})
        bearable = max(RECOMPUTED, 1.05 * recomputation(steps, most))
        tokens = next(size for size in sizes if recomputation(steps, size) <= bearable)
    gib = facts.memory / 2**30
    reason = f"about {tokens * per_token / 2**20:.0f} MiB of activations in {gib:.0f} GiB of memory"
    if tokens < usual:
        reason += "; a larger budget would not be faster for these rows"
    elif tokens > usual:
        reason += "; with less, prefixes that rows share would be computed several times"
    if (times := recomputation(steps, tokens)) > RECOMPUTED:
        reason += f"; memory allows no more, so steps compute up to {times:.1f} times their distinct tokens"
    return tokens, reason


def _sample_steps(sample: Sequence[Row], batch: int, group: int) -> list[list[Row]]:
    """The rows of a few steps: disjoint batches of units from all over the sample."""
    units = group_by_unit(sample)
    number = max(1, len(units) // batch)
    steps = [[row for unit in units[at::number][:batch] for row in unit] for at in range(number) if units]
    return [[one for row in step for one in as_group(row, group)] if group > 1 else step for step in steps]


def recomputation(steps: Sequence[Sequence[Row]], budget: int) -> float:
    """Computed tokens over distinct tokens of a step, in the worst of these steps; 1 if there are none."""
    computed = [sum(map(len, microtrees(rows, budget))) / len(PrefixTree.build(rows)) for rows in steps]
    return max(computed, default=1.0)


def as_group(row: Row, size: int) -> Iterator[Row]:
    """Stand-ins for the answers sampled in RL: `size` different answers as long as the row's own."""
    start = int(np.flatnonzero(row.weight)[0]) if row.weight.any() else len(row) - 1
    answer_T, offset = row.tokens[start:], 1 + int(row.tokens.max())
    for number in range(size):
        yield Row(np.concatenate([row.tokens[:start], answer_T + number * offset]), row.weight)


def answer_tokens(longest: int, limit: int) -> int:
    """evaluate.max_tokens, by the longest expected answer and the longest row."""
    return min(limit, longest + max(8, math.ceil(longest / 4)))


def inner_width(config: Any) -> int:
    """MLP width in a transformers config, summed over the experts a token is routed to; 0 if not found."""
    names = ("moe_intermediate_size", "intermediate_size", "ffn_dim", "ffn_hidden_size", "n_inner")
    width = next((value for name in names if isinstance(value := getattr(config, name, None), int)), 0)
    return int(width * (getattr(config, "num_experts_per_tok", None) or 1))


def validate_every(facts: DefaultsContext, steps: int, per_epoch: int, batch: int) -> tuple[int, str]:
    """Steps between validations: ten in total, at least one per epoch, and rare enough to stay cheap."""
    if facts.validation_rows == 0:
        return max(1, min(per_epoch, steps)), "once per epoch (there are no validation rows)"
    often = max(1, min(per_epoch, steps // 10))
    cheap = math.ceil(facts.validation_rows / batch)
    every = max(1, min(max(often, cheap), steps))
    return every, f"{steps} steps: about {max(1, steps // every)} validations of {facts.validation_rows} rows"


def select(facts: DefaultsContext, every: int, batch: int) -> tuple[str, str]:
    """Checkpoint selection metric: the score where generating answers costs less than half of the training.

    A training token counts 3 (forward and backward), a generated one 5, since decoding is sequential. Between
    two validations are `every` steps of `batch` rows.
    """
    if facts.ungradable_reason or not facts.validation_rows:
        return "loss", facts.ungradable_reason or "there are no validation rows"
    if facts.validation_rows < FEWEST_GRADED:
        return "loss", f"{facts.validation_rows} validation rows are too few for a reliable score"
    rows = len(facts.sample) or 1
    scored = sum(int((row.weight > 0).sum()) for row in facts.sample) / rows
    length = sum(map(len, facts.sample)) / rows
    answering = min(facts.validation_rows, MOST) * (length - scored + 5 * scored)
    share = answering / max(1.0, 3 * every * batch * length)
    if share > 0.5:
        return "loss", f"generating answers would take {share:.1f} times as long as training"
    return (
        "score",
        f"answers to {min(facts.validation_rows, MOST)} validation rows are graded; the loss decides ties",
    )


def _two_digits(value: float) -> float:
    return float(f"{value:.1e}")
