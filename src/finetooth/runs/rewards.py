"""The rewards of a reinforcement-learning run: prompts, reward functions, reward models, and their audit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from finetooth.config.method_keys import REWARD_MODEL, RL_METHODS
from finetooth.data.render.renderer import Renderer
from finetooth.errors import ConfigError, FinetoothError, GradeError
from finetooth.evaluation import graders
from finetooth.evaluation.answer_text import AnswerNormaliser, answer_normaliser, identity
from finetooth.model import reward_head
from finetooth.model.api import Model
from finetooth.rundir import read_json, write_json
from finetooth.runs import workspace
from finetooth.runs.context import RunContext, tokenizer_of
from finetooth.training.rl import rewards
from finetooth.training.rl.batch import RolloutPrompt
from finetooth.training.rl.reward_model import RewardModelScorer
from finetooth.training.rl.rollout import RolloutTrainer
from finetooth.types import Example

EXPECTED = "Expected the directory of a run of train.method reward_model, or of a classifier with one label"


def require_valid_reward(context: RunContext) -> None:
    """Stop before a run begins when its reward cannot be used or, with train.reward_check on, can be gamed.

    Does nothing for a method without rewards. Raises GradeError, and ConfigError where the method would
    compare a completion with no other.
    """
    task, prepared, config = context.task, context.prepared, context.task.train
    if config.method not in RL_METHODS:
        return
    if config.group_size == 1 and (config.method != "reinforce" or config.batch_size == 1):
        raise ConfigError(
            "train.group_size is 1, so a completion has no other to be compared with and nothing is learned. "
            "Set it to 2 or more, or use train.method reinforce with a train.batch_size of 2 or more, which "
            "compares completions of different prompts."
        )
    if prepared.format == "text":
        raise GradeError(f"train.method {config.method} needs prompts, and plain text has none.")
    wrong, doubts = rewards.audit_reward(_reward(context, identity, None), prepared.train)
    if wrong and task.train.reward_check == "on":
        listed = "\n".join(f"  {fault}" for fault in wrong)
        raise GradeError(
            f"train.reward: the reward can be gamed, or cannot be reached:\n{listed}\nFix it, or train all "
            "the same with `--train.reward_check off`."
        )
    for fault in [*wrong, *doubts]:
        context.console.print(f"warning: train.reward: {fault}.", style="yellow", soft_wrap=True)


def _reward(context: RunContext, normalise: AnswerNormaliser, run: Path | None) -> rewards.Reward:
    """The reward of the task. run: see `load_reward_model`."""
    task, format, examples = context.task, context.grading_format, context.prepared.train
    grader = graders.specs(task.evaluate.grader)[0]
    if task.train.reward is None:
        graders.resolve(grader, format, Path.cwd())  # its error then names evaluate.grader
    spec = grader if task.train.reward is None else task.train.reward
    scorer = partial(load_reward_model, examples=examples, normalise=normalise, run=run)
    seconds = task.evaluate.grader_seconds
    return rewards.build_reward(spec, format, Path.cwd(), normalise, scorer, examples, seconds)


def rollouts(context: RunContext) -> RolloutTrainer | None:
    """The trainer of a run that learns from rewards; None for a method without rewards. Raises GradeError."""
    task, prepared, console = context.task, context.prepared, context.console
    if task.train.method not in RL_METHODS:
        return None
    reward = _reward(context, answer_normaliser(context.renderer), context.path)
    usable = {row.example_id for row in context.train_rows}
    renderer, longest = context.renderer, task.evaluate.max_tokens
    assert isinstance(longest, int), "the configuration is resolved"
    prompts = [
        RolloutPrompt(example, renderer.context_row(example.context, example.tools, renderer.thinks(example)))
        for example in prepared.train
        if example.id in usable and example.context
    ]
    fitting = [prompt for prompt in prompts if len(prompt.row) + longest <= context.model.max_tokens]
    if len(fitting) < len(prompts):
        left = len(prompts) - len(fitting)
        console.print(
            f"data: {left} prompts leave no room for a completion of {longest} tokens and are skipped"
        )
    names = ", ".join(f"{weight:g} x {name}" for name, _, weight in reward.graders)
    console.print(f"reward: {names}; {task.train.group_size} completions for each of {len(fitting)} prompts")
    for name, scorer, _ in reward.graders:
        if isinstance(scorer, RewardModelScorer):
            scale = f"{scorer.middle:.3g} on expected answers is 0.5; its spread is {scorer.spread:.3g}"
            console.print(f"reward: {name}: a score of {scale}", highlight=False)
    return RolloutTrainer(
        context.model, fitting, reward, task.train, context.training_seed, longest, context.path
    )


def load_reward_model(
    spec: Mapping[str, Any], examples: Sequence[Example], normalise: AnswerNormaliser, run: Path | None = None
) -> tuple[str, RewardModelScorer]:
    """The display name and the scorer of {name: reward_model, model: DIRECTORY}, calibrated on the examples.

    run: the run that is trained with it, which stores digest and scale in train/reward_models.json: it
    continues with these, and with no other model. Raises GradeError, naming train.reward.
    """
    if set(spec) != {"name", "model"} or not isinstance(spec["model"], str):
        found = dict(spec) or REWARD_MODEL
        raise GradeError(
            f"train.reward: a reward model is {{name: reward_model, model: DIRECTORY}}, found {found}. "
            f"{EXPECTED}."
        )
    path = Path(spec["model"])
    try:
        scorer = _of_run(path) if (path / workspace.CONFIG).is_file() else _of_directory(path)
    except FinetoothError as error:
        raise GradeError(f"train.reward: {str(error).removeprefix('train.reward: ')}") from None
    return f"{REWARD_MODEL} {path.name}", _calibrated(scorer, path, examples, normalise, run)


def _of_run(path: Path) -> RewardModelScorer:
    task = workspace.load_config(path)
    if task.train.method != "reward_model":
        raise GradeError(
            f"{path} is a run of train.method {task.train.method}, not a reward model. {EXPECTED}."
        )
    if workspace.trained_path(path) is None:
        raise GradeError(f"{path} has no reward model yet. First: finetooth train {path}")
    context = RunContext(task, path, Console(quiet=True))
    return RewardModelScorer(context.tuned(), context.renderer)


def _of_directory(path: Path) -> RewardModelScorer:
    """A classifier or its adapter. The instruction of its training is unknown, so none is rendered."""
    if not path.is_dir():
        found = "a file" if path.is_file() else "no such directory"
        raise GradeError(f"{path}: {found}. {EXPECTED}.")
    if not any((path / name).is_file() for name in ("config.json", "adapter_config.json")):
        raise GradeError(f"{path} is neither a run nor a model. {EXPECTED}.")
    model = Model.load(path)
    if not reward_head.is_reward(model.hf):
        raise GradeError(f"{path} is a language model, not a reward model. {EXPECTED}.")
    return RewardModelScorer(model, Renderer(tokenizer_of(model, path)))


def _calibrated(
    scorer: RewardModelScorer,
    path: Path,
    examples: Sequence[Example],
    normalise: AnswerNormaliser,
    run: Path | None,
) -> RewardModelScorer:
    """The reward model on its scale, which must be the one that the run began with.

    The scale is stored rather than measured again, since its last digits depend on the number of threads.
    """
    if run is None:
        return scorer.calibrated_on(examples, normalise)
    file = run / "train" / "reward_models.json"
    known = read_json(file) if file.is_file() else {}
    digest = scorer.digest()
    if str(path) not in known:
        scorer = scorer.calibrated_on(examples, normalise)
        known[str(path)] = {"digest": digest, "middle": scorer.middle, "spread": scorer.spread}
        write_json(file, known)
    elif known[str(path)]["digest"] != digest:
        raise GradeError(
            f"train.reward: {path} is not the reward model that {run} began with (its digest differs), so "
            "rewards would change within the run. Restore it, or start a new run with another --out."
        )
    scale = known[str(path)]
    return RewardModelScorer(scorer.model, scorer.renderer, scale["middle"], scale["spread"])
