"""finetooth's turns that learn from rewards and preferences, through what a run of it goes through."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from protocol import Facts, even_share, read_rows

import finetooth as ft
from finetooth import tree
from finetooth.config.task import TrainConfig
from finetooth.evaluation import graders
from finetooth.model.inference import row_logprobs
from finetooth.training import optimizer, preferences
from finetooth.training.objectives import Objective
from finetooth.training.rl import advantages
from finetooth.training.rl.batch import Rollout, RolloutBatch, RolloutPrompt
from finetooth.training.rl.rollout import RolloutTrainer
from finetooth.training.step import StepResult, train_step
from finetooth.types import Answer, Completion, Example, Message, Score


def unshared() -> None:
    """From here on every row of a tree is a root of its own, so that nothing is shared and all else stays."""

    def beside(root: Any, token_T: tree.Ints) -> Any:
        run = tree._Segment(token_T, root, 0)
        root.children[len(root.children)] = run
        return run

    tree._insert = beside


class Learner:
    """The model, its optimizer and the rows of a case. micro: distinct tokens of a micro-tree."""

    def __init__(self, spec: Facts, rows: Sequence[ft.Row], micro: int, model: ft.Model, **keys: Any) -> None:
        self.rows, self.model, self.micro, self.computed = rows, model.train(), micro, 0
        self.config = TrainConfig(adapter=spec["adapter"], micro_tokens=micro, learning_rate=1e-4, **keys)
        self.adamw = optimizer.build(model, self.config)
        for group in self.adamw.param_groups:
            group["lr"] = spec["rate"]

    def update(self, rows: Sequence[ft.Row], objective: Objective) -> StepResult:
        """One optimizer step."""
        norm = self.config.max_grad_norm
        return train_step(self.model, objective, rows, self.adamw, budget=self.micro, max_norm=norm)

    def told(self, done: StepResult) -> Facts:
        """What a turn answers."""
        return {
            "loss": done.loss,
            "grad_norm": done.grad_norm,
            "computed_tokens": done.computed_tokens,
            "micro_tokens": self.micro,
            "attention": self.model.attention,
        }


def rollouts_of(spec: Facts, learner: Learner) -> RolloutTrainer:
    """What takes the steps of a run that learns from rewards, on this case's prompts."""
    run = Path(spec["rows"]).parent / f"run-{spec['system']}"
    (run / "train").mkdir(parents=True, exist_ok=True)
    questions = []
    for row in {row["group"]: row for row in read_rows(spec)}.values():
        prompt = row["tokens"][: row["scored"].index(1)]
        example = Example(str(row["group"]), (Message("user", "the prompt"),), (Answer("an answer"),))
        questions.append(RolloutPrompt(example, ft.Row(prompt, [0.0] * len(prompt), id=example.id)))
    longest = sum(learner.rows[0].weight > 0)
    reward = graders.guard(lambda example, text: even_share(text))
    return RolloutTrainer(learner.model, questions, reward, learner.config, 0, int(longest), run)


def rewarded(spec: Facts, learner: Learner) -> Any:
    """A turn makes rows of given answers and rewards, and takes one GRPO step on them.

    The log-probabilities that answers were sampled with are the model's own.
    """
    rollouts = rollouts_of(spec, learner)
    given = read_rows(spec)
    found = []
    for row, logp_M in zip(given, row_logprobs(learner.model, learner.rows, learner.micro), strict=True):
        answer = tuple(row["tokens"][row["scored"].index(1) :])
        done = Completion(row["group"], answer, tuple(logp_M.tolist()), "", "stop")
        found.append(Rollout(row["group"], done, Score(row["worth"])))
    reward_R = np.array([row["worth"] for row in given])
    group_R = np.array([row["group"] for row in given])
    batch = RolloutBatch(found, reward_R, group_R, groups=len(rollouts.prompts))

    def turn(_: Facts) -> Facts:
        rows = rollouts.to_rows(batch, advantages.advantages("grpo", reward_R, group_R))
        return learner.told(learner.update(rows, rollouts.objective))

    return turn


def sampled(spec: Facts, learner: Learner) -> Any:
    """A turn samples answers, rewards them, and takes one GRPO step on them. No token ends an answer."""
    learner.model.stop_ids = frozenset()
    rollouts = rollouts_of(spec, learner)
    step = itertools.count()

    def turn(_: Facts) -> Facts:
        done, line = rollouts.step(next(step), np.arange(len(rollouts.prompts)), learner.update)
        assert line["rollouts"] == len(learner.rows) and line["answer_tokens"] == rollouts.longest
        return learner.told(done)

    return turn


def preferred(spec: Facts, learner: Learner) -> Any:
    """A turn is one DPO step; the reference's log-probabilities are measured once, before the first."""
    objective = preferences.objective(learner.config)
    rows = []
    logp = row_logprobs(learner.model, learner.rows, learner.micro)
    for row, given, logp_M in zip(learner.rows, read_rows(spec), logp, strict=True):
        logp_T = np.zeros(len(row))
        logp_T[row.weight > 0] = logp_M
        signals = {"chosen": given["worth"], "reference_logp": logp_T}
        rows.append(ft.Row(row.tokens, row.weight, signals, given["group"], row.id))

    def turn(_: Facts) -> Facts:
        return learner.told(learner.update(rows, objective))

    return turn


def learning(spec: Facts, budget: Any) -> Any:
    """The turns of spec["task"]. budget: (model, rows) -> distinct tokens of a micro-tree."""
    if spec.get("unshared"):
        unshared()
    rows = [ft.Row(row["tokens"], row["scored"], id=str(at)) for at, row in enumerate(read_rows(spec))]
    model = ft.Model.load(spec["model"], adapter=spec["start"] if spec["adapter"] == "lora" else None)
    keys: Facts = {"method": "dpo", "beta": spec["beta"]}
    if spec["task"] != "preferred":
        size = sum(row["group"] == 0 for row in read_rows(spec))
        keys = {"method": "grpo", "group_size": size, "truncated": "keep"}
    micro = spec.get("micro_tokens") or budget(model, rows)
    learner = Learner(spec, rows, micro, model, **keys)
    torch.manual_seed(0)
    return {"rewarded": rewarded, "sampled": sampled, "preferred": preferred}[spec["task"]](spec, learner)
