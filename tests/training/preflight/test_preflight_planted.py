"""Bugs that no loss curve shows, planted at random layers and templates: preflight names each of them.

The seed draws architecture, template, adapter, layer and row; clean tasks of many kinds raise no alarm.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gate import gate
from preflights_for_tests import trial
from safetensors.torch import load_file, save_file
from templates_for_tests import CHATML, CHATML_DEFAULT_SYSTEM, ZEPHYR
from torch.nn import functional

from finetooth.data.render.renderer import Renderer
from finetooth.evaluation.candidates import ModelCandidate
from finetooth.model.api import Model
from finetooth.training.objectives import Objective, Signals, supervised
from finetooth.training.preflight import run
from finetooth.training.preflight.checks import PreflightError
from finetooth.training.preflight.run import PreflightInputs, run_preflight
from finetooth.tree import Row

FAMILIES = ["llama", "mistral", "qwen2", "qwen3", "gemma3", "phi3", "gpt2", "olmo2"]
TOKENIZERS = ["chatml", "chatml-default-system", "llama3", "llama2", "zephyr", "gemma", "gpt2", "llama-base"]

Patch = pytest.MonkeyPatch
Plant = Callable[[PreflightInputs, random.Random, Patch], PreflightInputs]


def weighted(row: Row, weight: Any) -> Row:
    return Row(row.tokens, weight, row.signals, row.unit, row.id)


def layers(model: Model) -> list[Any]:
    count = model.hf.config.num_hidden_layers
    lists = [m for m in model.hf.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == count]
    return list(lists[0])


def after(layer: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Let a layer change what it gives."""
    own = layer.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        out = own(*args, **kwargs)
        return (change(out[0]), *out[1:]) if isinstance(out, tuple) else change(out)

    layer.forward = forward


def on_save(patch: Patch, change: Callable[[Model, Path], None]) -> None:
    """Let saving go wrong after it has gone right."""
    real = Model.save

    def save(self: Model, path: Any, chat_template: str | None = None) -> None:
        real(self, path, chat_template)
        change(self, Path(path))

    patch.setattr(Model, "save", save)


