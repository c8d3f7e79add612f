"""Known failure 18: a key that is ignored. Changing any documented key changes something.

The keys of the train section are covered by real training runs in tests/training; the others are here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from contexts_for_tests import checked
from models_for_tests import tiny_model_dir
from rich.console import Console

from finetooth.commands import baseline, evaluate, general, robustness
from finetooth.config.load import load_task
from finetooth.config.task import Task, keys
from finetooth.data.examples import to_json
from finetooth.data.hub import model_directory
from finetooth.data.render.renderer import Renderer
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.errors import FinetoothError
from finetooth.evaluation import graders, proof
from finetooth.evaluation.calibration import Decisions, fit
from finetooth.evaluation.candidates import ModelCandidate
from finetooth.evaluation.retention import PanelScores
from finetooth.evaluation.retention import retention as panel_retention
from finetooth.evaluation.summary import non_inferior
from finetooth.model.api import Model
from finetooth.quality.prepare import PreparedData, assemble
from finetooth.rundir import write_json, write_jsonl
from finetooth.runs import asking, elsewhere, parent, retention, setup, workspace
from finetooth.runs.context import RunContext
from finetooth.types import Answer, Example, Message

ROWS = [
    {"text": f"{n} of fruit {n % 7}", "label": "ab"[n % 2], "who": str(n % 9), "half": "xy"[n % 3 == 0]}
    for n in range(80)
]
LONG = [{"text": f"{n} " + "fruit " * 60, "label": "ab"[n % 2]} for n in range(80)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_dir(tmp_path_factory.mktemp("place") / "model")


def sides(task: Task) -> Any:
    """The splits after reading, or the error message."""
    try:
        data = assemble(task)
    except FinetoothError as error:
        return str(error)
    return data.format, {side: [to_json(example) for example in rows] for side, rows in data.sides.items()}


def decoded(task: Task) -> Any:
    """The splits of a file in which one letter is not UTF-8."""
    path = Path(task.model).parent / "cafe.csv"
    path.write_bytes(b"text,label\n" + b"".join(b"caf\xe9 %d,%d\n" % (n, n % 2) for n in range(80)))
    return sides(task.model_copy(update={"data": task.data.model_copy(update={"train": str(path)})}))


def gate(task: Task) -> Any:
    """Whether `check` passes rows of which one is also in the test set, and the rules that they trigger."""
    test = [*ROWS[:1], *({**row, "text": f"other {row['text']}"} for row in ROWS[:9])]
    report = checked(task.model_copy(update={"data": task.data.model_copy(update={"test": test})}))
    return report.ok, {finding.rule for finding in report.findings}


def rendered(task: Task) -> Any:
    renderer = Renderer(Tokenizer.load(task.model), task.template, task.instruction)
    return renderer.context_row([Message("user", "which?")]).tokens.tolist()


def fitted(task: Task) -> Any:
    renderer = Renderer(Tokenizer.load(task.model))
    limit = 256 if task.data.max_tokens == "auto" else task.data.max_tokens
    try:
        rows, _ = setup.render_and_fit(
            assemble(task).sides["train"], renderer, limit, task, Console(quiet=True), ""
        )
    except FinetoothError as error:
        return str(error)
    return [len(row) for row in rows]


def prompting(task: Task) -> Any:
    """The prompting candidates, with their sampling and their examples."""
    run = Path(task.model).parent / "run"
    workspace.save_environment(run, {"model": {"digest": Model.load(task.model).digest()}})
    data = assemble(task)
    resolved = task.evaluate.model_copy(
        update={"max_tokens": 9 if task.evaluate.max_tokens == "auto" else task.evaluate.max_tokens}
    )
    resolved_task = task.model_copy(update={"evaluate": resolved})
    found = []
    context = RunContext(resolved_task, run, Console(quiet=True))
    context.prepared = PreparedData(data.sides["train"], [], 0, "labels", ("a", "b"), [])
    candidates = evaluate.prompting_candidates(context, "label")
    for candidate in candidates:
        assert isinstance(candidate, ModelCandidate)
        found.append((candidate.name, candidate.sampling, candidate.prompt.demos))
    return found


def candidates(task: Task) -> Any:
    """The names of all candidates of an evaluation without prompts."""
    values = task.evaluate.model_copy(update={"max_tokens": 9, "shots": []})
    context = RunContext(task.model_copy(update={"evaluate": values}), Path(task.model), Console(quiet=True))
    context.prepared = PreparedData(assemble(task).sides["train"], [], 0, "labels", ("a", "b"), [])
    tuned = Model.load(task.model)
    context.tuned = lambda: tuned  # type: ignore[method-assign]
    return [one.name for one in evaluate.run_candidates(context, "label", "validation")]


def graded(task: Task) -> Any:
    return [name for name, _ in graders.resolve_all(task.evaluate.grader, "labels")]


def inherited(task: Task) -> Any:
    """The settings that a run inherits from its parent run."""
    first = Path(task.model).parent / "first"
    train = {"rank": 3}
    parent_task = Task.model_validate({"model": task.model, "data": {"train": "rows.jsonl"}, "train": train})
    workspace.save_config(first, parent_task.model_copy(update={"template": "plain"}), {})
    (first / "train" / "adapter").mkdir(parents=True, exist_ok=True)
    write_json(first / "train" / "result.json", {})
    child = parent.inherit_settings(
        task.model_copy(update={"start": task.start and str(first)}), Console(quiet=True)
    )
    return child.train.rank, child.template


def kept(task: Task) -> Any:
    """The sides of rows that a run had on another side."""
    first = Path(task.model).parent / "kept"
    old = task.data.model_copy(update={"split_from": None})
    workspace.save_config(first, task.model_copy(update={"data": old}), {})
    split = {"format": "labels", "sealed": 0, "labels": []}
    write_json(first / "data" / "split.json", split)
    rows = [row for side in assemble(task).sides.values() for row in side]
    write_jsonl(first / "data" / "train.jsonl", [to_json(row) for row in rows[:60]])
    write_jsonl(first / "data" / "validation.jsonl", [to_json(row) for row in rows[60:]])
    data = task.data.model_copy(update={"split_from": task.data.split_from and str(first)})
    task = task.model_copy(update={"data": data})
    found = assemble(task, parent.parent_run(task)).sides
    return {side: len(rows) for side, rows in found.items()}


def extended(task: Task) -> Any:
    """The splits with a change set that adds a row."""
    for file in map(Path, task.data.add):
        write_jsonl(file, [{"text": "a new question", "label": "a"}])
    return sides(task)


def prompted(task: Task) -> Any:
    """The candidates of a task with a prompt file, and what the file says."""
    if task.evaluate.prompt is not None:
        Path(task.evaluate.prompt).write_text("shots: 3")
    return candidates(task), asking.task_prompt(RunContext(task, Path("run"), Console(quiet=True)))


def slowly_graded(task: Task) -> Any:
    """What a grader that takes half a second gives."""
    path = Path(task.model).parent / "slow.py"
    path.write_text("import time\ndef g(example, text):\n    time.sleep(0.5)\n    return 1.0\n")
    grade = graders.resolve(f"{path}:g", "qa", None, task.evaluate.grader_seconds)[1]
    try:
        return grade(Example("row", (Message("user", "q"),), (Answer("a"),)), "a").value
    except FinetoothError as error:
        return str(error)


def threshold(task: Task) -> Any:
    """The confidence below which rows are handed over."""
    decisions = Decisions.of([{"a": -0.1, "b": -2.4}], ["a"], [True])
    return fit(decisions, task.evaluate.cost_wrong, task.evaluate.cost_handover).threshold


def measured(task: Task) -> str | None:
    """Whether general ability is measured: the first thing that it needs is the tuned model."""

    def tuned() -> Model:
        raise LookupError("measured")

    try:
        retention.ensure_measured(SimpleNamespace(task=task, tuned=tuned))  # type: ignore[arg-type]
    except LookupError as error:
        return str(error)
    return None


def perturbing(task: Task) -> list[str]:
    """The kinds that a run measures: it writes them into its file."""
    rows = SimpleNamespace(validation=assemble(task).sides["train"])
    context = SimpleNamespace(
        task=task, prepared=rows, grading_format="labels", path=Path("none"), console=Console(quiet=True)
    )
    measured: list[str] = []

    def measure(context: Any, kinds: list[str]) -> dict[str, Any]:
        measured.extend(kinds)
        return {"candidates": []}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(robustness, "_measured", measure)
        robustness.ensure_measured(context)  # type: ignore[arg-type]
    return measured


def neighbours(task: Task) -> list[str]:
    """The names of the neighbouring tasks that a run asks."""
    for file in map(Path, task.evaluate.general):
        write_json(file, {"name": "other", "data": {"train": "rows.jsonl"}})
    return [one.name for one in general.load_neighbours(task).values()]


def kept_ability(task: Task) -> str:
    """The verdict on a model that lost twelve points in every item."""
    scores = [PanelScores(np.full(120, right), np.full(12, 400.0)) for right in (0.5, 0.38)]
    return str(panel_retention(*scores, task.evaluate.retention_margin)["verdict"])


def searched(task: Task) -> str | None:
    """Whether `run` searches for a prompt: the first thing that this needs is the rows."""

    class Closed(RunContext):
        @property
        def prepared(self) -> PreparedData:
            raise LookupError("searched")

    try:
        baseline.ensure(Closed(task, Path("run"), Console(quiet=True)))
    except LookupError as error:
        return str(error)
    return None


CASES: dict[str, tuple[Callable[[Task], Any], dict[str, Any]]] = {
    "name": (lambda task: workspace.run_path(task, None), {"name": "other"}),
    "model": (lambda task: model_directory(task.model), {"model": "{other}"}),
    "start": (inherited, {"start": "first"}),
    "tuned": (lambda task: elsewhere.with_tuned(task).name, {"tuned": "{other}"}),
    "instruction": (rendered, {"instruction": "Answer in one word."}),
    "template": (rendered, {"template": "plain"}),
    "seed": (sides, {"seed": 2}),
    "data.train": (sides, {"data.train": ROWS[:-1]}),
    "data.validation": (sides, {"data.validation": 0.3}),
    "data.test": (sides, {"data.test": 0.4}),
    "data.format": (sides, {"data.format": "text"}),
    "data.columns": (sides, {"data.columns": {"who": "label"}}),
    "data.group": (sides, {"data.group": "who"}),
    "data.split_from": (kept, {"data.split_from": "kept"}),
    "data.add": (extended, {"data.add": "{other}/next.jsonl"}),
    "data.clean": (sides, {"data.clean": [{"balance": {"by": "label", "max_ratio": 1}}]}),
    "data.allow": (gate, {"data.allow": ["leak"]}),
    "data.rates": (gate, {"data.rates": "half"}),
    "data.max_tokens": (fitted, {"data.max_tokens": 12}),
    "data.overlong": (fitted, {"data.overlong": "cut"}),
    "data.encoding": (decoded, {"data.encoding": "cp1252"}),
    "evaluate.grader": (graded, {"evaluate.grader": "exact"}),
    "evaluate.shots": (prompting, {"evaluate.shots": [2]}),
    "evaluate.free": (candidates, {"evaluate.free": True}),
    "evaluate.prompt": (prompted, {"evaluate.prompt": "{other}/prompt.yaml"}),
    "evaluate.ladder": (searched, {"evaluate.ladder": True}),
    "evaluate.price_in": (baseline.prices, {"evaluate.price_in": 0.5}),
    "evaluate.price_out": (baseline.prices, {"evaluate.price_out": 2}),
    "evaluate.max_tokens": (prompting, {"evaluate.max_tokens": 3}),
    "evaluate.temperature": (prompting, {"evaluate.temperature": 0.5}),
    "evaluate.limit": (
        lambda task: len(evaluate.sample_rows(assemble(task).sides["train"], task)),
        {"evaluate.limit": 5},
    ),
    "evaluate.cost_wrong": (threshold, {"evaluate.cost_wrong": 9.0, "evaluate.cost_handover": 3.0}),
    "evaluate.cost_handover": (threshold, {"evaluate.cost_wrong": 9.0, "evaluate.cost_handover": 4.0}),
    "evaluate.margin": (
        lambda task: non_inferior([{"units": 50, "low": -0.05}], task.evaluate.margin or 0.01),
        {"evaluate.margin": 0.1},
    ),
    "evaluate.retention": (measured, {"evaluate.retention": True}),
    "evaluate.retention_margin": (kept_ability, {"evaluate.retention_margin": 0.2}),
    "evaluate.general": (neighbours, {"evaluate.general": "{other}/near.yaml"}),
    "evaluate.perturbations": (perturbing, {"evaluate.perturbations": ["typos"]}),
    "evaluate.looks": (lambda task: proof.level_of(task.evaluate.looks), {"evaluate.looks": 3}),
    "evaluate.grader_seconds": (slowly_graded, {"evaluate.grader_seconds": 0.05}),
}


@pytest.mark.parametrize("key", CASES)
def test_changing_a_key_changes_something(key: str, model: Path, tmp_path: Path) -> None:
    look, change = CASES[key]
    tiny_model_dir(tmp_path / "other")
    change = {
        name: value.replace("{other}", str(tmp_path / "other")) if isinstance(value, str) else value
        for name, value in change.items()
    }
    base = {"model": str(model), "data": {"train": LONG if look is fitted else ROWS}}
    if key == "data.overlong":
        base["data"]["max_tokens"] = 60  # type: ignore[index]
    assert look(load_task(base)) != look(load_task(base, change))


def test_every_key_is_tried() -> None:
    assert {name for name, _ in keys() if not name.startswith("train.")} == set(CASES)
