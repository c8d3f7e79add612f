"""A run reads, proves and builds once: base weights, the capability proof, the tokenizer, the renderer."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from contexts_for_tests import QUIET, of_run
from models_for_tests import tiny_model_dir

from finetooth.commands import run, train
from finetooth.config.load import load_task
from finetooth.config.task import Task
from finetooth.data.cache import CACHE
from finetooth.data.render.renderer import Renderer
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.errors import ModelError
from finetooth.model import capability
from finetooth.model import load as loading
from finetooth.rundir import read_json

ROWS = [{"text": f"message {n}", "label": "yes" if n % 2 else "no"} for n in range(60)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_dir(tmp_path_factory.mktemp("model"))


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Counter[str]:
    """How often weights were read, by directory, and a proof, a tokenizer or a renderer was made."""
    found: Counter[str] = Counter()

    def counted(owner: Any, name: str, key: Any) -> None:
        real = getattr(owner, name)

        def call(*given: Any, **named: Any) -> Any:
            found[key(*given)] += 1
            return real(*given, **named)

        monkeypatch.setattr(owner, name, call)

    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    counted(loading, "load_weights", lambda directory, *rest: f"weights {directory}")
    counted(capability, "prove", lambda *given: "proof")
    counted(Tokenizer, "load", lambda directory: f"tokenizer {directory}")
    counted(Renderer, "__init__", lambda self, tokenizer, *rest: f"renderer {bool(rest and rest[-1])}")
    return found


def task(model: Path, **changes: Any) -> Task:
    train = {"train.max_steps": 3, "train.rank": 4, "train.batch_size": 8}
    values = {"model": str(model), "instruction": "Answer.", "data": {"train": ROWS}}
    return load_task(values, {**train, "evaluate.shots": [0, 2], **changes})


def test_a_lora_run_reads_the_base_twice_and_builds_the_rest_once(
    model: Path, tmp_path: Path, counts: Counter[str]
) -> None:
    """Check, preflight, training, the reload that proves what was saved, validation and the sealed test."""
    summary = run.run_task(task(model), tmp_path / "run", QUIET).summary
    assert [entry["name"] for entry in summary["candidates"]][2:] == ["zero-shot", "few-shot-2", "tuned"]
    assert read_json(tmp_path / "run" / "train" / "preflight.json")["passed"]
    assert counts[f"weights {model}"] == 2
    assert sum(number for name, number in counts.items() if name.startswith("weights ")) == 2
    assert counts["proof"] == 1
    assert counts[f"tokenizer {model}"] == 1
    # of training, evaluation and check; the other one is made of the template that was saved, to compare it
    assert counts["renderer True"] == 2


@pytest.mark.full  # tests/model/test_capability.py has it for models
def test_a_second_run_makes_no_proof(model: Path, tmp_path: Path, counts: Counter[str]) -> None:
    for name in ("one", "two"):
        train.run(task(model, **{"train.preflight": "off"}), tmp_path / name, QUIET)
    assert counts["proof"] == 1


@pytest.mark.full
def test_a_full_fine_tuning_never_holds_two_models(model: Path, tmp_path: Path, counts: Counter[str]) -> None:
    run.run_task(task(model, **{"train.adapter": "none"}), tmp_path / "run", QUIET)
    assert counts[f"weights {model}"] == 3  # to train, and for the prompts of either split
    assert counts["proof"] == 1


def test_one_model_serves_base_and_tuned(model: Path, tmp_path: Path) -> None:
    train.run(task(model, **{"train.preflight": "off"}), tmp_path / "run", QUIET)
    context = of_run(tmp_path / "run")
    tuned = context.tuned()
    with context.base() as base:
        assert base is tuned
    assert context.tuned() is tuned


def test_a_base_that_changed_is_refused(model: Path, tmp_path: Path) -> None:
    other = tiny_model_dir(tmp_path / "model")
    train.run(task(other, **{"train.preflight": "off"}), tmp_path / "run", QUIET)
    tiny_model_dir(tmp_path / "model", seed=1)
    with pytest.raises(ModelError, match="not the one that this run began with"):
        of_run(tmp_path / "run").tuned()
