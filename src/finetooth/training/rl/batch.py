"""The rollouts of one step, their metrics and their log lines.

Axes: R rollouts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from finetooth.rundir import append_jsonl
from finetooth.training.step import StepResult
from finetooth.tree import Floats, Ints, Row
from finetooth.types import Completion, Example, Score


@dataclass(frozen=True, slots=True)
class RolloutPrompt:
    """A prompt to sample answers for. row: the context rendered as in evaluation."""

    example: Example
    row: Row


@dataclass(frozen=True, slots=True)
class Rollout:
    """One sampled answer. prompt: the index of its prompt among all prompts. score: the graders' result."""

    prompt: int
    completion: Completion
    score: Score


@dataclass(slots=True)
class RolloutBatch:
    """The rollouts of a step.

    reward_R: after train.truncated is applied; NaN if unknown. group_R: the prompt of each rollout.
    groups: all groups that were sampled; same: how many of them had equal rewards throughout.
    """

    rollouts: list[Rollout] = field(default_factory=list)
    reward_R: Floats = field(default_factory=lambda: np.zeros(0))
    group_R: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    groups: int = 0
    same: int = 0

    def part(self, groups: Sequence[int]) -> RolloutBatch:
        """The rollouts of these prompts."""
        at = np.flatnonzero(np.isin(self.group_R, groups))
        return RolloutBatch([self.rollouts[index] for index in at], self.reward_R[at], self.group_R[at])

    def joined(self, other: RolloutBatch) -> RolloutBatch:
        """Both batches, concatenated."""
        return RolloutBatch(
            [*self.rollouts, *other.rollouts],
            np.concatenate([self.reward_R, other.reward_R]),
            np.concatenate([self.group_R, other.group_R]),
        )

    def no_reward_reason(self) -> str:
        """Why no rollout has a reward, as text."""
        errors = [rollout.score.error for rollout in self.rollouts if rollout.score.error]
        if errors:
            return f"the reward failed on {len(errors)}. The first error: {errors[0]}"
        return (
            "all of them were cut at evaluate.max_tokens, and train.truncated is mask. A larger "
            "evaluate.max_tokens or `--train.truncated penalise` helps."
        )

    def line(self, results: Sequence[StepResult]) -> dict[str, Any]:
        """The step's metrics for metrics.jsonl besides its loss. results: of its updates, first to last."""
        known_R = self.reward_R[~np.isnan(self.reward_R)]
        completions = [rollout.completion for rollout in self.rollouts]
        logp = np.concatenate([completion.logprobs for completion in completions])
        low, middle, high = np.quantile(known_R, [0.1, 0.5, 0.9]).tolist()
        first, last = results[0].metrics, results[-1].metrics
        return {
            "reward": float(known_R.mean()),
            "rewarded": int(known_R.size),
            "reward_deviation": float(known_R.std()),
            "reward_low": low,
            "reward_middle": middle,
            "reward_high": high,
            "rollouts": len(completions),
            "groups": self.groups,
            "same_groups": self.same / max(1, self.groups),
            "truncated": float(np.mean([completion.stop == "length" for completion in completions])),
            "grader_errors": sum(rollout.score.value is None for rollout in self.rollouts),
            "answer_tokens": float(np.mean([len(completion.tokens) for completion in completions])),
            "entropy": float(-logp.mean()),
            "gap": first["gap"],
            "gap_max": first["gap_max"],
            "clipped": last["clipped"],
            **({"kl": last["kl"]} if "kl" in last else {}),
        }

    def write(self, path: Path, step: int, prompts: Sequence[RolloutPrompt], advantage_R: Floats) -> None:
        """Append one line per rollout; unknown values are null."""
        lines = []
        numbers = zip(self.reward_R.tolist(), advantage_R.tolist(), strict=True)
        for rollout, (reward, advantage) in zip(self.rollouts, numbers, strict=True):
            completion, score = rollout.completion, rollout.score
            line = {
                "step": step,
                "id": prompts[rollout.prompt].example.id,
                "sample": completion.sample,
                "text": completion.text,
                "score": score.value,
                "reward": None if np.isnan(reward) else reward,
                "advantage": None if np.isnan(advantage) else advantage,
                "reason": score.reason,
                "error": score.error,
                "tokens": len(completion.tokens),
                "stop": completion.stop,
            }
            lines.append(line)
        append_jsonl(path, lines)
