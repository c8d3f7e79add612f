"""The context of a run: its task, directory, renderer, rows and models, each built once for all stages.

Models are loaded on first use, so that `check`, which needs none, never loads torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetooth.config.named_models import is_named
from finetooth.config.task import Task
from finetooth.data.cache import Say
from finetooth.data.hub import model_directory
from finetooth.data.render.renderer import Renderer
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.errors import ConfigError, ModelError
from finetooth.evaluation import graders
from finetooth.quality.prepare import AssembledData, PreparedData, prepare
from finetooth.rundir import read_json
from finetooth.runs import inputs, parent, workspace
from finetooth.tree import Row

if TYPE_CHECKING:
    from rich.console import Console

    from finetooth.model.api import Model
    from finetooth.model.lora import Coverage
    from finetooth.training.probe import Probe


class RunContext:
    """What the stages of one run share.

    task: resolved once the run is set up. folder: that of the task file, if there is one. model: the model in
    training, with its adapter. train_rows, validation_rows: the tokenized rows. probe: the estimate of the
    training. These four exist from set-up to the end of training. given: rows of a new run that have passed
    the data gate, in place of those of the task's files.
    """

    model: Model
    probe: Probe
    train_rows: list[Row]
    validation_rows: list[Row]

    def __init__(self, task: Task, path: Path, console: Console, folder: Path | None = None) -> None:
        self.task, self.path, self.console, self.folder = task, path, console, folder
        self.given: AssembledData | None = None
        self._in_memory: tuple[str, Model] | None = None  # the loaded model and its role in this run

    @classmethod
    def of_run(cls, path: Path, console: Console) -> RunContext:
        """The context of a run directory. ConfigError for another directory."""
        return cls(workspace.load_config(path), path, console)

    @property
    def training_seed(self) -> int:
        """The seed of what training draws: the order of rows, the initial adapter, rollouts."""
        return self.task.seed if self.task.train.seed is None else self.task.train.seed

    def release(self) -> None:
        """Give up the model in memory; it is loaded again when it is needed."""
        self._in_memory = None

    # Rendering and rows -------------------------------------------------------------------------------------

    @cached_property
    def tokenizer_directory(self) -> Path:
        """The directory of the base's tokenizer; an adapter's directory has its own. Raises ModelError.

        Of a whole model that was trained elsewhere: its directory.
        """
        tuned, say = self._elsewhere, model_lines(self.console)
        if tuned is not None and not workspace.is_adapter(tuned):
            return model_directory(str(tuned), False, say)
        adapter = not is_named(self.task.model) and workspace.is_adapter(Path(self.task.model))
        return Path(self.task.model) if adapter else model_directory(self.task.model, False, say)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The base's tokenizer; that of a model that was trained elsewhere, if it has its own. ModelError."""
        tuned = self._elsewhere
        own = tuned is not None and workspace.is_adapter(tuned) and (tuned / "tokenizer.json").is_file()
        return Tokenizer.load(tuned if own and tuned is not None else self.tokenizer_directory)

    @cached_property
    def base_tokenizer(self) -> Tokenizer:
        """The base's tokenizer. Raises ModelError."""
        if self._elsewhere is None:
            return self.tokenizer
        return Tokenizer.load(model_directory(self.task.model, weights=False))

    @cached_property
    def renderer(self) -> Renderer:
        """The renderer of training, evaluation and chat: the tokenizer and the run's template."""
        return self._renderer(self.tokenizer)

    @cached_property
    def base_renderer(self) -> Renderer:
        """The renderer of the base: another one where the tuned model was trained elsewhere."""
        return self.renderer if self._elsewhere is None else self._renderer(self.base_tokenizer)

    def _renderer(self, tokenizer: Tokenizer) -> Renderer:
        return Renderer(tokenizer, workspace.template(self.task, self.path), self.task.instruction)

    @property
    def _elsewhere(self) -> Path | None:
        """The tuned model of a run that did not train it."""
        return None if self.task.tuned is None else Path(self.task.tuned)

    @cached_property
    def prepared(self) -> PreparedData:
        """The train and validation rows, from the run's data/."""
        return prepare(self.task, self.path)

    @property
    def grading_format(self) -> str:
        """What decides the grader of `auto`; see graders.grading_format."""
        return graders.grading_format(self.task.data.columns, self.prepared.format, self.prepared.train)

    # Models -------------------------------------------------------------------------------------------------

    def load(self, name: str | Path | None = None, **options: Any) -> Model:
        """`Model.load` (of the base, without a name) in the dtype that the run began with.

        The dtype decides a run's numbers. A new run takes that of its parent run, else auto. In full
        fine-tuning the weights are float32 whatever the compute dtype.
        """
        from finetooth.model.api import Model

        known = self.path / "environment.json"
        if self.task.start is not None and not known.is_file():
            known = Path(self.task.start) / "environment.json"
        dtype = read_json(known)["model"].get("dtype", "auto") if known.is_file() else "auto"
        name = self.task.model if name is None else name
        return Model.load(
            name,
            seed=self.task.seed,
            dtype=dtype,
            master_weights=self.task.train.adapter == "none",
            tokenizer=(self.tokenizer if "adapter" in options else self.base_tokenizer)
            if str(name) == self.task.model
            else None,
            say=model_lines(self.console),
            **options,
        )

    def initial_model(self) -> Model:
        """The model before training, without an adapter: the base, or a fully fine-tuned parent.

        Raises ConfigError for an adapter, ModelError for a base other than the parent run's.
        """
        trained = parent.parent_weights(self.task)
        if trained is not None and not workspace.is_adapter(trained):
            return self.load(trained)
        model = self.load()
        if model.peft is not None:
            raise ConfigError(
                f"model {self.task.model} is an adapter; name a base model, or merge the adapter first. To "
                "continue training a run's adapter: --from RUN."
            )
        if self.task.start is not None:
            require_same_base(Path(self.task.start), model)
        return model

    def trained_elsewhere(self) -> Model:
        """The model of the key `tuned`; where that is a whole model the base, after both were loaded once."""
        tuned = self.tuned()
        if tuned.peft is not None:
            return tuned
        del tuned
        with self.base() as base:
            return base

    def add_adapter(self, model: Model) -> Coverage:
        """Add the task's LoRA adapter to the model: fresh, or with the weights of the parent run's."""
        from finetooth.model import lora

        coverage = model.add_lora(self.task.train.rank, self.training_seed)
        if self.task.start is not None:
            lora.copy_adapter_weights(model.peft, parent.trained_weights(Path(self.task.start)))
        return coverage

    def require_same_start(self, model: Model) -> None:
        """The base and the parent run are unchanged since this run began. ConfigError or ModelError."""
        parent.require_unchanged(self.task, self.path)
        if self.task.start is None or workspace.is_adapter(parent.trained_weights(Path(self.task.start))):
            require_same_base(self.path, model)

    def keep_tuned(self, model: Model) -> None:
        """Keep this model, loaded from the saved weights, as the tuned one."""
        self._in_memory = "tuned", model

    def tuned(self) -> Model:
        """The tuned model: the base with its adapter, or the saved model.

        Raises ConfigError before training, and for one that was trained elsewhere and has changed since.
        """
        trained = self._elsewhere or workspace.trained_path(self.path)
        if trained is None:
            raise workspace.not_trained(self.path)

        def load() -> Model:
            if self._elsewhere is not None:
                inputs.require_kinds_unchanged(self.task, self.path, "model")
            if not workspace.is_adapter(trained):
                return self.load(trained)
            model = self.load(adapter=trained)
            if (self.path / "environment.json").is_file():
                require_same_base(self.path, model)
            return model

        return self._load_once("tuned", load)

    @contextmanager
    def base(self) -> Iterator[Model]:
        """The base model, within a `with` block: the tuned one with its adapter disabled, where it has one.

        Raises ModelError when it is not the base that the run began with.
        """
        if self.shares_base:
            with self.tuned().without_adapter() as model:
                stops = model.stop_ids  # those of the base's template are not the tuned model's
                try:
                    yield model
                finally:
                    model.stop_ids = stops
            return

        def load() -> Model:
            model = self.load()
            if (self.path / "environment.json").is_file():
                require_same_base(self.path, model)
            return model

        yield self._load_once("base", load)

    def parent_model(self) -> Model:
        """The tuned model of the parent run. Raises ConfigError when it has changed."""
        assert self.task.start is not None, "this run has no parent"
        parent.require_unchanged(self.task, self.path)
        trained = parent.trained_weights(Path(self.task.start))
        if not workspace.is_adapter(trained):
            return self._load_once("parent", lambda: self.load(trained))
        if self.shares_base:
            return self.tuned().with_adapter(trained)
        return self._load_once("parent", lambda: self.load(adapter=trained))

    @property
    def shares_base(self) -> bool:
        """Whether the tuned model contains the base. That of a reward model has another head."""
        trained = self._elsewhere or workspace.trained_path(self.path)
        adapter = trained is not None and workspace.is_adapter(trained)
        return adapter and self.task.train.method != "reward_model"

    def _load_once(self, role: str, load: Callable[[], Model]) -> Model:
        """The model of this role. Another one in memory is released before it is loaded."""
        if self._in_memory is None or self._in_memory[0] != role:
            self._in_memory = None
            self._in_memory = role, load()
        return self._in_memory[1]


def model_lines(console: Console) -> Say:
    """Shows lines about the loading of a model on the console."""
    return lambda line: console.print(f"model: {line}", markup=False, highlight=False, soft_wrap=True)


def base_digest(path: Path) -> str:
    """The digest of a run's base model."""
    return str(read_json(path / "environment.json")["model"]["digest"])


def require_same_base(path: Path, model: Model) -> None:
    """Raise ModelError unless the base model is the one that the run in `path` began with."""
    if model.digest(adapter=False) != base_digest(path):
        raise ModelError(
            f"{path}: the base model is not the one that this run began with (its digest differs). Restore "
            "it, or start a new run with another --out."
        )


def tokenizer_of(model: Model, path: Path) -> Tokenizer:
    """A loaded model's tokenizer: an adapter's own, with its template, where its directory has one."""
    own = model.peft is not None and (path / "tokenizer.json").is_file()
    tokenizer = Tokenizer.load(path) if own else model.tokenizer
    assert tokenizer is not None
    return tokenizer
