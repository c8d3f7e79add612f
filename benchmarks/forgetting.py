"""Is forgetting caught, and a healthy training not? And does interpolation mend it? Several seeds of each.

    python benchmarks/forgetting.py --model DIR --out runs/forgetting.jsonl

DIR: a real base model, as SmolLM2-135M-Instruct. Each seed draws --rows rows of support triage (shipped with
finetooth) and trains twice on them for the same number of steps: LoRA at its automatic rate (healthy), and
every weight at --times the automatic rate of full fine-tuning (planted). Both are measured on the panel of
evaluation/retention.py, and choose the labels of held-out rows. What has forgotten is then interpolated with
the base, by the rule of `finetooth evaluate RUN --interpolate auto`, and measured again (mended). Results
that are in the file already are not made again, so a call that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from finetooth.config.task import TrainConfig
from finetooth.data.render.renderer import Renderer
from finetooth.evaluation.retention import (
    FORGOTTEN,
    KEPT,
    PanelScores,
    panel_rows,
    read_panel,
    retention,
    score_panel,
)
from finetooth.model.api import Model
from finetooth.model.interpolation import Interpolation
from finetooth.rundir import append_jsonl, read_jsonl
from finetooth.runs.interpolation import Trial, base_weights, chosen, kept_shares
from finetooth.training import optimizer as optimizers
from finetooth.training.defaults import LORA_OVER_FULL, DefaultsContext, learning_rate
from finetooth.training.objectives import supervised
from finetooth.training.schedule import batch_indices, learning_rate_multiplier
from finetooth.training.step import train_step
from finetooth.tree import Row
from finetooth.types import Answer, Example, Message

HEALTHY, PLANTED, MENDED = "healthy", "planted", "mended"
ROWS = resources.files("finetooth").joinpath("examples", "support-triage", "train.jsonl")
INSTRUCTION, MARGIN, BUDGET, RANK = "Name what the customer wants.", 0.1, 768, 16


def arguments() -> argparse.Namespace:
    """What the user asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", required=True, help="directory or name of the base model")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5], help="default %(default)s")
    parser.add_argument("--rows", type=int, default=200, help="a fifth is held out; default %(default)s")
    parser.add_argument("--steps", type=int, default=20, help="of 16 rows, default %(default)s")
    parser.add_argument("--times", type=float, default=10, help="the planted rate, default %(default)s")
    parser.add_argument("--out", type=Path, default=Path("runs/forgetting.jsonl"), help="for the results")
    return parser.parse_args()


class Bench:
    """The base model in memory, whose weights every arm starts from, and what it knows of the panel."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.base = Model.load(given.model)
        self.renderer = Renderer(self.base.tokenizer, "auto", INSTRUCTION)
        self.panel = panel_rows(Renderer(self.base.tokenizer), read_panel())
        self.known: PanelScores = score_panel(self.base, self.panel)
        rows = [*read_jsonl(Path(str(ROWS)))]
        self.examples = [
            Example(
                str(at), (Message("user", row["text"]),), (Answer(row["label"]),), {"label": row["label"]}
            )
            for at, row in enumerate(rows)
        ]
        self.labels = sorted({row["label"] for row in rows})

    def sides(self, seed: int) -> tuple[list[Row], list[Example]]:
        """Rows to train on, and examples that are held out."""
        drawn = random.Random(seed).sample(self.examples, self.given.rows)
        held_out = drawn[: self.given.rows // 5]
        return [row for one in drawn[len(held_out) :] for row in self.renderer.rows(one)], held_out

    def trained(self, seed: int, arm: str, rows: Sequence[Row]) -> Model:
        """A fresh copy of the base, trained for the arm."""
        given, model = self.given, Model.load(self.given.model)
        if arm == HEALTHY:
            model.add_lora(RANK, seed)
        hidden = int(model.hf.config.hidden_size)
        facts = DefaultsContext(model.hf.config.model_type, hidden, 0, 0, 0, False, len(rows), 0, 0)
        lora_rate, _ = learning_rate("lora", facts)
        peak = lora_rate if arm == HEALTHY else given.times * lora_rate / LORA_OVER_FULL
        adapter = "lora" if arm == HEALTHY else "none"
        optimizer = optimizers.build(model, TrainConfig(adapter=adapter, learning_rate=peak))
        model.train()
        for step in range(given.steps):
            for group in optimizer.param_groups:
                group["lr"] = peak * learning_rate_multiplier(step, given.steps, 0.05, "cosine")
            batch = [rows[at] for at in batch_indices(seed, step, len(rows), 16)]
            train_step(model, supervised, batch, optimizer, budget=BUDGET, max_norm=1.0)
        return model.eval()

    def retention(self, model: Model) -> dict[str, Any]:
        """What the model kept of the base's general ability."""
        return retention(self.known, score_panel(model, self.panel), MARGIN)

    def score(self, model: Model, examples: Sequence[Example]) -> float:
        """The share of held-out examples whose label the model finds the likeliest."""
        contexts = [self.renderer.context_row(one.context) for one in examples]
        options = [self.renderer.answer_ids(examples[0].context, label) for label in self.labels]
        found = {one.row: self.labels[one.option] for one in model.choose(contexts, options)}
        return sum(found[at] == one.target for at, one in enumerate(examples)) / len(examples)

    def results(self, seed: int, arm: str) -> list[dict[str, Any]]:
        """The result of an arm, and for a planted one that has forgotten also that of its interpolation."""
        rows, held_out = self.sides(seed)
        model = self.trained(seed, arm, rows)
        before = Trial(1.0, self.retention(model), self.score(model, held_out))
        found = [result(seed, arm, before)]
        if arm == PLANTED and before.retention["verdict"] == FORGOTTEN:
            line = Interpolation(model, base_weights(self.base))
            trials = [
                Trial(one.share, one.retention, self.score(model, held_out))
                for one in kept_shares(lambda share: self.retention(line.move(share)))
            ]
            best = chosen(trials)
            found.append(result(seed, MENDED, best or trials[-1]))
        return found


def result(seed: int, arm: str, trial: Trial) -> dict[str, Any]:
    """A row of the table: the verdict, and what it rests on in points."""
    found = trial.retention
    bits = found["bits_per_byte"]
    return {
        "seed": seed,
        "arm": arm,
        "verdict": found["verdict"],
        **{key: round(100 * found[key], 1) for key in ("difference", "low", "high")},
        "prose": round(100 * (bits["tuned"] / bits["base"] - 1)),
        "task": None if trial.score is None else round(100 * trial.score, 1),
        "share": trial.share,
    }


def main() -> None:
    """Print and keep the result of each arm, then how often each verdict was given."""
    given = arguments()
    done = [*read_jsonl(given.out)] if given.out.is_file() else []
    bench = Bench(given)
    for seed in given.seeds:
        for arm in (PLANTED, HEALTHY):
            if any(one["seed"] == seed and one["arm"] == arm for one in done):
                continue
            started = time.process_time()
            for one in bench.results(seed, arm):
                append_jsonl(given.out, [one])
                done.append(one)
                print(json.dumps(one), f"{time.process_time() - started:.0f} s", flush=True)
    for arm in (HEALTHY, PLANTED, MENDED):
        counts = Counter(one["verdict"] for one in done if one["arm"] == arm)
        caught, kept = counts[FORGOTTEN], counts[KEPT]
        print(f"{arm}: {caught} of {counts.total()} forgotten, {kept} kept, the others not proven")


if __name__ == "__main__":
    main()
