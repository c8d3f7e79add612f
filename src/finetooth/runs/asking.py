"""How a run asks its model: prompt, system message and constraint, from here alone.

Evaluation, `chat` and `predict` take their candidates from here, so that what is used is what was measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from finetooth.config import cleaning
from finetooth.config.named_models import is_named
from finetooth.config.values import first_few, format_count
from finetooth.data.cache import Say, silent
from finetooth.data.formats.columns import JOINED
from finetooth.data.gguf_file import is_gguf
from finetooth.data.render import turns
from finetooth.data.render.renderer import Renderer
from finetooth.errors import ConfigError, ModelError
from finetooth.evaluation import graders
from finetooth.evaluation.candidates import ModelCandidate
from finetooth.evaluation.graders.label_sets import label_names
from finetooth.evaluation.graders.named import DEFAULTS
from finetooth.evaluation.prompting.spec import Indexes, PromptSpec, index_of, read_spec
from finetooth.evaluation.prompts import FROM_FILE, Prompt, build_prompt
from finetooth.evaluation.summary import TUNED
from finetooth.model.api import Model
from finetooth.quality.repair.clean import TEXT, changed_row
from finetooth.runs import confidence, workspace
from finetooth.runs.best_prompt import prompt_file
from finetooth.runs.context import RunContext, model_lines, tokenizer_of
from finetooth.runs.embeddings import embedder_of
from finetooth.types import Example, Message, Sampling

SHOWN_LABELS = 6
UNSEEN_SETS = 0.01  # of the rows: sets of labels are chosen where fewer have one that no training row has
MAX_TOKENS, SEED = 256, 1  # of the answers of a model without a run


def candidate(
    context: RunContext, grader: str, model: Model, prompt: Prompt, renderer: Renderer | None = None
) -> ModelCandidate:
    """A model under a prompt, as this run asks it. grader: display name of the primary grader.

    Where it is `label`, the model chooses among the labels of the training rows, and where it is `labels`
    among their sets of labels, if hardly a row can have another one; else it generates. renderer: in place of
    the run's.
    """
    task, renderer = context.task, renderer or context.renderer
    max_tokens = task.evaluate.max_tokens
    assert max_tokens != "auto", "the stored configuration is resolved"
    sampling = Sampling(task.evaluate.temperature, max_tokens, seed=task.seed)
    model.add_stop(renderer.stop_id)
    graded_by, train = graders.without_options(grader), context.prepared.train
    chooses = graded_by == "label" or (graded_by == "labels" and _sets_are_known(train))
    labels = [label for label in context.prepared.labels if chooses and renderer.can_answer(label)]
    return ModelCandidate(
        prompt.name,
        model,
        renderer,
        prompt,
        sampling,
        labels or None,
        task.data.overlong,
        thinking=_thinks(train),
        temperature=confidence.of_run(context.path).temperature if prompt.name == TUNED else 1.0,
    )


def prompt(context: RunContext, grader: str, shots: int) -> Prompt:
    """The prompt with so many demonstrations, as the run's prompting baselines have it."""
    labels, several = listed_labels(context, grader)
    made = build_prompt(shots, context.prepared.train, labels, context.task.seed)
    return replace(made, multi_label=several)


def candidate_of_spec(
    context: RunContext,
    grader: str,
    model: Model,
    spec: PromptSpec,
    name: str = FROM_FILE,
    indexes: Indexes | None = None,
) -> ModelCandidate:
    """A model under a prompt that was found by search or comes from a file.

    name: of the candidate; offsets are those of the base model, and left out for another name's. indexes: of
    the train rows, where they are built already.
    """
    labels, several = listed_labels(context, grader)
    indexes = indexes or index_of(context.prepared.train, embedder_of(model))
    built = spec.build(context.prepared.train, labels, context.task.seed, indexes)
    offsets = built.offsets if name == built.name else None
    asked = replace(built, name=name, multi_label=several, offsets=offsets)
    tuned = name.startswith(TUNED)
    renderer = context.renderer if tuned else context.base_renderer
    if spec.instruction is not None:
        tokenizer = context.tokenizer if tuned else context.base_tokenizer
        renderer = Renderer(tokenizer, workspace.template(context.task, context.path), spec.instruction)
    found = candidate(context, grader, model, asked, renderer)
    if spec.max_tokens is not None:
        found = replace(found, sampling=replace(found.sampling, max_tokens=spec.max_tokens))
    return found


