"""What a run that learns from rewards needs: the questions, the reward, and the proof that it cannot be
fooled.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from finetooth.commands.setup import Setup, grader_names
from finetooth.errors import GradeError
from finetooth.evaluation import graders
from finetooth.evaluation.written import as_written
from finetooth.reward_keys import REWARDED
from finetooth.training import rewards
from finetooth.training.batch import Question
from finetooth.training.rollout import Rollouts


def rollouts(setup: Setup, console: Console) -> Rollouts | None:
    """What takes the steps of this run; None for a method without rewards.

    Raises GradeError when the reward cannot be used or, with train.reward_check on, when it can be fooled.
    """
    task, prepared = setup.task, setup.prepared
    if task.train.method not in REWARDED:
        return None
    if prepared.format == "text":
        raise GradeError(f"Plain text has no questions to answer, as train.method {task.train.method} needs.")
    kind = graders.kind(task.data.columns, prepared.format)
    given = grader_names(task)[0] if task.train.reward is None else task.train.reward
    reward = rewards.of(given, kind, Path.cwd(), as_written(setup.renderer))
    wrong, doubts = rewards.faults(reward, prepared.train)
    if wrong and task.train.reward_check == "on":
        listed = "\n".join(f"  {fault}" for fault in wrong)
        raise GradeError(
            f"train.reward: training would learn to fool it, or could not reach it:\n{listed}\nMend it. "
            "`--train.reward_check off`, with a new --out, trains all the same."
        )
    for fault in [*wrong, *doubts]:
        console.print(f"warning: train.reward: {fault}.", style="yellow", soft_wrap=True)
    usable = {row.id for row in setup.train_rows} | {row.id.rpartition("#")[0] for row in setup.train_rows}
    renderer, longest = setup.renderer, task.evaluate.max_tokens
    assert isinstance(longest, int), "the configuration is resolved"
    questions = [
        Question(example, renderer.context_row(example.context, example.tools, renderer.thinks(example)))
        for example in prepared.train
        if example.id in usable and example.context
    ]
    room = [one for one in questions if len(one.row) + longest <= setup.model.max_tokens]
    if len(room) < len(questions):
        left = len(questions) - len(room)
        console.print(f"data: {left} questions have no room for {longest} tokens of answer and are left out")
    names = ", ".join(f"{weight:g} x {name}" for name, _, weight in reward.graders)
    console.print(f"reward: {names}; {task.train.group_size} answers to each of {len(room)} questions")
    return Rollouts(setup.model, room, reward, task.train, task.seed, longest, setup.path)
