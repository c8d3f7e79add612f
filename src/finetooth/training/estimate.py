"""The memory and the time of a training: estimated before it starts, corrected by its first two steps.

A training goes through phases. All of them hold the process itself (interpreter, libraries, rows) and the
weights; the peak is that of the phase with the largest sum:

    loading     what reading the weights took
    preflight   gradients, optimizer state, a copy of the trained weights, activations, output head
    reloading   gradients, a copy of the trained weights, and what the preflight check saves and reads again
    step        gradients, optimizer state, activations of the largest micro-tree, output head
    answers     gradients, optimizer state, keys and values, logits

Everything here is a pure function of facts. Sizes are in bytes unless another unit is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from finetooth.errors import ConfigError
from finetooth.training.schedule import batch_indices
from finetooth.tree import PrefixTree, Row, microtrees

SAMPLED_STEPS = 16  # steps whose micro-trees are built for the estimate
PROBED_STEPS = 2  # the first steps, which correct it
LIVE_LAYERS = 1.5  # of activations, beside those that are kept: what the backward pass of one layer computes
GAPS = 1.48  # the heap has gaps between activations: freed pieces that fit no later one
MOST_CORRECTION = 4.0  # factor by which two steps may correct the activations


@dataclass(frozen=True, slots=True)
class Workload:
    """The micro-trees of a training, from some of its steps.

    steps: number of all steps. tokens: computed by one of them, on average. largest, scored: tokens of the
    largest micro-tree, and the most tokens of one tree at which the output head is computed. probed: tokens
    of the largest micro-tree of the first two steps. longest: tokens of the longest unit of rows, which no
    budget splits.
    """

    steps: int
    tokens: float
    largest: int
    scored: int
    probed: int
    longest: int


@dataclass(frozen=True, slots=True)
class MemoryFacts:
    """What the memory of a training depends on.

    process: held besides the model. peak: the most that was held so far. weights: all of the model. trained:
    the trained ones, in float32. moments: numbers of the optimizer for each of them. token: activations that
    are kept for each token of a micro-tree, layer_token: of one layer, input_token: with gradient
    checkpointing. head, kept_logits: what the output head takes for each scored token, and at most for all of
    them. head_gradient: gradient of a trained output head before it is added. preflight: whether the check
    comes first. answers: keys, values and logits of the answers at a validation.
    """

    process: int
    peak: int
    weights: int
    trained: int
    optimizer: int
    copies: int
    token: float
    layer_token: float
    input_token: float
    checkpointing: bool
    head: float
    kept_logits: int
    head_gradient: int
    adapter: bool
    preflight: bool
    answers: int


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """phases: phase -> part -> bytes. All but `loading` are still to come."""

    phases: Mapping[str, Mapping[str, int]]

    @property
    def phase(self) -> str:
        """The phase that needs the most."""
        return max(self.phases, key=lambda name: sum(self.phases[name].values()))

    @property
    def parts(self) -> Mapping[str, int]:
        """What that phase holds."""
        return self.phases[self.phase]

    @property
    def peak(self) -> int:
        """The sum of these."""
        return sum(self.parts.values())

    @property
    def to_come(self) -> MemoryEstimate:
        """The phases that are still to come: a process may have held more before, and given it back."""
        return MemoryEstimate({name: parts for name, parts in self.phases.items() if name != "loading"})


def workload(
    units: Sequence[Sequence[Row]], batch_size: int, budget: int, seed: int, total: int, done: int = 0
) -> Workload:
    """The workload of steps `done` (from 0) to `total` over these units of rows. budget: of a micro-tree."""
    probed = range(done, min(total, done + PROBED_STEPS))
    spread = (done + number * (total - done) // SAMPLED_STEPS for number in range(SAMPLED_STEPS))
    computed, largest, scored, first = 0, 0, 0, 0
    steps = sorted({*probed, *spread})
    for step in steps:
        indices = batch_indices(seed, step, len(units), batch_size)
        trees = microtrees([row for index in indices for row in units[index]], budget)
        computed += sum(map(len, trees))
        most = max(map(len, trees))
        largest, scored = max(largest, most), max(scored, max(tree.node_M.size for tree in trees))
        first = max(first, most if step in probed else 0)
    lengthiest = max(units, key=lambda unit: sum(map(len, unit)))
    longest = len(PrefixTree.build(lengthiest))
    return Workload(total - done, computed / len(steps), max(largest, longest), scored, first, longest)


def estimate_memory(facts: MemoryFacts, work: Workload) -> MemoryEstimate:
    """Bytes of every phase, by part."""
    held = {"process": facts.process, "weights": facts.weights}
    gradients = held | {"gradients": facts.trained}
    training = gradients | {"optimizer state": facts.optimizer, "copies": facts.copies}
    computed = {
        "activations": activations(facts, work.largest),
        "output head": output_head(facts, work.scored),
    }
    phases = {
        "loading": {"process": max(facts.process, facts.peak - facts.weights), "weights": facts.weights},
        "step": training | computed,
        "answers": training | {"keys and values": facts.answers},
    }
    if facts.preflight:
        phases["preflight"] = training | {"copies": facts.copies + facts.trained} | computed
        copies = facts.copies + facts.trained + (0 if facts.adapter else facts.weights)
        phases["reloading"] = gradients | {"copies": copies}
    return MemoryEstimate(phases)


def layer_activations(hidden: int, inner: int) -> float:
    """What a layer keeps of each token for its backward pass, where there is no model to count it on.

    About 10 vectors of the hidden size and 3 of the MLP's width, in float32: 2.1 MiB for all layers of the
    shape of Qwen2.5-0.5B, where 2.2 were measured before the gated product was recomputed
    (benchmarks/memory.py). Counted on models (model/activations.py) it is 0.74 of that for SmolLM2-135M and
    1.36 for Gemma 3 270M.
    """
    return 4.0 * (10 * hidden + 3 * inner)


def activations(facts: MemoryFacts, tokens: int) -> int:
    """Activations of a micro-tree in its backward pass."""
    kept = facts.input_token + facts.layer_token if facts.checkpointing else facts.token
    return round(GAPS * tokens * (kept + LIVE_LAYERS * facts.layer_token))


def output_head(facts: MemoryFacts, scored: int) -> int:
    """What the output head takes for so many scored tokens of a micro-tree."""
    return min(round(facts.head * scored), facts.kept_logits) + facts.head_gradient


def corrected(facts: MemoryFacts, work: Workload, before: int, after: int) -> MemoryFacts:
    """The facts with activations as the first two steps had them.

    before, after: the most that the process had held before them and after. Where that did not rise, these
    steps took no more than it.
    """
    held = sum(estimate_memory(facts, work).phases["step"].values()) - activations(facts, work.largest)
    expected = activations(facts, work.probed)
    if expected <= 0 or after <= 0:
        return facts
    found = after - held
    if after <= before:
        found = min(found, expected)
    factor = min(MOST_CORRECTION, max(1 / MOST_CORRECTION, found / expected))
    names = ("token", "layer_token", "input_token")
    return replace(facts, peak=after, **{name: factor * getattr(facts, name) for name in names})


def training_seconds(
    work: Workload, tokens: int, seconds: float, validations: int, validation: float
) -> float:
    """Seconds of all steps and validations, where a step of so many computed tokens took `seconds`, and one
    validation took `validation`.
    """
    return work.steps * work.tokens * seconds / max(1, tokens) + validations * validation


def require_memory(
    facts: MemoryFacts, work: Workload, budget: int, usable: int, model: str
) -> MemoryEstimate:
    """The estimate. Raises ConfigError with what would help where it is more than the usable memory.

    budget: train.micro_tokens.
    """
    estimate = estimate_memory(facts, work)
    found = estimate.to_come
    if found.peak <= usable:
        return estimate
    parts = ", ".join(f"{name} {gib(size)}" for name, size in found.parts.items() if size)
    smaller = max(work.longest, min(budget, work.largest) // 2)
    tree = replace(work, largest=smaller, scored=min(work.scored, smaller))
    options = []
    if smaller < work.largest:
        options.append((f"train.micro_tokens: {smaller}", facts, tree))
    if not facts.checkpointing:
        options.append(("train.checkpointing: true", replace(facts, checkpointing=True), work))
    if not facts.adapter:
        few, state = facts.trained // 50, facts.optimizer // 50
        lora = replace(facts, adapter=True, trained=few, optimizer=state, head_gradient=0, kept_logits=0)
        options.append(("train.adapter: lora", lora, work))
    listed = [
        f"{text} (about {gib(estimate_memory(facts, work).to_come.peak)})"
        for text, facts, work in options
        if estimate_memory(facts, work).to_come.peak < 0.95 * found.peak
    ]
    helps = ", ".join([*listed, f"a smaller model than {model}", "closing other programs"])
    raise ConfigError(
        f"This training needs about {gib(found.peak)} of memory ({parts}), and this process may use "
        f"{gib(usable)}. What helps: {helps}."
    )


def gib(size: float) -> str:
    """A size in words: "1.4 GiB"."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 / 10 else f"{size / 2**20:.0f} MiB"


def duration(seconds: float) -> str:
    """A duration in words: "40 s", "6 min", "3.5 h"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
