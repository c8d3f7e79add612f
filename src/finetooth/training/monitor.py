"""Training monitor: names trouble in the curves (spike, divergence, plateau, overfitting and others).

A monitor sees numbers only, and its state is plain JSON, so that it continues with a resumed run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

RECENT, FEWEST = 30, 10  # losses that a step is compared with, and the fewest needed
BLOCKS, FLAT_BLOCKS = 20, 6  # a run has 20 blocks of steps; 6 at one level are a plateau
ACCURACY_DROP, LOW_ACCURACY = 0.2, 0.15  # shares of pairs
LOGP_DROP = 0.7  # nats per token: a chosen token has become half as likely
MOST = 20  # recorded findings of one name
TITLES = {
    "spike": "loss spike",
    "divergence": "loss divergence",
    "plateau": "loss plateau",
    "inverted": "inverted preferences",
    "chosen-falls": "falling log-probability of chosen answers",
    "sampler-gap": "sampler mismatch",
    "no-difference": "equal rewards",
    "reward-fall": "reward drop",
    "drift": "policy drift",
}


@dataclass(frozen=True, slots=True)
class TrainingFinding:
    """A line of train/findings.jsonl. rows: ids of the rows that caused it, if rows did.

    first: the first of its name, which is also printed.
    """

    step: int
    name: str
    text: str
    rows: tuple[str, ...] = ()
    first: bool = True

    def __str__(self) -> str:
        """One line for the console."""
        return f"{TITLES.get(self.name, self.name.replace('-', ' '))} at step {self.step}: {self.text}."

    def line(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"step": self.step, "name": self.name, "text": self.text, "rows": list(self.rows)}


@dataclass(slots=True)
class Monitor(ABC):
    """Base of the monitors. said: number of findings so far by name; a key of the saved state."""

    said: dict[str, int] = field(default_factory=dict, kw_only=True)

    @abstractmethod
    def observe(self, line: Mapping[str, Any], row_loss: Mapping[str, float]) -> list[TrainingFinding]:
        """Check a step's line of metrics.jsonl and the loss of each of its rows by id."""

    def validation(self, step: int, loss: float) -> list[TrainingFinding]:
        """Check a validation loss."""
        return []

    def state(self) -> dict[str, Any]:
        """The state for a checkpoint; calling the class with it as keywords restores the monitor."""
        return asdict(self)

    def _finding(self, step: int, name: str, text: str, rows: tuple[str, ...] = ()) -> list[TrainingFinding]:
        """The finding in a list, which is empty once MOST of its name are recorded."""
        count = self.said[name] = self.said.get(name, 0) + 1
        return [] if count > MOST else [TrainingFinding(step, name, text, rows, count == 1)]


