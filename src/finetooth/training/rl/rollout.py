"""One step of learning from rewards: sample answers, grade them, turn rewards into rows to train on.

The tokens that were sampled are the tokens that are trained, with the log-probabilities that they were
sampled with; no text is tokenised again. Samples are keyed by (seed, step, question, sample), so a step that
was killed between sampling and update is the same when it is taken again: nothing of it needs saving.

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
from finetooth.training.preferences import with_signals
from finetooth.training.reference import scatter_to_tokens
from finetooth.training.rl import advantages, policy
from finetooth.training.rl.batch import Rollout, RolloutBatch, RolloutPrompt
from finetooth.training.rl.monitor import RewardMonitor
from finetooth.training.rl.rewards import RewardFunction, grade
from finetooth.training.step import StepResult
from finetooth.tree import Floats, Ints, Row
from finetooth.types import Sampling

MEASURE_EVERY = 10  # steps after which the divergence is measured where train.kl is 0 and nothing needs it
Update = Callable[[Sequence[Row], Objective], StepResult]


class RolloutTrainer:
    """Takes the steps of a run that learns from rewards.

    Construct it before any weight has been trained: the model as it is then is the start that train.kl holds
    to. longest: tokens of an answer.
    """

    def __init__(
        self,
        model: Model,
        questions: Sequence[RolloutPrompt],
        reward: RewardFunction,
        config: TrainConfig,
        seed: int,
        longest: int,
        run_path: Path,
    ) -> None:
        if not questions:
            raise TrainError("There are no questions to sample answers to.")
        self.model, self.questions, self.reward, self.config = model, questions, reward, config
        self.seed, self.longest, self.log = seed, longest, run_path / "train" / "rollouts.jsonl"
        self.watch = RewardMonitor(str(model.dtype).removeprefix("torch."))
        self._start = model.state()
        clip = (config.average, config.clip, config.clip_high, config.kl, config.temperature)
        self.objective = policy.clipped_surrogate(*clip)

    @property
    def rows(self) -> list[Row]:
        """The questions' contexts."""
        return [question.row for question in self.questions]

    def step(self, step: int, indices: Ints, update: Update) -> tuple[StepResult, dict[str, Any]]:
        """Sample answers to these questions, and learn from them with `update`; step: from 0.

        Returns the first update's result, and what metrics.jsonl says beside it. Raises TrainError when no
        rollout has a reward.
        """
        batch = self.collect(step, indices)
        advantage_R = advantages.advantages(
            self.config.method, batch.reward_R, batch.group_R, self.config.scale == "deviation"
        )
        rows = self.to_rows(batch, advantage_R)
        if self.config.kl or (step + 1) % MEASURE_EVERY == 0:
            rows = self._with_reference(rows)
        batch.write(self.log, step + 1, self.questions, advantage_R)
        results = [update(rows, self.objective) for _ in range(self.config.updates)]
        return results[0], batch.line(results)

    # Sampling ----------------------------------------------------------------------------------------------

    def collect(self, step: int, indices: Ints) -> RolloutBatch:
        """The rollouts of a step: groups worth the same throughout are replaced by those of other questions,
        train.resample times at most; where too few differ, the first of the others fill up.
        """
        batch = self._sample(step, 0, indices.tolist())
        groups, same = len(indices), self._same(batch)
        sampled, found = groups, len(same)
        if self.config.method == "reinforce":  # compared over the step, not within a group
            batch.groups, batch.same = sampled, found
            return batch
        others = [index for index in self._order(step).tolist() if index not in set(indices.tolist())]
        for turn in range(1, self.config.resample + 1):
            if not same or not others:
                break
            drawn, others = others[: len(same)], others[len(same) :]
            more = self._sample(step, turn, drawn)
            again = self._same(more)
            sampled, found = sampled + len(drawn), found + len(again)
            taken = [index for index in drawn if index not in again]
            kept = [index for index in dict.fromkeys(batch.group_R.tolist()) if index not in same]
            left = same[: len(same) - len(taken)]
            batch = batch.part(kept + left).joined(more.part(taken))
            same = left
        batch.groups, batch.same = sampled, found
        return batch

    def _sample(self, step: int, turn: int, indices: Sequence[int]) -> RolloutBatch:
        config, rows = self.config, [self.questions[index].row for index in indices]
        sampling = Sampling(
            config.temperature, self.longest, config.group_size, _key(f"{self.seed}/{step}/{turn}")
        )
        with self.model.eval_mode():
            done = sorted(self.model.generate(rows, sampling), key=lambda one: (one.row, one.sample))
        for completion in done:
            if (
                len(completion.logprobs) != len(completion.tokens)
                or not np.isfinite(completion.logprobs).all()
            ):
                raise ModelError("A sampled token has no log-probability; the model's weights are damaged.")
        asked = [indices[completion.row] for completion in done]
        examples = [self.questions[question].example for question in asked]
        scores = grade(self.reward, [(row, one.text) for row, one in zip(examples, done, strict=True)])
        rollouts = [Rollout(*one) for one in zip(asked, done, scores, strict=True)]
        cut_R = np.array([one.completion.stop == "length" for one in rollouts])
        length_R = np.array([len(one.completion.tokens) for one in rollouts])
        given_R = np.array([np.nan if one.score.value is None else one.score.value for one in rollouts])
        reward_R = advantages.shape_overlong_rewards(config.truncated, given_R, cut_R, length_R, self.longest)
        return RolloutBatch(rollouts, reward_R, np.array([one.question for one in rollouts], np.int64))

    def _same(self, batch: RolloutBatch) -> list[int]:
        """The questions whose answers are worth the same throughout, in the batch's order."""
        differs_R = advantages.rewards_differ(batch.reward_R, batch.group_R)
        return list(dict.fromkeys(batch.group_R[~differs_R].tolist()))

    def _order(self, step: int) -> Ints:
        generator = np.random.Generator(np.random.PCG64(_key(f"resample/{self.seed}/{step}")))
        return generator.permutation(len(self.questions))

    # Rows --------------------------------------------------------------------------------------------------

    def to_rows(self, batch: RolloutBatch, advantage_R: Floats) -> list[Row]:
        """The rollouts as rows to train on: the context's tokens and the sampled ones, which are scored.

        Those without a known reward are left out. Raises TrainError when that is all of them.
        """
        rows = []
        for rollout, advantage in zip(batch.rollouts, advantage_R.tolist(), strict=True):
            if np.isnan(advantage):
                continue
            completion, context_T = rollout.completion, self.questions[rollout.question].row.tokens
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
                    id=self.questions[rollout.question].example.id,
                )
            )
        if not rows:
            raise TrainError(
                f"None of the {len(batch.rollouts)} answers of this step has a reward: {batch.why()}"
            )
        return rows

    def _with_reference(self, rows: Sequence[Row]) -> list[Row]:
        """The rows with the log-probabilities of the model that training started from."""
        model, now = self.model, self.model.state()
        model.load_state(self._start)
        try:
            logp = row_logprobs(model, rows, self._budget, self.config.temperature)
        finally:
            model.load_state(now)
        return [
            with_signals(row, {"reference_logp": scatter_to_tokens(row, own)})
            for row, own in zip(rows, logp, strict=True)
        ]

    @property
    def _budget(self) -> int:
        assert isinstance(self.config.micro_tokens, int), "the configuration is resolved"
        return self.config.micro_tokens


def _key(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
