"""The memory of training a model that is not loaded: against measured peaks and the run's own rule."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from models_for_tests import CONFIGS, tiny

from finetooth.config.named_models import Shape, named_models
from finetooth.config.task import TrainConfig
from finetooth.data.hub import model_directory
from finetooth.data.model_files import read_config
from finetooth.model.api import Model
from finetooth.runs.estimate import memory_facts
from finetooth.training import model_memory
from finetooth.training.defaults import inner_width
from finetooth.training.estimate import Workload, estimate_memory
from finetooth.training.model_memory import METHODS, fits, needed_bytes

GIB = 1 << 30
# Peaks that were measured (docs/benchmarks.md): a row of so many tokens, half scored, no preflight check.
LENGTHS = (64, 192, 512)
MEASURED = {
    ("smollm2-135m", "lora"): (1.08, 1.25, 1.66),
    ("smollm2-135m", "full"): (2.72, 2.87, 3.25),
    ("gemma3-270m", "lora"): (1.68, 1.82, 2.24),
    ("gemma3-270m", "full"): (5.85, 6.01, 6.44),
}


@pytest.mark.parametrize(("name", "method"), MEASURED)
def test_twelve_measured_peaks_are_met(name: str, method: str) -> None:
    """Within 20%, and never more than 10% too low."""
    model = named_models()[name]
    facts = model_memory._facts(model.shape, model.parameters * 1e6, method)
    for tokens, peak in zip(LENGTHS, MEASURED[name, method], strict=True):
        work = Workload(1, tokens, tokens, tokens // 2, tokens, tokens)
        step = sum(estimate_memory(facts, work).phases["step"].values()) / GIB
        assert 0.9 * peak <= step <= 1.2 * peak


def test_the_facts_are_those_of_a_run_but_for_activations() -> None:
    """Weights, trained weights, optimizer state and output head of a loaded model are the same numbers."""
    model = Model.wrap(tiny("qwen2"), "dense")
    config = CONFIGS["qwen2"]
    shape = Shape(config.num_hidden_layers, config.hidden_size, inner_width(config), config.vocab_size, True)
    settings = TrainConfig.model_validate({"adapter": "none", "micro_tokens": 64})
    run = memory_facts(model, settings, 0)
    listed = model_memory._facts(shape, model.hf.num_parameters(), "full")
    counted: dict[str, Any] = dict.fromkeys(("token", "layer_token", "process", "peak", "kept_logits"), 0)
    assert replace(listed, **counted) == replace(run, **counted)
    assert 0.5 * run.token <= listed.token <= 2 * run.token


def test_shapes_give_the_number_of_parameters() -> None:
    """Embeddings and matrices of the table's shapes do not exceed what it says of their number."""
    for model in named_models().values():
        shape = model.shape
        least = shape.vocabulary * shape.hidden + 2 * shape.layers * shape.hidden * shape.inner
        heads = 4 * shape.hidden * shape.hidden * shape.layers
        most = least + shape.layers * shape.hidden * shape.inner + 2 * heads
        most += 0 if shape.tied else shape.vocabulary * shape.hidden
        assert least <= 1.01e6 * model.parameters <= 1.12 * most, model.name


def test_the_embedded_models_shape_is_that_of_its_config() -> None:
    found = read_config(model_directory("milktooth"))
    keys = ("num_hidden_layers", "hidden_size", "intermediate_size", "vocab_size", "tie_word_embeddings")
    assert tuple(found[key] for key in keys) == named_models()["milktooth"].shape


def test_more_is_trained_in_more_memory() -> None:
    for model in named_models().values():
        for memory in (8 * GIB, 64 * GIB):
            needed = {m: needed_bytes(model.shape, model.parameters * 1e6, m, memory) for m in METHODS}
            assert needed["4-bit"] < needed["lora"] < needed["full"], model.name
    assert fits(9 * GIB, 10 * GIB) and not fits(9 * GIB + 1, 10 * GIB)


def test_short_rows_take_less_memory_than_a_full_micro_tree() -> None:
    model = named_models()["smollm2-135m"]
    of = (model.shape, model.parameters * 1e6, "lora", 24 * GIB)
    unknown, short, long = (needed_bytes(*of, tokens) for tokens in (None, 300, 10**6))
    assert short < 0.6 * unknown and long == unknown
