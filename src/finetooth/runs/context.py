"""One run's task, directory, rendering, rows and models: each made once, and handed to every stage.

Models are loaded when they are asked for, so that `check`, which needs none, never loads torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetooth.config.task import EMBEDDED, Task
from finetooth.data.hub import model_directory
from finetooth.data.render.renderer import Renderer
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.errors import ConfigError, ModelError
from finetooth.quality.prepare import PreparedData, prepare
from finetooth.rundir import read_json
from finetooth.runs import parent, workspace
from finetooth.tree import Row

if TYPE_CHECKING:
    from rich.console import Console

    from finetooth.model.api import Model
    from finetooth.model.lora import Coverage


class RunContext:
    """What the stages of one run share.

    task: resolved, once the run is set up. model: the model in training, its adapter on it; train_rows,
    validation_rows: what it learns from. These three are there from set-up to the end of training.
    """

    model: Model
    train_rows: list[Row]
    validation_rows: list[Row]

    def __init__(self, task: Task, path: Path, console: Console) -> None:
        self.task, self.path, self.console = task, path, console
        self._held: tuple[str, Model] | None = None  # the model in memory, and what it is of this run

    @classmethod
    def of_run(cls, path: Path, console: Console) -> RunContext:
        """The context of a run directory. ConfigError when it is none."""
        return cls(workspace.load_config(path), path, console)

    # Rendering and rows -------------------------------------------------------------------------------------

    @cached_property
    def tokenizer_directory(self) -> Path:
        """Where the base's tokenizer is. An adapter's directory brings one along. Raises ModelError."""
        path = Path(self.task.model)
        adapter = self.task.model not in EMBEDDED and (path / "adapter_config.json").is_file()
        return path if adapter else model_directory(self.task.model, weights=False)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The base's tokenizer. Raises ModelError."""
        return Tokenizer.load(self.tokenizer_directory)

    @cached_property
    def renderer(self) -> Renderer:
        """The rendering of training, evaluation and chat alike: the base's tokenizer, the run's template."""
        template = workspace.template(self.task, self.path)
        return Renderer(self.tokenizer, template, self.task.instruction)

    @cached_property
    def prepared(self) -> PreparedData:
        """The rows that training and iterating may see, from the run's data/."""
        return prepare(self.task, self.path)

    # Models -------------------------------------------------------------------------------------------------

    def load(self, name: str | Path | None = None, **options: Any) -> Model:
        """`Model.load` (of the base, where no name is given) in the types that the run began with.

        These decide a run's numbers. A new run takes those of the run that it starts from, else auto. Where
        every weight is trained, weights are float32 whatever they compute in.
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
            tokenizer=self.tokenizer if str(name) == self.task.model else None,
            **options,
        )

    def initial_model(self) -> Model:
        """The base as training finds it, without its adapter; of a run that goes on from a full fine-tuning,
        the weights of that.

        Raises ConfigError for an adapter, ModelError for a base that is not the one below the parent run's.
        """
        trained = parent.parent_weights(self.task)
        if trained is not None and trained.name == "model":
            return self.load(trained)
        model = self.load()
        if model.peft is not None:
            raise ConfigError(
                f"model {self.task.model} is an adapter; name a base model, or merge the adapter first. To "
                "go on with what a run trained, its adapter included: --from RUN."
            )
        if self.task.start is not None:
            require_same_base(Path(self.task.start), model)
        return model

    def add_adapter(self, model: Model) -> Coverage:
        """Put the task's adapter on the model: fresh, or with the matrices of the parent run's."""
        from finetooth.model import lora

        coverage = model.add_lora(self.task.train.rank, self.task.seed)
        if self.task.start is not None:
            lora.copy_adapter_weights(model.peft, parent.trained_weights(Path(self.task.start)))
        return coverage

    def require_same_start(self, model: Model) -> None:
        """The base, and the run that training goes on from, are what they were when this run began."""
        parent.require_unchanged(self.task, self.path)
        if self.task.start is None or parent.trained_weights(Path(self.task.start)).name == "adapter":
            require_same_base(self.path, model)

    def keep_tuned(self, model: Model) -> None:
        """Take this model, loaded from what training has saved, as the tuned one."""
        self._held = "tuned", model

    def tuned(self) -> Model:
        """The tuned model: the base with its adapter, or the saved model. ConfigError before training."""
        trained = workspace.trained_path(self.path)
        if trained is None:
            raise ConfigError(f"{self.path} has no tuned model yet. First: finetooth train {self.path}")

        def load() -> Model:
            if trained.name == "model":
                return self.load(trained)
            model = self.load(adapter=trained)
            require_same_base(self.path, model)
            return model

        return self._hold("tuned", load)

    @contextmanager
    def base(self) -> Iterator[Model]:
        """The base model, for as long as it is needed: the tuned one with its adapter off, where it has one.

        Raises ModelError when it is not the base that the run began with.
        """
        if self._shares_base():
            with self.tuned().without_adapter() as model:
                yield model
            return

        def load() -> Model:
            model = self.load()
            require_same_base(self.path, model)
            return model

        yield self._hold("base", load)

    def parent_model(self) -> Model:
        """What the training of this run started from, where that is another run. Raises ConfigError."""
        assert self.task.start is not None, "only such runs are asked"
        parent.require_unchanged(self.task, self.path)
        trained = parent.trained_weights(Path(self.task.start))
        if trained.name == "model":
            return self._hold("parent", lambda: self.load(trained))
        if self._shares_base():
            return self.tuned().with_adapter(trained)
        return self._hold("parent", lambda: self.load(adapter=trained))

    def _shares_base(self) -> bool:
        """Whether the tuned model holds the base too. A reward model's layer belongs to no base."""
        trained = workspace.trained_path(self.path)
        return trained is not None and trained.name == "adapter" and self.task.train.method != "reward_model"

    def _hold(self, what: str, load: Callable[[], Model]) -> Model:
        """The model in memory when it is this one, else this one, loaded once the other is let go."""
        if self._held is None or self._held[0] != what:
            self._held = None
            self._held = what, load()
        return self._held[1]


def base_digest(path: Path) -> str:
    """The digest of the base that a run is made of."""
    return str(read_json(path / "environment.json")["model"]["digest"])


def require_same_base(path: Path, model: Model) -> None:
    """The base model must be the one that the run in `path` began with. Raises ModelError."""
    if model.digest(adapter=False) != base_digest(path):
        raise ModelError(
            f"{path}: the base model is not the one that this run began with (its digest differs)."
        )