def task_prompt(context: RunContext) -> PromptSpec | None:
    """The prompt of the key evaluate.prompt, else the one that was searched for this run. ConfigError."""
    file = prompt_file(context)
    return None if file is None else read_spec(file, "evaluate.prompt")


def listed_labels(context: RunContext, grader: str) -> tuple[Sequence[str], bool]:
    """The labels that prompts list, and whether several of them may be right. grader: the primary one."""
    several = graders.without_options(grader) == "labels"
    return label_names(context.prepared.labels) if several else context.prepared.labels, several


def _sets_are_known(train: Sequence[Example]) -> bool:
    """Whether hardly a row has a set of labels that no training row has.

    The estimate of Good and Turing (1953): the share of rows whose set occurs once.
    """
    sets = Counter(example.tags.get("label") for example in train)
    return sum(count == 1 for count in sets.values()) <= UNSEEN_SETS * len(train)


def _thinks(train: Sequence[Example]) -> bool:
    """Whether prompts ask for reasoning: all training answers have some. The saved template says the same."""
    return bool(train) and all(turns.reasoning(turns.answer_turn(example)) for example in train)


@dataclass(frozen=True)
class Asking:
    """How questions that nobody has answered yet are put to a model.

    candidate: the model with its prompt, constraint and sampling. system: sent where a question has no system
    message of its own. systems: the system messages of the training rows, if they differ. always: whether
    every training row has one. clean: the text operations of data.clean. format, columns, encoding: of the
    rows that it was trained on; unread: their columns that training left out. unsure_below: the confidence
    below which the run hands a row over, chosen by the task's costs.
    """

    candidate: ModelCandidate
    system: str = ""
    systems: tuple[str, ...] = ()
    always: bool = False
    clean: tuple[str, ...] = ()
    format: str = "auto"
    columns: Mapping[str, str] | None = None
    encoding: str = "utf-8"
    unread: frozenset[str] = frozenset()
    unsure_below: float | None = None

    @property
    def labels(self) -> Sequence[str]:
        """The labels among which the model chooses; () when it generates freely."""
        return self.candidate.labels or ()

    def example(self, example: Example) -> Example:
        """The example as training saw such rows: cleaned, with the system message of the run."""
        example = self.cleaned(example)
        if self.system and not system_message(example):
            example = replace(example, context=(Message("system", self.system), *example.context))
        return example

    def cleaned(self, example: Example) -> Example:
        """The example after the text operations of data.clean."""
        for name in self.clean:
            example = changed_row(example, name)
        return example

    def describe(self) -> str:
        """One line: instruction, system message and constraint."""
        parts = []
        if instruction := self.candidate.renderer.instruction:
            parts.append(f"instruction: {_short(instruction)}")
        if self.system:
            parts.append(f"system message: {_short(self.system)}")
        elif self.systems:
            parts.append(
                f"no system message, though the training rows have {len(self.systems)} different ones "
                f"(--system TEXT sets one, such as {_short(self.systems[0])})"
            )
        else:
            parts.append("no system message")
        roles = [*(self.columns or {}).values()]
        if lines := [
            name for name, role in (self.columns or {}).items() if role in JOINED and roles.count(role) > 1
        ]:
            parts.append(f"a question is of the lines {', '.join(f'`{name}: ...`' for name in lines)}")
        if self.labels:
            names = first_few([*self.labels], SHOWN_LABELS)
            parts.append(f"the answer is one of {format_count(len(self.labels), 'label')} ({names})")
        else:
            parts.append("the answer is free text")
        return f"Asked with {'; '.join(parts)}."

    def to_json(self) -> dict[str, object]:
        """What `describe` says, for programs."""
        return {
            "instruction": self.candidate.renderer.instruction,
            "system": self.system,
            "labels": [*self.labels] or None,
        }


def _short(text: str) -> str:
    line = " ".join(text.split())
    return f"{line[:77]!r}..." if len(line) > 80 else repr(line)


def system_message(example: Example) -> str:
    """The example's own system message; "" without one."""
    return "\n\n".join(message.content for message in example.context if message.role == "system")