def tensors(path: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    (file,) = path.glob("*.safetensors")
    save_file(change(load_file(file)), file, {"format": "pt"})


def stop_token_masked(t: PreflightInputs, draw: random.Random, patch: Patch) -> PreflightInputs:
    return replace(t, rows=[weighted(row, [*row.weight[:-1], 0.0]) for row in t.rows])


def stop_token_left_out_of_the_loss(t: PreflightInputs, draw: random.Random, patch: Patch) -> PreflightInputs:
    def loss(signals: Signals) -> Any:
        last = torch.cat([signals.row_M[1:] != signals.row_M[:-1], torch.tensor([True])])
        return supervised.loss(signals)[0] * ~last, {}

    patch.setattr(run, "supervised", Objective(unit="token", loss=loss))
    return t


def weights_shifted(t: PreflightInputs, draw: random.Random, patch: Patch) -> PreflightInputs:
    by = draw.choice([-1, 1])
    rows = []
    for row in t.rows:
        weight = np.roll(row.weight, by)
        weight[0] = 0.0
        rows.append(weighted(row, weight))
    return replace(t, rows=rows)


def the_trainer_scores_one_token_early(
    t: PreflightInputs, draw: random.Random, patch: Patch
) -> PreflightInputs:
    real = run.train_step

    def early(model: Model, objective: Any, rows: Any, *args: Any, **kwargs: Any) -> Any:
        first = [int(np.flatnonzero(row.weight)[0]) for row in rows]
        rows = [Row([*row.tokens[:at], *row.tokens[at + 1 :]], [0.0] * at + [1.0] * (len(row) - at - 1))
                for row, at in zip(rows, first, strict=True)]  # fmt: skip
        return real(model, objective, rows, *args, **kwargs)

    patch.setattr(run, "train_step", early)
    return t


def a_row_without_scores(t: PreflightInputs, draw: random.Random, patch: Patch) -> PreflightInputs:
    at = draw.randrange(len(t.rows))
    rows = [weighted(row, row.weight * (index != at)) for index, row in enumerate(t.rows)]
    return replace(t, rows=rows)


def evaluation_renders_otherwise(t: PreflightInputs, draw: random.Random, patch: Patch) -> PreflightInputs:
    other = Renderer(t.evaluation_renderer.tokenizer, "instruction", draw.choice(["Answer.", "Think."]))
    return replace(t, evaluation_renderer=other)


def evaluation_asks_with_a_token_less(
    t: PreflightInputs, draw: random.Random, patch: Patch
) -> PreflightInputs:
    real = ModelCandidate._row

    def row(self: ModelCandidate, *given: Any) -> Row:
        whole = real(self, *given)
        return Row(whole.tokens[:-1], whole.weight[:-1])

    patch.setattr(ModelCandidate, "_row", row)
    return t


def another_template_is_saved(t: PreflightInputs, draw: random.Random, patch: Patch) -> PreflightInputs:
    texts = [text.replace("'<|im_end|>'", "eos_token") for text in (CHATML, CHATML_DEFAULT_SYSTEM, ZEPHYR)]
    wrong = draw.choice(
        [text for text in texts if text.strip() != str(t.training_renderer.chat_template).strip()]
    )

    def change(model: Model, path: Path) -> None:
        (path / "chat_template.jinja").write_text(wrong)

    on_save(patch, change)
    return t


def adapter_saved_inert(t: PreflightInputs, draw: random.Random, patch: Patch) -> PreflightInputs:
    on_save(patch, lambda model, path: tensors(path, lambda all: {
        name: weight * ("lora_B" not in name) for name, weight in all.items()
    }))  # fmt: skip
    return t


def adapter_scale_lost(t: PreflightInputs, draw: random.Random, patch: Patch) -> PreflightInputs:
    def change(model: Model, path: Path) -> None:
        config = json.loads((path / "adapter_config.json").read_text())
        (path / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": draw.choice([16, 8])}))

    on_save(patch, change)
    return t


def one_layer_lost_in_saving(t: PreflightInputs, draw: random.Random, patch: Patch) -> PreflightInputs:
    part, gone = f".{draw.randrange(len(layers(t.model)))}.", draw.choice([True, False])

    def change(saved: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        lost = [name for name in saved if part in name and "lora_B" in name]
        assert lost
        kept = {name: weight for name, weight in saved.items() if name not in lost or not gone}
        return {name: weight * (name not in lost) for name, weight in kept.items()}

    on_save(patch, lambda model, path: tensors(path, change))
    return t


def frozen_layer(t: PreflightInputs, draw: random.Random, patch: Patch) -> PreflightInputs:
    for weight in draw.choice(layers(t.model)).parameters():
        weight.requires_grad_(False)
    return t


def gradients_cut_at_a_layer(t: PreflightInputs, draw: random.Random, patch: Patch) -> PreflightInputs:
    after(draw.choice(layers(t.model)), torch.Tensor.detach)
    return t


def dropout_in_evaluation(t: PreflightInputs, draw: random.Random, patch: Patch) -> PreflightInputs:
    after(draw.choice(layers(t.model)), lambda out: functional.dropout(out, 0.1, training=True))
    return t


def rounded_when_saved(t: PreflightInputs, draw: random.Random, patch: Patch) -> PreflightInputs:
    on_save(patch, lambda model, path: tensors(path, lambda all: {
        name: weight.to(torch.bfloat16).float() for name, weight in all.items()
    }))  # fmt: skip
    return t


def tied_head_lost(t: PreflightInputs, draw: random.Random, patch: Patch) -> PreflightInputs:
    before = t.model.hf.get_output_embeddings().weight.detach().clone()

    def change(model: Model, path: Path) -> None:
        tensors(path, lambda all: all | {"lm_head.weight": before})
        config = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))

    on_save(patch, change)
    return t


# bug -> (the name it is called by, what it needs: an adapter, a family)
BUGS: dict[Plant, tuple[str, dict[str, str]]] = {
    stop_token_masked: ("stop-token", {}),
    stop_token_left_out_of_the_loss: ("stop-token", {}),
    weights_shifted: ("mask", {}),
    the_trainer_scores_one_token_early: ("mask", {}),
    a_row_without_scores: ("mask", {}),
    evaluation_renders_otherwise: ("template", {}),
    evaluation_asks_with_a_token_less: ("template", {}),
    another_template_is_saved: ("template", {}),
    adapter_saved_inert: ("adapter-inert", {"adapter": "lora"}),
    adapter_scale_lost: ("saved-differs", {"adapter": "lora"}),
    one_layer_lost_in_saving: ("saved-differs", {"adapter": "lora"}),
    frozen_layer: ("no-gradient", {}),
    gradients_cut_at_a_layer: ("no-gradient", {}),
    dropout_in_evaluation: ("dropout", {}),
    rounded_when_saved: ("saved-differs", {}),
    tied_head_lost: ("saved-differs", {"adapter": "none", "family": "qwen2"}),
}


# The gate plants one bug of each sort; `make test-all` plants its relatives too.
RELATIVES = (
    stop_token_left_out_of_the_loss,
    a_row_without_scores,
    another_template_is_saved,
    gradients_cut_at_a_layer,
    one_layer_lost_in_saving,
)


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.full)])
@pytest.mark.parametrize("bug", gate(BUGS, lambda bug: bug not in RELATIVES), ids=lambda bug: bug.__name__)
def test_a_planted_bug_is_called_by_its_name(
    bug: Plant, seed: int, tmp_path: Path, monkeypatch: Patch
) -> None:
    name, needs = BUGS[bug]
    draw = random.Random(f"{bug.__name__} {seed}")
    drawn = {
        "tokenizer": draw.choice(TOKENIZERS),
        "family": draw.choice(FAMILIES),
        "adapter": draw.choice(["lora", "none"]),
        "shape": draw.choice(["question", "labels"]),
    }
    clean = trial(tmp_path, **(drawn | needs))
    with pytest.raises(PreflightError) as alarm:
        run_preflight(bug(clean, draw, monkeypatch))
    assert alarm.value.name == name, (drawn, str(alarm.value))
    assert str(alarm.value).startswith(f"preflight:{name}: ") and "train.preflight off" in str(alarm.value)


