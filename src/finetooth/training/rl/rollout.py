"""The steps of reinforcement learning: sample answers, grade them, and turn rewards into training rows.

Training uses the sampled tokens themselves, with the log-probabilities they were sampled with; no text is
tokenised again. Samples are keyed by (seed, step, prompt, sample), so a step that was killed between sampling
and update repeats identically, and none of it needs saving.

Axes: R rollouts, T tokens of one row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from finetooth.config.task import TrainConfig
from finetooth.errors import ModelError, TrainError
from finetooth.model.api import Model
from finetooth.model.inference import row_logprobs
from finetooth.training.objectives import Objective
from finetooth.training.reference import add_reference
from finetooth.training.rl import advantages, policy
from finetooth.training.rl.batch import Rollout, RolloutBatch, RolloutPrompt
from finetooth.training.rl.monitor import RewardMonitor
from finetooth.training.rl.rewards import RewardFunction, grade
from finetooth.training.step import StepResult
from finetooth.tree import Floats, Ints, Row
from finetooth.types import Sampling

MEASURE_EVERY = 10  # steps between measurements of the KL divergence when train.kl is 0
Update = Callable[[Sequence[Row], Objective], StepResult]


class RolloutTrainer:
    """Takes the optimizer steps of a run that learns from rewards.

    Construct it before any weight is trained: train.kl penalises the divergence from the model at that time.
    longest: most tokens of an answer.
    """

    def __init__(
        self,
        model: Model,
        prompts: Sequence[RolloutPrompt],
        reward: RewardFunction,
        config: TrainConfig,
        seed: int,
        longest: int,
        run_path: Path,
    ) -> None:
        if not prompts:
            raise TrainError("There are no prompts to sample answers for.")
        self.model, self.prompts, self.reward, self.config = model, prompts, reward, config
        self.seed, self.longest, self.log = seed, longest, run_path / "train" / "rollouts.jsonl"
        self.monitor = RewardMonitor(str(model.dtype).removeprefix("torch."))
        self._start = model.state()
        clip = (config.average, config.clip, config.clip_high, config.kl, config.temperature)
        self.objective = policy.clipped_surrogate(*clip)

    @property
    def rows(self) -> list[Row]:
        """The contexts of the prompts."""
        return [prompt.row for prompt in self.prompts]

    def step(self, step: int, indices: Ints, update: Update) -> tuple[StepResult, dict[str, Any]]:
        """Sample answers for these prompts and train on them with `update`. step: from 0.

        Returns the result of the first update and the further metrics of the step. Raises TrainError when no
        rollout has a reward.
        """
        batch = self.collect(step, indices)
        advantage_R = advantages.advantages(
            self.config.method, batch.reward_R, batch.group_R, self.config.scale == "deviation"
        )
        rows = self.to_rows(batch, advantage_R)
        if self.config.kl or (step + 1) % MEASURE_EVERY == 0:
            rows = self._with_reference(rows)
        batch.write(self.log, step + 1, self.prompts, advantage_R)
        results = [update(rows, self.objective) for _ in range(self.config.updates)]
        return results[0], batch.line(results)

    def collect(self, step: int, indices: Ints) -> RolloutBatch:
        """The rollouts of a step. Groups whose rewards are all equal are replaced by those of other prompts,
        up to train.resample times; if too few groups differ, the first of the equal ones fill the batch.
        """
        batch = self._sample(step, 0, indices.tolist())
        same = self._same(batch)
        sampled, found = len(indices), len(same)
        if self.config.method == "reinforce":  # compared over the step, not within a group
            batch.groups, batch.same = sampled, found
            return batch
        generator = np.random.Generator(np.random.PCG64(_key(f"resample/{self.seed}/{step}")))
        order, sampled_now = generator.permutation(len(self.prompts)).tolist(), set(indices.tolist())
        others = [index for index in order if index not in sampled_now]
        for turn in range(1, self.config.resample + 1):
            if not same or not others:
                break
            drawn, others = others[: len(same)], others[len(same) :]
            more = self._sample(step, turn, drawn)
            again = self._same(more)
            sampled, found = sampled + len(drawn), found + len(again)
            useful = [index for index in drawn if index not in again]
            kept = [index for index in dict.fromkeys(batch.group_R.tolist()) if index not in same]
            same = same[: len(same) - len(useful)]
            batch = batch.part(kept + same).joined(more.part(useful))
        batch.groups, batch.same = sampled, found
        return batch

    def _sample(self, step: int, turn: int, indices: Sequence[int]) -> RolloutBatch:
        config, rows = self.config, [self.prompts[index].row for index in indices]
        sampling = Sampling(
            config.temperature, self.longest, config.group_size, _key(f"{self.seed}/{step}/{turn}")
        )
        with self.model.eval_mode():
            completions = sorted(self.model.generate(rows, sampling), key=lambda one: (one.row, one.sample))
        for completion in completions:
            if (
                len(completion.logprobs) != len(completion.tokens)
                or not np.isfinite(completion.logprobs).all()
            ):
                raise ModelError("A sampled token has no log-probability; the model's weights are damaged.")
        prompts = [indices[completion.row] for completion in completions]
        answers = [(self.prompts[at].example, one.text) for at, one in zip(prompts, completions, strict=True)]
        scores = grade(self.reward, answers)
        rollouts = [Rollout(*one) for one in zip(prompts, completions, scores, strict=True)]
        cut_R = np.array([one.completion.stop == "length" for one in rollouts])
        length_R = np.array([len(one.completion.tokens) for one in rollouts])
        given_R = np.array([np.nan if one.score.value is None else one.score.value for one in rollouts])
        reward_R = advantages.shape_overlong_rewards(config.truncated, given_R, cut_R, length_R, self.longest)
        return RolloutBatch(rollouts, reward_R, np.array([one.prompt for one in rollouts], np.int64))

    def _same(self, batch: RolloutBatch) -> list[int]:
        """The prompts whose answers all have the same reward, in the order of the batch."""
        differs_R = advantages.rewards_differ(batch.reward_R, batch.group_R)
        return list(dict.fromkeys(batch.group_R[~differs_R].tolist()))

    def to_rows(self, batch: RolloutBatch, advantage_R: Floats) -> list[Row]:
        """Training rows of the rollouts: the context's tokens and the sampled ones, which are scored.

        Rollouts without a known reward are left out. Raises TrainError when none is left, or when the reward
        failed on most of them.
        """
        failed = sum(rollout.score.value is None for rollout in batch.rollouts)
        if 2 * failed > len(batch.rollouts) > failed:
            raise TrainError(
                f"Most of the {len(batch.rollouts)} answers of this step have no reward, so training would "
                f"go by a few: {batch.no_reward_reason()}. Let the reward return a number from 0 to 1 for "
                "every answer."
            )
        rows = []
        for rollout, advantage in zip(batch.rollouts, advantage_R.tolist(), strict=True):
            if np.isnan(advantage):
                continue
            completion, prompt = rollout.completion, self.prompts[rollout.prompt]
            context_T = prompt.row.tokens
            size = len(completion.tokens)
            weight = policy.token_weight(self.config.average, size, self.longest)
            signals = {
                "advantage": advantage,
                "sampled_logp": np.concatenate([np.zeros(context_T.size), completion.logprobs]),
            }
            rows.append(
                Row(
                    np.concatenate([context_T, completion.tokens]),
                    np.concatenate([np.zeros(context_T.size), np.full(size, weight)]),
                    signals,
                    id=prompt.example.id,
                )
            )
        if not rows:
            raise TrainError(
                f"None of the {len(batch.rollouts)} answers of this step has a reward: "
                f"{batch.no_reward_reason()}"
            )
        return rows

    def _with_reference(self, rows: Sequence[Row]) -> list[Row]:
        """The rows with their log-probabilities under the initial model."""
        budget = self.config.micro_tokens
        assert isinstance(budget, int), "the configuration is resolved"
        model, current = self.model, self.model.state()
        model.load_state(self._start)
        try:
            logp = row_logprobs(model, rows, budget, self.config.temperature)
        finally:
            model.load_state(current)
        return add_reference(rows, logp)


def _key(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