@dataclass(slots=True)
class TrainingMonitor(Monitor):
    """Monitor of supervised and preference training. total: steps of the run.

    recent: the last losses. start: the median of the first ten. low: the lowest level that three quarters of
    thirty losses were below. blocks: means of completed blocks. since: sum and number of the losses since the
    last validation. valid: (step, validation loss, mean training loss since the previous validation). pairs:
    (loss, accuracy, chosen_logp) of the last ten steps of preference tuning; first_pairs: their first means.
    """

    total: int
    recent: list[float] = field(default_factory=list)
    start: float | None = None
    low: float | None = None
    block: list[float] = field(default_factory=list)
    blocks: list[float] = field(default_factory=list)
    since: list[float] = field(default_factory=lambda: [0.0, 0.0])
    valid: list[list[float]] = field(default_factory=list)
    pairs: list[list[float]] = field(default_factory=list)
    first_pairs: list[float] = field(default_factory=list)

    def observe(self, line: Mapping[str, Any], row_loss: Mapping[str, float]) -> list[TrainingFinding]:
        """Check a step's line of metrics.jsonl and the loss of each of its rows by id."""
        found = self.step(line["step"], line["loss"], row_loss)
        return found + self.preference(line["step"], line["loss"], line)

    def step(  # long: three checks of one loss
        self, step: int, loss: float, row_loss: Mapping[str, float]
    ) -> list[TrainingFinding]:
        """Check the loss of a step for a spike, divergence and a plateau."""
        found: list[TrainingFinding] = []
        if len(self.recent) >= FEWEST:
            # Spike: above twice the recent median, by half a nat and by 8 robust standard deviations.
            usual = median(self.recent)
            spread = 1.4826 * median(abs(value - usual) for value in self.recent)
            limit = usual + max(8 * spread, usual, 0.5)
            if loss > limit:
                rows = _highest(row_loss, limit)
                text = f"the loss is {loss:.2f}; the median of the steps before is {usual:.2f}"
                found += self._finding(step, "spike", f"{text}. Check {_listed(rows, row_loss)}", rows)
        self.recent = [*self.recent[1 - RECENT :], loss]
        self.since = [self.since[0] + loss, self.since[1] + 1]
        if len(self.recent) >= FEWEST:
            # Divergence: most of the last ten losses are above the start, or far above the lowest level.
            # Most, not half: where batches differ in loss (long texts beside labels), so do medians of ten.
            last, level = sorted(self.recent[-FEWEST:]), sorted(self.recent)[3 * len(self.recent) // 4]
            now = median(last)
            if self.start is None or self.low is None:
                self.start, self.low = now, level
            else:
                low, self.low = self.low, min(self.low, level)
                limit = min(1.1 * self.start + 0.2, 2 * low + 0.5)
                if last[FEWEST // 5] > limit and "divergence" not in self.said:
                    rows = _highest(row_loss, now)
                    text = (
                        f"the training loss has risen to {now:.2f} from {low:.2f}. A smaller "
                        f"train.learning_rate usually helps. Highest loss: {_listed(rows, row_loss)}"
                    )
                    found += self._finding(step, "divergence", text, rows)
        self.block.append(loss)
        if len(self.block) >= max(FEWEST, self.total // BLOCKS):
            self.blocks.append(sum(self.block) / len(self.block))
            self.block = []
            # Plateau: nothing is learned in the first two thirds, while the learning rate is still high.
            last, half = self.blocks[-FLAT_BLOCKS:], FLAT_BLOCKS // 2
            before, after = sum(last[:half]) / half, sum(last[half:]) / half
            flat = len(last) == FLAT_BLOCKS and abs(before - after) <= 0.01 * before
            early = step <= self.total * 2 / 3 and "plateau" not in self.said
            if flat and early and self.start is not None and after >= 0.85 * self.start:
                text = (
                    f"the training loss, which began at {self.start:.2f}, stays near {after:.2f}. A larger "
                    "train.learning_rate or train.rank may help, or these rows have no more to teach"
                )
                found += self._finding(step, "plateau", text)
        return found

    def preference(self, step: int, loss: float, metrics: Mapping[str, float]) -> list[TrainingFinding]:
        """Check the pair metrics of a step; steps without them pass."""
        if not {"accuracy", "chosen_logp"} <= set(metrics):
            return []
        self.pairs = [*self.pairs[1 - FEWEST :], [loss, metrics["accuracy"], metrics["chosen_logp"]]]
        if len(self.pairs) < FEWEST:
            return []
        means = [sum(values) / FEWEST for values in zip(*self.pairs, strict=True)]
        if not self.first_pairs:
            self.first_pairs = means
        (now, accuracy, logp), (first, first_accuracy, first_logp) = means, self.first_pairs
        found: list[TrainingFinding] = []
        inverted = now < first and accuracy < max(first_accuracy - ACCURACY_DROP, LOW_ACCURACY)
        if inverted and "inverted" not in self.said:
            text = (
                f"the loss has fallen to {now:.3f}, yet the chosen answer is preferred in {accuracy:.0%} "
                f"of the pairs, down from {first_accuracy:.0%}. Chosen and rejected may be swapped: please "
                "report this"
            )
            found += self._finding(step, "inverted", text)
        if logp < first_logp - LOGP_DROP and "chosen-falls" not in self.said:
            text = (
                f"the log-probability of chosen answers has fallen to {logp:.2f} nats per token from "
                f"{first_logp:.2f}: the model unlearns both answers. A larger train.beta, a smaller "
                "train.learning_rate, fewer train.epochs or train.method: orpo helps"
            )
            found += self._finding(step, "chosen-falls", text)
        return found

    def validation(self, step: int, loss: float) -> list[TrainingFinding]:
        """Check a validation loss for overfitting: twice in a row above its best and rising, while the
        training loss falls.
        """
        mean = self.since[0] / self.since[1] if self.since[1] else loss  # no steps before the first
        self.valid.append([step, loss, mean])
        self.since = [0.0, 0.0]
        best = min(self.valid, key=lambda entry: entry[1])
        if "overfitting" in self.said or self.valid.index(best) > len(self.valid) - 3:
            return []
        before, margin = self.valid[-2][1], max(0.02 * best[1], 0.01)
        if min(before, loss) < best[1] + margin or loss < before or mean > 0.98 * best[2]:
            return []
        text = (
            f"the validation loss has risen to {loss:.3f} from {best[1]:.3f} at step {best[0]:.0f}, while "
            f"the training loss has fallen to {mean:.3f}. The best checkpoint is kept; fewer train.epochs, a "
            "smaller train.learning_rate or more training rows help"
        )
        return self._finding(step, "overfitting", text)


def _highest(row_loss: Mapping[str, float], limit: float) -> tuple[str, ...]:
    """The ids of up to three rows above the limit, otherwise of the highest one."""
    order = sorted(row_loss, key=lambda id: (-row_loss[id], id))
    return tuple([id for id in order if row_loss[id] > limit][:3] or order[:1])


def _listed(rows: tuple[str, ...], row_loss: Mapping[str, float]) -> str:
    return "rows " + ", ".join(f"{id} ({row_loss[id]:.2f})" for id in rows)