CLEAN = [
    ("chatml", "llama", "lora", "question", "auto"),
    ("llama3", "qwen2", "none", "labels", "auto"),
    ("gemma", "gemma2", "lora", "dialogue", "auto"),
    ("qwen3", "qwen3", "lora", "system", "auto"),
    ("llama2", "mistral", "none", "question", "auto"),
    ("gpt2", "gpt2", "none", "text", "auto"),
    ("zephyr", "mixtral", "lora", "labels", "auto"),
    ("llama-base", "opt", "lora", "question", "plain"),
    ("metaspace-base", "bloom", "lora", "dialogue", "instruction"),
    ("thinking", "gpt-oss", "none", "system", "auto"),
]


GATE = {"llama3", "gpt2"}  # the tokenizers of those that the gate tries


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=() if kind[0] in GATE else pytest.mark.full) for kind in CLEAN],
    ids=lambda kind: "-".join(kind),
)
def test_no_false_alarm(kind: tuple[str, ...], tmp_path: Path) -> None:
    tokenizer, family, adapter, shape, template = kind
    found = run_preflight(trial(tmp_path, tokenizer, family, adapter, shape, template))
    assert found.answered == (None if shape == "text" else 8), str(found)
    assert not found.notes
    assert found.seconds < 30
    assert not (tmp_path / "preflight").exists()