def of_run(context: RunContext, model: Model, name: str = TUNED) -> Asking:
    """How the run asks this model: as its tuned candidate was measured.

    Raises ConfigError for a run without its rows, and for a reward model.
    """
    if context.task.train.method == "reward_model":
        raise ConfigError(f"{context.path} is a reward model: it scores answers and cannot generate text.")
    facts = training_rows(context)
    asked = candidate(context, primary_grader(context), model, Prompt(name))
    decides = name == TUNED and asked.labels and confidence.UNSURE not in asked.labels
    threshold = confidence.of_run(context.path).threshold if decides else None
    return Asking(asked, **facts, unsure_below=threshold)


def training_rows(context: RunContext) -> dict[str, Any]:
    """What an Asking knows of the rows that the run was trained on. ConfigError without these rows."""
    task, path = context.task, context.path
    if not (path / "data" / "split.json").is_file():
        raise ConfigError(
            f"{path}: data/split.json is missing, so the labels and system messages of the training rows are "
            "not known. Copy the whole run directory, or name the model itself: "
            f"{workspace.trained_path(path)}"
        )
    systems = _systems(context.prepared.train)
    shared = systems[0] if len(systems) == 1 else ""
    return {
        "system": shared,
        "systems": () if shared else tuple(text for text in systems if text),
        "always": bool(systems) and "" not in systems,
        "clean": tuple(one.name for one in cleaning.operations(task.data.clean) if one.name in TEXT),
        "format": context.prepared.format,
        "columns": task.data.columns,
        "encoding": task.data.encoding,
        "unread": frozenset(tag for example in context.prepared.train for tag in example.tags),
    }


def _systems(examples: Iterable[Example]) -> list[str]:
    """The different system messages of the examples, the most common first; "" for none."""
    counts: dict[str, int] = {}
    for example in examples:
        text = system_message(example)
        counts[text] = counts.get(text, 0) + 1
    return sorted(counts, key=lambda text: -counts[text])


def primary_grader(context: RunContext) -> str:
    """The name of the run's primary grader. Unlike `graders.resolve`, this imports no code of the user's."""
    specs = graders.specs(context.task.evaluate.grader)
    spec = specs[0] if specs else ""
    if not isinstance(spec, str):
        spec = "" if "type" in spec else str(spec.get("name", ""))
    return DEFAULTS.get(context.grading_format, "") if spec == "auto" else spec


def of_model(target: str, say: Say = silent) -> Asking:
    """How a model or an adapter without a run is asked: with its own template, freely, without a prompt.

    Raises ConfigError or ModelError when there is no such model.
    """
    path = Path(target)
    if not is_named(target) and path.is_file() and not is_gguf(path):
        raise ConfigError(
            f"{target} is a file. Expected a run directory or a model."
            + (f" First: finetooth run {target}" if path.suffix in (".yaml", ".yml", ".toml") else "")
        )
    runs = [] if is_named(target) else workspace.known_runs(f"{path}/" if path.exists() else "runs/")[:8]
    there = f" Runs here: {', '.join(runs)}." if runs else ""
    if not is_named(target) and path.is_dir() and not _has_model(path):
        raise ConfigError(
            f"{target} is neither a run (no config.yaml in it) nor a model (no config.json and no "
            f"adapter_config.json).{there}"
        )
    try:
        model = Model.load(target, say=say)
    except ModelError as error:
        raise ModelError(f"{error}{there}") from None
    renderer = Renderer(tokenizer_of(model, path))
    model.add_stop(renderer.stop_id)
    name = TUNED if model.peft is not None else path.resolve().name
    sampling = Sampling(max_tokens=MAX_TOKENS, seed=SEED)
    return Asking(ModelCandidate(name, model, renderer, Prompt(name), sampling, thinking=None))


def _has_model(path: Path) -> bool:
    named = ("config.json", "adapter_config.json")
    return any((path / name).is_file() for name in named) or any(path.glob("*.gguf"))


def of_target(target: str, console: Console) -> tuple[Asking, RunContext | None]:
    """How the tuned model of a run, or a model by name, is asked; with the context of a run."""
    path = Path(target)
    if not is_named(target) and (path / workspace.CONFIG).is_file():
        context = RunContext.of_run(path, console)
        return of_run(context, context.tuned()), context
    return of_model(target, model_lines(console)), None
