"""What a run that learns from rewards needs: the questions, the reward, and the proof that it cannot be
fooled.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from rich.console import Console

from finetooth.config.method_keys import RL_METHODS
from finetooth.config.task import Task
from finetooth.errors import ConfigError, GradeError
from finetooth.evaluation import graders
from finetooth.evaluation.answer_text import AnswerNormaliser, answer_normaliser, identity
from finetooth.quality.prepare import PreparedData
from finetooth.runs import reward_model
from finetooth.runs.context import RunContext
from finetooth.training.rl import rewards
from finetooth.training.rl.batch import RolloutPrompt
from finetooth.training.rl.reward_model import RewardModelScorer
from finetooth.training.rl.rollout import RolloutTrainer


def require_valid_reward(task: Task, prepared: PreparedData, console: Console) -> None:
    """Stop before a run begins when its reward cannot be used or, with train.reward_check on, can be fooled.

    Does nothing for a method without rewards. Raises GradeError, and ConfigError where an answer would be
    compared with no other.
    """
    config = task.train
    if config.method not in RL_METHODS:
        return
    if config.group_size == 1 and (config.method != "reinforce" or config.batch_size == 1):
        raise ConfigError(
            "train.group_size is 1, so an answer is compared with no other and nothing is learned. Set it to "
            "2 or more; train.method reinforce compares answers to different questions, from a "
            "train.batch_size of 2 on."
        )
    if prepared.format == "text":
        raise GradeError(f"Plain text has no questions to answer, as train.method {task.train.method} needs.")
    wrong, doubts = rewards.audit_reward(_reward(task, prepared), prepared.train)
    if wrong and task.train.reward_check == "on":
        listed = "\n".join(f"  {fault}" for fault in wrong)
        raise GradeError(
            f"train.reward: training would learn to fool it, or could not reach it:\n{listed}\nMend it. "
            "`--train.reward_check off` trains all the same."
        )
    for fault in [*wrong, *doubts]:
        console.print(f"warning: train.reward: {fault}.", style="yellow", soft_wrap=True)


def _reward(
    task: Task, prepared: PreparedData, normalise: AnswerNormaliser = identity, path: Path | None = None
) -> rewards.Reward:
    """path: of the run, once it is there."""
    kind = graders.grading_format(task.data.columns, prepared.format)
    grader = graders.specs(task.evaluate.grader)[0]
    if task.train.reward is None:
        graders.resolve(grader, kind, Path.cwd())  # what it refuses is evaluate.grader's, a reward model too
    given = grader if task.train.reward is None else task.train.reward
    scorer = partial(reward_model.load, examples=prepared.train, normalise=normalise, run=path)
    return rewards.build_reward(given, kind, Path.cwd(), normalise, scorer)


def rollouts(context: RunContext) -> RolloutTrainer | None:
    """What takes the steps of this run; None for a method without rewards. Raises GradeError."""
    task, prepared, console = context.task, context.prepared, context.console
    if task.train.method not in RL_METHODS:
        return None
    reward = _reward(task, prepared, answer_normaliser(context.renderer), context.path)
    usable = {row.example_id for row in context.train_rows}
    renderer, longest = context.renderer, task.evaluate.max_tokens
    assert isinstance(longest, int), "the configuration is resolved"
    questions = [
        RolloutPrompt(example, renderer.context_row(example.context, example.tools, renderer.thinks(example)))
        for example in prepared.train
        if example.id in usable and example.context
    ]
    room = [one for one in questions if len(one.row) + longest <= context.model.max_tokens]
    if len(room) < len(questions):
        left = len(questions) - len(room)
        console.print(f"data: {left} questions have no room for {longest} tokens of answer and are left out")
    names = ", ".join(f"{weight:g} x {name}" for name, _, weight in reward.graders)
    console.print(f"reward: {names}; {task.train.group_size} answers to each of {len(room)} questions")
    for name, scorer, _ in reward.graders:
        if isinstance(scorer, RewardModelScorer):
            scale = f"{scorer.middle:.3g} of expected answers is worth 0.5; spread {scorer.spread:.3g}"
            console.print(f"reward: {name}: a score of {scale}", highlight=False)
    return RolloutTrainer(context.model, room, reward, task.train, task.seed, longest, context.path)
