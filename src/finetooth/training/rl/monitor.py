"""Monitor of reinforcement learning: names trouble in rewards, sampling, divergence, length and entropy.

It sees numbers only, and its state is plain JSON, so that it continues with a resumed run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from finetooth.training.monitor import Monitor, TrainingFinding

RECENT = 10  # steps whose mean is compared with the first ones, or with the best
GAPS = {"float32": 1e-3, "float64": 1e-3, "bfloat16": 5e-2}  # nats per token, by the model's compute dtype
CUT = 0.2  # share of answers truncated at the token limit
SAME = 0.8  # share of groups whose answers all have the same reward
DRIFT = 0.5  # nats per token from the initial model
LONGER = 2.0  # times as long, or as short, as at the start
CERTAIN = 0.05  # share of the initial entropy
SOLVED = 0.9  # mean reward from which equal rewards and low entropy are expected


@dataclass(slots=True)
class RewardMonitor(Monitor):
    """Monitor of a run that learns from rewards.

    dtype: compute dtype of the model. start: entropy and answer length of the first steps. rewards: the last
    mean rewards. best: the highest mean over ten steps. same: consecutive steps with hardly any group whose
    rewards differ. Validation losses are not checked: the loss of expected answers may rise with the rewards.
    """

    dtype: str = "float32"
    start: dict[str, list[float]] = field(default_factory=lambda: {"entropy": [], "answer_tokens": []})
    rewards: list[float] = field(default_factory=list)
    best: float = -1.0
    same: int = 0

    def observe(self, line: Mapping[str, Any], row_loss: Mapping[str, float]) -> list[TrainingFinding]:
        """Check a step's line of metrics.jsonl."""
        step, found = line["step"], []
        limit = GAPS.get(self.dtype, GAPS["bfloat16"])
        if not line["gap"] <= limit:
            text = (
                f"the log-probabilities of sampled tokens differ by {line['gap']:.1e} nats from those in "
                f"training (at most {line['gap_max']:.1e}; normally below {limit:.0e}), so the model is not "
                "trained on what was sampled. Please report this model"
            )
            found += self._finding(step, "sampler-gap", text)
        if line["grader_errors"]:
            text = (
                f"the reward failed on {line['grader_errors']} of {line['rollouts']} answers, from which "
                "nothing is learned. The errors are in train/rollouts.jsonl"
            )
            found += self._finding(step, "reward-errors", text)
        if not line["truncated"] <= CUT:
            text = (
                f"{line['truncated']:.0%} of the answers were cut at the token limit. train.truncated sets "
                "how they are rewarded; a larger evaluate.max_tokens lets them finish"
            )
            found += self._finding(step, "truncation", text)
        alike = line["same_groups"] > SAME and line["reward"] < SOLVED
        self.same = self.same + 1 if alike else 0
        if self.same >= RECENT // 2:
            text = (
                f"for {self.same} steps nearly all answers to the same question have had the same reward "
                f"(mean {line['reward']:.2f}), so there is nothing to learn from. A start that is "
                "sometimes right, easier questions, a larger train.group_size or a reward with partial "
                "credit helps"
            )
            found += self._finding(step, "no-difference", text)
        return found + self._trends(line)

    def _trends(self, line: Mapping[str, Any]) -> list[TrainingFinding]:
        """Compare with the steps before: reward, divergence, answer length and entropy."""
        step, found = line["step"], []
        self.rewards = [*self.rewards[1 - RECENT :], line["reward"]]
        if len(self.rewards) == RECENT:
            now = sum(self.rewards) / RECENT
            best, self.best = self.best, max(self.best, now)
            if best > 0 and now < 0.7 * best and "reward-fall" not in self.said:  # soft penalties go below 0
                text = f"the mean reward over ten steps has fallen to {now:.2f} from {best:.2f}"
                hint = "A smaller train.learning_rate or a larger train.kl helps"
                found += self._finding(step, "reward-fall", f"{text}. {hint}")
        if not line.get("kl", 0.0) <= DRIFT and "drift" not in self.said:
            text = f"the KL divergence from the initial model is {line['kl']:.2f} nats per token"
            hint = "Look at the answers in train/rollouts.jsonl; a larger train.kl limits it"
            found += self._finding(step, "drift", f"{text}. {hint}")
        if len(self.start["entropy"]) < RECENT:
            for name, values in self.start.items():
                values.append(float(line[name]))
            return found
        entropy, length = (sum(values) / len(values) for values in self.start.values())
        times = line["answer_tokens"] / max(length, 1e-9)
        if not 1 / LONGER <= times <= LONGER and "length-drift" not in self.said:
            text = f"answers have {line['answer_tokens']:.0f} tokens on average, at the start {length:.0f}"
            found += self._finding(step, "length-drift", f"{text}. Look at train/rollouts.jsonl")
        certain = line["entropy"] < CERTAIN * entropy and line["reward"] < SOLVED
        if certain and "entropy-collapse" not in self.said:
            text = (
                f"the entropy has fallen to {line['entropy']:.3f} nats per token from {entropy:.3f}: all "
                "answers become the same. A higher train.clip_high, a larger train.kl or a smaller "
                "train.learning_rate helps"
            )
            found += self._finding(step, "entropy-collapse", text)
        return found
