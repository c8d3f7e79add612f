"""Trouble that shows in the curves, by its name: spike, divergence, plateau, overfitting, chosen-falls.

It knows numbers alone, and all it remembers is plain JSON, so that it goes on with a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

RECENT, FEWEST = 30, 10  # losses that a step is compared with, and how many that takes
BLOCKS, FLAT_BLOCKS = 20, 6  # a run has 20 blocks of steps; 6 of them on one level are a plateau
INVERTED, NEARLY_NONE, UNLIKELIER = (
    0.2,
    0.15,
    0.7,
)  # share of pairs; nats a token: a chosen token is half as likely
MOST = 20  # findings of one name that are kept


@dataclass(frozen=True, slots=True)
class TrainingFinding:
    """A line of train/findings.jsonl. rows: ids of the rows that caused it, where rows did.

    first: the first of its name, to be said.
    """

    step: int
    name: str
    text: str
    rows: tuple[str, ...] = ()
    first: bool = True

    def line(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"step": self.step, "name": self.name, "text": self.text, "rows": list(self.rows)}


@dataclass(slots=True)
class TrainingMonitor:
    """Feed it every step and validation; what it finds comes back. total: steps of the run.

    recent: the last losses. start: the median of the first ten. low: the lowest value that most of
    thirty losses were below. blocks: means of completed blocks. valid: (step, validation loss, mean training
    loss since the one before). pairs: the last ten steps' (loss, accuracy, chosen_logp) of preference
    tuning; first_pairs: their first means.
    """

    total: int
    recent: list[float] = field(default_factory=list)
    start: float | None = None
    low: float | None = None
    block: list[float] = field(default_factory=list)
    blocks: list[float] = field(default_factory=list)
    since: list[float] = field(default_factory=lambda: [0.0, 0.0])
    valid: list[list[float]] = field(default_factory=list)
    said: dict[str, int] = field(default_factory=dict)
    pairs: list[list[float]] = field(default_factory=list)
    first_pairs: list[float] = field(default_factory=list)

    def state(self) -> dict[str, Any]:
        """What `Watch(**state)` goes on from."""
        return asdict(self)

    def line(self, line: Mapping[str, Any], row_loss: Mapping[str, float]) -> list[TrainingFinding]:
        """A step's line of metrics.jsonl, and the loss of each of its rows by id."""
        found = self.step(line["step"], line["loss"], row_loss)
        return found + self.preference(line["step"], line["loss"], line)

    def step(self, step: int, loss: float, row_loss: Mapping[str, float]) -> list[TrainingFinding]:
        """A step's loss, and the loss of each of its rows by id."""
        found = [self._spike(step, loss, row_loss)]
        self.recent = [*self.recent[1 - RECENT :], loss]
        self.since = [self.since[0] + loss, self.since[1] + 1]
        found.append(self._divergence(step, row_loss))
        self.block.append(loss)
        if len(self.block) >= max(FEWEST, self.total // BLOCKS):
            self.blocks.append(sum(self.block) / len(self.block))
            self.block = []
            found.append(self._plateau(step))
        return [finding for finding in found if finding is not None]

    def preference(self, step: int, loss: float, metrics: Mapping[str, float]) -> list[TrainingFinding]:
        """What a step says of its pairs; nothing where it says nothing."""
        if not {"accuracy", "chosen_logp"} <= set(metrics):
            return []
        self.pairs = [*self.pairs[1 - FEWEST :], [loss, metrics["accuracy"], metrics["chosen_logp"]]]
        if len(self.pairs) < FEWEST:
            return []
        means = [sum(values) / FEWEST for values in zip(*self.pairs, strict=True)]
        if not self.first_pairs:
            self.first_pairs = means
        (now, right, likely), (start, right_start, likely_start) = means, self.first_pairs
        found = []
        if now < start and right < max(right_start - INVERTED, NEARLY_NONE) and "inverted" not in self.said:
            text = (
                f"the loss falls to {now:.3f}, and yet the chosen answer is preferred in {right:.0%} of the "
                f"pairs, where it was in {right_start:.0%}. The two may be swapped: please report this"
            )
            found.append(self._found(step, "inverted", text))
        if likely < likely_start - UNLIKELIER and "chosen-falls" not in self.said:
            text = (
                f"the log-probability of chosen answers has fallen to {likely:.2f} nats a token from "
                f"{likely_start:.2f}: both answers are unlearned. A larger train.beta, a smaller "
                "train.learning_rate or fewer train.epochs help, or train.method: orpo"
            )
            found.append(self._found(step, "chosen-falls", text))
        return [finding for finding in found if finding is not None]

    def validation(self, step: int, loss: float) -> list[TrainingFinding]:
        """A validation's loss."""
        mean = self.since[0] / self.since[1] if self.since[1] else loss  # none before the first
        self.valid.append([step, loss, mean])
        self.since = [0.0, 0.0]
        found = self._overfitting(step)
        return [] if found is None else [found]

    def _spike(self, step: int, loss: float, row_loss: Mapping[str, float]) -> TrainingFinding | None:
        """Above twice its neighbours' median, by half a nat, and by 8 of their robust standard deviations."""
        if len(self.recent) < FEWEST:
            return None
        usual = median(self.recent)
        spread = 1.4826 * median(abs(value - usual) for value in self.recent)
        limit = usual + max(8 * spread, usual, 0.5)
        if loss <= limit:
            return None
        rows = _highest(row_loss, limit)
        return self._found(
            step,
            "spike",
            f"the loss is {loss:.2f}, that of the steps before about {usual:.2f}. Look at the rows: "
            f"{_listed(rows, row_loss)}",
            rows,
        )

    def _divergence(self, step: int, row_loss: Mapping[str, float]) -> TrainingFinding | None:
        """Most of the last ten losses are above where training began, or far above what most of thirty were.

        Most, not half: where batches differ much in loss (long texts beside labels), medians of ten do too.
        """
        if len(self.recent) < FEWEST:
            return None
        last, level = sorted(self.recent[-FEWEST:]), sorted(self.recent)[3 * len(self.recent) // 4]
        now = median(last)
        if self.start is None or self.low is None:
            self.start, self.low = now, level
            return None
        low, self.low = self.low, min(self.low, level)
        if last[FEWEST // 5] <= min(1.1 * self.start + 0.2, 2 * low + 0.5) or "divergence" in self.said:
            return None
        rows = _highest(row_loss, now)
        return self._found(
            step,
            "divergence",
            f"the training loss has risen to {now:.2f} from {low:.2f}. A smaller train.learning_rate usually "
            f"helps. The rows that it is highest for: {_listed(rows, row_loss)}",
            rows,
        )

    def _plateau(self, step: int) -> TrainingFinding | None:
        """Nothing is learned, in the first two thirds of a run, when the learning rate is still high."""
        last = self.blocks[-FLAT_BLOCKS:]
        if (
            len(last) < FLAT_BLOCKS
            or self.start is None
            or step > self.total * 2 / 3
            or "plateau" in self.said
        ):
            return None
        half = FLAT_BLOCKS // 2
        before, after = sum(last[:half]) / half, sum(last[half:]) / half
        if abs(before - after) > 0.01 * before or after < 0.85 * self.start:
            return None
        return self._found(
            step,
            "plateau",
            f"the training loss stays near {after:.2f}, where it began at {self.start:.2f}. A larger "
            "train.learning_rate or train.rank may help, or there is no more to learn from these rows",
        )

    def _overfitting(self, step: int) -> TrainingFinding | None:
        """Twice in a row the validation loss is above its best, and rising, while the training loss falls."""
        best = min(self.valid, key=lambda entry: entry[1])
        if "overfitting" in self.said or self.valid.index(best) > len(self.valid) - 3:
            return None
        (_, before, _), (_, now, mean) = self.valid[-2:]
        margin = max(0.02 * best[1], 0.01)
        if min(before, now) < best[1] + margin or now < before or mean > 0.98 * best[2]:
            return None
        return self._found(
            step,
            "overfitting",
            f"the validation loss has risen to {now:.3f} from {best[1]:.3f} at step {best[0]:.0f}, while the "
            f"training loss went on falling to {mean:.3f}. The best weights are kept; fewer train.epochs, a "
            "smaller train.learning_rate or more rows help",
        )

    def _found(self, step: int, name: str, text: str, rows: tuple[str, ...] = ()) -> TrainingFinding | None:
        count = self.said[name] = self.said.get(name, 0) + 1
        return None if count > MOST else TrainingFinding(step, name, text, rows, count == 1)


def _highest(row_loss: Mapping[str, float], limit: float) -> tuple[str, ...]:
    """The ids of up to three rows above the limit, else of the highest."""
    order = sorted(row_loss, key=lambda id: (-row_loss[id], id))
    return tuple([id for id in order if row_loss[id] > limit][:3] or order[:1])


def _listed(rows: tuple[str, ...], row_loss: Mapping[str, float]) -> str:
    return ", ".join(f"{id} ({row_loss[id]:.2f})" for id in rows)
