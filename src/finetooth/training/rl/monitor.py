"""Trouble that shows while a model learns from rewards, called by its name.

It knows numbers alone, and all it remembers is plain JSON, so that it goes on with a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from finetooth.training.monitor import MOST, TrainingFinding

RECENT = 10  # steps whose mean is compared with the first ones, or with the best
GAPS = {"float32": 1e-3, "float64": 1e-3, "bfloat16": 5e-2}  # nats a token, by what the model computes in
CUT = 0.2  # share of answers cut at the longest length
SAME = 0.8  # share of groups whose answers are all worth the same
DRIFT = 0.5  # nats a token, from the model that training started from
LONGER = 2.0  # times as long, or as short, as at the start
CERTAIN = 0.05  # share of the entropy at the start
SOLVED = 0.9  # mean reward from which equal rewards and certainty are no trouble


@dataclass(slots=True)
class RewardMonitor:
    """Feed it every step's line of metrics.jsonl; what it finds comes back.

    dtype: of the model's products. start: the first lines' entropy and answer length. rewards: the last mean
    rewards. best: the highest mean of ten of them. same: steps in a row with hardly any group that differs.
    """

    dtype: str = "float32"
    start: dict[str, list[float]] = field(default_factory=lambda: {"entropy": [], "answer_tokens": []})
    rewards: list[float] = field(default_factory=list)
    best: float = -1.0
    same: int = 0
    said: dict[str, int] = field(default_factory=dict)

    def state(self) -> dict[str, Any]:
        """What `RewardMonitor(**state)` goes on from."""
        return asdict(self)

    def validation(self, step: int, loss: float) -> list[TrainingFinding]:
        """Nothing: the loss of expected answers may rise while rewards do."""
        return []

    def line(self, line: Mapping[str, Any], row_loss: Mapping[str, float]) -> list[TrainingFinding]:
        """What is wrong with a step, by its line of metrics.jsonl."""
        self.rewards = [*self.rewards[1 - RECENT :], line["reward"]]
        found = [self._gap(line), self._failed(line), self._cut(line), self._same(line), self._fallen(line)]
        found += [self._drift(line), *self._moved(line)]
        return [finding for finding in found if finding is not None]

    def _gap(self, line: Mapping[str, Any]) -> TrainingFinding | None:
        limit = GAPS.get(self.dtype, GAPS["bfloat16"])
        if line["gap"] <= limit:
            return None
        return self._found(
            line,
            "sampler-gap",
            f"tokens were sampled with log-probabilities that are {line['gap']:.1e} nats off those in "
            f"training (at most {line['gap_max']:.1e}; usual is below {limit:.0e}): what is trained is "
            "not what was sampled. Please report this model",
        )

    def _failed(self, line: Mapping[str, Any]) -> TrainingFinding | None:
        if not line["grader_errors"]:
            return None
        return self._found(
            line,
            "reward-errors",
            f"the reward failed on {line['grader_errors']} of {line['rollouts']} answers, from which "
            "nothing is learned. The errors are in train/rollouts.jsonl",
        )

    def _cut(self, line: Mapping[str, Any]) -> TrainingFinding | None:
        if line["truncated"] <= CUT:
            return None
        return self._found(
            line,
            "truncation",
            f"{line['truncated']:.0%} of the answers were cut at the longest length. train.truncated says "
            "what becomes of them; a larger evaluate.max_tokens lets them end",
        )

    def _same(self, line: Mapping[str, Any]) -> TrainingFinding | None:
        alone = line["same_groups"] > SAME and line["reward"] < SOLVED
        self.same = self.same + 1 if alone else 0
        if self.same < RECENT // 2:
            return None
        return self._found(
            line,
            "no-difference",
            f"for {self.same} steps nearly all answers to one question have been worth the same (reward "
            f"{line['reward']:.2f}), so there is nothing to learn from. A start that is sometimes right, "
            "easier questions, a larger train.group_size or a reward with steps in between help",
        )

    def _fallen(self, line: Mapping[str, Any]) -> TrainingFinding | None:
        if len(self.rewards) < RECENT:
            return None
        now = sum(self.rewards) / len(self.rewards)
        best, self.best = self.best, max(self.best, now)
        if best <= 0 or now >= 0.7 * best or "reward-fall" in self.said:  # soft penalties go below 0
            return None
        text = f"the mean reward of ten steps has fallen to {now:.2f} from {best:.2f}"
        return self._found(line, "reward-fall", f"{text}. A smaller train.learning_rate or train.kl help")

    def _drift(self, line: Mapping[str, Any]) -> TrainingFinding | None:
        if line.get("kl", 0.0) <= DRIFT or "drift" in self.said:
            return None
        return self._found(
            line,
            "drift",
            f"the model is {line['kl']:.2f} nats a token from where training started. Look at what it "
            "answers in train/rollouts.jsonl; train.kl holds it back",
        )

    def _moved(self, line: Mapping[str, Any]) -> list[TrainingFinding | None]:
        if len(self.start["entropy"]) < RECENT:
            for name, values in self.start.items():
                values.append(float(line[name]))
            return []
        entropy, length = (sum(values) / len(values) for values in self.start.values())
        found: list[TrainingFinding | None] = []
        times = line["answer_tokens"] / max(length, 1e-9)
        if not 1 / LONGER <= times <= LONGER and "length-drift" not in self.said:
            text = f"answers have {line['answer_tokens']:.0f} tokens; at first they had {length:.0f}"
            found.append(self._found(line, "length-drift", f"{text}. Look at train/rollouts.jsonl"))
        certain = line["entropy"] < CERTAIN * entropy and line["reward"] < SOLVED
        if certain and "entropy-collapse" not in self.said:
            text = f"the entropy has fallen to {line['entropy']:.3f} nats a token from {entropy:.3f}"
            more = "all answers become one. A higher train.clip_high, train.kl or a smaller rate help"
            found.append(self._found(line, "entropy-collapse", f"{text}: {more}"))
        return found

    def _found(self, line: Mapping[str, Any], name: str, text: str) -> TrainingFinding | None:
        count = self.said[name] = self.said.get(name, 0) + 1
        return None if count > MOST else TrainingFinding(line["step"], name, text, (), count == 1)
