"""A reward model: where it starts, and that transformers reads what is saved."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from gate import gate
from peft import PeftModel
from preferences_for_tests import (
    config,
    moved,
    pairs,
    scoring,
)
from training_for_tests import load
from transformers import AutoModelForSequenceClassification

from finetooth.model.api import Model
from finetooth.training import preferences
from finetooth.training.step import evaluate_rows
from finetooth.tree import PrefixTree


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model")
    load(directory)
    return directory


@pytest.mark.parametrize("adapter", ["lora", "none"])
@pytest.mark.parametrize("family", gate(["llama", "gpt2"], ["llama"]))
def test_a_saved_reward_model_is_a_sequence_classifier_of_transformers(
    family: str, adapter: str, tmp_path: Path
) -> None:
    load(tmp_path / "base", family=family)
    model = moved(scoring(tmp_path / "base", adapter))
    model.save(tmp_path / "saved")
    rows = pairs(3)
    tree = PrefixTree.build(rows)
    with torch.no_grad():
        want = model.eval().scores(tree)
    place = tmp_path / ("saved" if adapter == "none" else "base")
    stock = AutoModelForSequenceClassification.from_pretrained(place, num_labels=1)
    if adapter == "lora":
        stock = PeftModel.from_pretrained(stock, tmp_path / "saved")
    with torch.no_grad():
        found = [float(stock(input_ids=torch.from_numpy(row.tokens)[None]).logits[0, 0]) for row in rows]
    assert found == pytest.approx(want.tolist(), abs=1e-4)
    assert np.std(found) > 1e-2
    again = Model.load(place, tmp_path / "saved" if adapter == "lora" else None)
    with torch.no_grad():
        assert again.scores(tree).tolist() == pytest.approx(want.tolist(), abs=1e-5)


def test_a_reward_model_starts_without_a_preference(models: Path) -> None:
    loss, said = evaluate_rows(
        scoring(models), pairs(4), budget=60, objective=preferences.objective(config("reward_model"))
    )
    assert loss == math.log(2) and said["accuracy"] == 0.5 and said["margin"] == 0
