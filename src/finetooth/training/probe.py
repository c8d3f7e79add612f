"""A training's estimate: printed before the first step, corrected by the first two, compared with the peak.

train/estimate.json keeps it, in bytes and seconds; docs/reference.md says what its keys mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from finetooth import machine
from finetooth.config.task import TrainConfig
from finetooth.model.device import held_memory, usable_memory
from finetooth.rundir import write_json
from finetooth.training.estimate import (
    PROBED_STEPS,
    MemoryEstimate,
    MemoryFacts,
    Workload,
    corrected,
    duration,
    gib,
    require_memory,
    training_seconds,
)


class Probe:
    """Follows one training. config: without any auto. report: prints one line."""

    def __init__(
        self,
        facts: MemoryFacts,
        work: Workload,
        config: TrainConfig,
        model: str,
        device: torch.device,
        path: Path,
        report: Callable[[str], None],
    ) -> None:
        """Raises ConfigError, with what would help, where the training does not fit into memory."""
        self.facts, self.work, self.config, self.model = facts, work, config, model
        self.device, self.report, self.file = device, report, path / "train" / "estimate.json"
        self.usable = usable_memory(device)
        self._steps = self._before = 0
        self._validation = 0.0
        found = self._require(facts)
        self.kept: dict[str, Any] = {
            "predicted": found.peak,
            "phase": found.phase,
            "parts": dict(found.parts),
            "usable": self.usable,
            "facts": asdict(facts),
            "workload": asdict(work),
        }

    def start(self) -> None:
        """Print and keep the estimate: what follows is what it is about."""
        self.report(f"memory: about {gib(self.kept['predicted'])} of {gib(self.usable)}")
        write_json(self.file, self.kept)

    def validated(self, seconds: float) -> None:
        """The validation before the first step took so long."""
        self._validation = seconds

    def before_step(self) -> None:
        """A step begins."""
        if self._steps == 0:
            machine.release_free_memory()
            self._before = held_memory(self.device)[1]

    def after_step(self, tokens: int, seconds: float) -> None:
        """A step has computed so many tokens. After the second one the estimate is corrected, and printed.

        Raises ConfigError where the training turns out not to fit.
        """
        self._steps += 1
        if self._steps != PROBED_STEPS:
            return
        facts = corrected(self.facts, self.work, self._before, held_memory(self.device)[1])
        found = self._require(facts)
        every = self.config.validate_every
        assert isinstance(every, int), "the configuration is resolved"
        validations = math.ceil(self.work.steps / every)
        total = training_seconds(self.work, tokens, seconds, validations, self._validation)
        self.kept |= {"corrected": found.peak, "seconds": round(total, 1)}
        self.report(
            f"memory: about {gib(found.peak)} of {gib(self.usable)}; "
            f"about {duration(total)} for {self.work.steps} steps"
        )
        write_json(self.file, self.kept)

    def finish(self) -> None:
        """Training has ended: print the peak beside the prediction, and keep it."""
        measured = held_memory(self.device)[1]
        if measured:
            self.kept["measured"] = measured
            self.report(f"memory: {gib(measured)} at most, {gib(self.kept['predicted'])} predicted")
        write_json(self.file, self.kept)

    def _require(self, facts: MemoryFacts) -> MemoryEstimate:
        budget = self.config.micro_tokens
        assert isinstance(budget, int), "the configuration is resolved"
        return require_memory(facts, self.work, budget, self.usable, self.model)
