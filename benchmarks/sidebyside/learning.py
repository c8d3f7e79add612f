"""Learning from rewards and from preferences: steps of finetooth beside those of TRL's trainers."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sidebyside.models import LITTLE, make_adapter
from sidebyside.rows import GROUP, SYSTEM_PROMPT, answered_rows
from sidebyside.training import RANK, Setting, System, TrainingCase, run_training, told

PROMPTS, PAIRS, BETA = 2, 8, 0.1
SIZES = (1, 4, 16)  # rows of TRL's micro-batch that are tried; of DPO's, which has pairs, as many or two

# finetooth without its tree; TRL as it is, and with the output head at answers alone, as it does on GPUs.
UNSHARED = System("finetooth-unshared", "run_finetooth.py", "", {"unshared": True})
TRL = System("trl", "run_trl_learning.py", "hf")
ANSWERS_ONLY = System("trl-answers-only", "run_trl_learning.py", "hf", {"answers_only": True})
REFERENCE = System("trl-reference", "run_trl_learning.py", "hf", {"reference_each_step": True})
OURS = System("finetooth", "run_finetooth.py", "")
SYSTEMS = {
    "grpo": [OURS, UNSHARED, TRL, ANSWERS_ONLY],
    "dpo": [OURS, UNSHARED, TRL, ANSWERS_ONLY, REFERENCE],
    "sampled": [OURS, TRL],
}


def learning_cases(
    vocabulary: int = LITTLE["vocab_size"], prompt: int = SYSTEM_PROMPT
) -> dict[str, TrainingCase]:
    """The cases by name; prompt: its tokens.

    The learning rate is 0: every round is the same step on the same weights, so that gradients can be
    compared in each of them. The optimizer does all that it does otherwise.
    """
    groups = answered_rows(PROMPTS, GROUP, vocabulary, shared=prompt)
    pairs = answered_rows(PAIRS, 2, vocabulary, shared=prompt)
    more = {"rate": 0.0, "beta": BETA}
    words = {"lora": "LoRA", "none": "every weight"}
    found = {}
    for adapter, said in words.items():
        name = "lora" if adapter == "lora" else "full"
        found[f"grpo-{name}"] = TrainingCase(
            f"GRPO, {PROMPTS} groups of {GROUP}, {said}", groups, adapter, "rewarded", more, alike=True
        )
        found[f"dpo-{name}"] = TrainingCase(
            f"DPO, {PAIRS} pairs, {said}", pairs, adapter, "preferred", more, alike=True
        )
    title = f"GRPO with sampling, {PROMPTS} groups of {GROUP}, LoRA"
    return found | {"sampled-lora": TrainingCase(title, groups, "lora", "sampled", more)}


def systems_of(name: str) -> list[System]:
    """Those that a case compares."""
    return SYSTEMS[name.partition("-")[0]]


def run_learning(case: TrainingCase, systems: Sequence[System], setting: Setting) -> dict[str, Any]:
    """All that run_training finds; TRL with the micro-batch that is fastest in one step each beforehand."""
    start = setting.model
    if case.adapter == "lora":
        start = make_adapter(setting.room / "adapter", setting.model, RANK)
    case = replace(case, more={**case.more, "start": str(start)})
    searched = {
        size: seconds_of(case, size, setting)
        for size in SIZES
        if any(system.environment for system in systems)
    }
    if searched:
        best = {"micro": micro(case, min(searched, key=searched.__getitem__))}
        systems = [
            replace(system, options=best | dict(system.options)) if system.environment else system
            for system in systems
        ]
    return run_training(case, systems, setting) | {"alike": case.alike, "searched": searched}


def micro(case: TrainingCase, rows: int) -> int:
    """The micro-batch that TRL is told: a row of its DPO data is a pair."""
    return max(1, rows // 2) if case.task == "preferred" else rows


def seconds_of(case: TrainingCase, rows: int, setting: Setting) -> float:
    """Of TRL's second step with micro-batches of so many rows."""
    system = replace(TRL, name=f"trl-{rows}", options={"micro": micro(case, rows)})
    child = setting.child(system, told(case, setting))
    child.ready()
    with setting.quiet:
        child.turn()
        seconds: float = child.turn()["seconds"]
    child.stop()
    print(f"  {child.name}: {seconds:.1f} s", file=sys.stderr, flush=True)
    return seconds
