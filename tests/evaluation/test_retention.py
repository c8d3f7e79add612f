"""What fine-tuning took from a model: the panel, its numbers against plain passes, and the verdict."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gate import gate
from models_for_tests import tiny_model_dir
from transformers import AutoModelForCausalLM

import finetooth as ft
from finetooth.cli.app import invoke
from finetooth.data.render.renderer import Renderer
from finetooth.evaluation.retention import (
    ENDS,
    FILE,
    PanelScores,
    panel_rows,
    read_panel,
    retention,
    score_panel,
)
from finetooth.model.api import Model
from finetooth.rundir import read_json, read_jsonl
from finetooth.tree import Row

FRUIT = {"apple": "red", "plum": "blue", "lime": "green"}
PANEL = read_panel()
ITEMS = [*PANEL.statements, *PANEL.requests]


def test_the_panel_is_whole() -> None:
    assert len(PANEL.statements) >= 90 and len(PANEL.requests) >= 20 and len(PANEL.texts) >= 10
    for beginning, *ends in ITEMS:
        assert beginning and len(ends) == ENDS == len(set(ends))
    assert len({beginning for beginning, *_ in ITEMS}) == len(ITEMS)


@pytest.mark.parametrize("family", gate(["llama", "gpt2", "gemma3"], ["gpt2"]))
def test_scores_are_those_of_plain_forward_passes(tmp_path: Path, family: str) -> None:
    directory = tiny_model_dir(tmp_path, family)
    model = Model.load(directory)
    plain = AutoModelForCausalLM.from_pretrained(directory)
    rows = panel_rows(Renderer(model.tokenizer), PANEL)
    assert len(rows) == ENDS * len(ITEMS) + len(PANEL.texts)
    found = score_panel(model, rows)

    def nats(row: Row) -> float:
        tokens = torch.tensor(row.tokens)[None]
        with torch.no_grad():
            logp = torch.log_softmax(plain(tokens).logits[0].double(), -1)
        return sum(float(logp[at - 1, tokens[0, at]]) for at in np.flatnonzero(row.weight))

    for item in (0, 40, len(PANEL.statements), len(ITEMS) - 1):
        each = [nats(row) for row in rows[ENDS * item : ENDS * (item + 1)]]
        assert found.right_I[item] == pytest.approx(
            1 / sum(math.exp(one - each[0]) for one in each), rel=1e-3
        )
    assert found.bits_T[3] == pytest.approx(-nats(rows[ENDS * len(ITEMS) + 3]) / math.log(2), rel=1e-3)


def test_rows_score_the_ends_and_nothing_else() -> None:
    """Of one item the four rows share what is in front, and what is scored decodes to the end."""
    tokenizer = Model.load("milktooth").tokenizer
    assert tokenizer is not None
    rows = panel_rows(Renderer(tokenizer), PANEL)
    for item, (beginning, *ends) in enumerate(ITEMS):
        for row, end in zip(rows[ENDS * item :], ends, strict=False):
            begun = int(np.flatnonzero(row.weight)[0])
            assert row.weight[begun:].all() and tokenizer.decode(row.tokens[begun:].tolist()).strip() in (
                end, f"{end}<|im_end|>",
            ), (beginning, end)  # fmt: skip


def drawn(seed: int, mean: float = 0.0, spread: float = 0.15) -> tuple[PanelScores, PanelScores]:
    draw = np.random.default_rng(seed)
    base = draw.beta(4, 1.5, len(ITEMS))
    tuned = np.clip(base + draw.normal(mean, spread, len(ITEMS)), 0, 1)
    bits = np.full(len(PANEL.texts), 400.0)
    return PanelScores(base, bits), PanelScores(tuned, 1.2 * bits)


@pytest.mark.parametrize(("mean", "wanted"), [(0.0, "kept"), (-0.3, "forgotten")])
def test_damage_is_told_from_noise(mean: float, wanted: str) -> None:
    verdicts = [retention(*drawn(seed, mean), 0.1)["verdict"] for seed in range(8)]
    assert verdicts == [wanted] * 8


def test_a_loss_of_the_margin_is_seldom_called_kept() -> None:
    """Non-inferiority: at a true loss of the margin `kept` has the rate of a one-sided 2.5% test."""
    base, tuned = drawn(0)
    kept = 0
    for seed in range(100):
        noise = np.random.default_rng(seed).normal(-0.1, 0.2, len(ITEMS))
        result = retention(
            replace(base, right_I=np.full(len(ITEMS), 0.5)), replace(tuned, right_I=0.5 + noise), 0.1
        )
        kept += result["verdict"] == "kept"
    assert kept <= 7


def test_words_say_what_was_measured() -> None:
    words = retention(*drawn(1, -0.3), 0.1)["words"]
    assert words.startswith("The model has forgotten: on 120 general questions")
    assert "general prose takes +20% bits per byte" in words and "tolerated 10 points" in words


def test_a_run_measures_it_once_and_the_report_shows_it(tmp_path: Path) -> None:
    """Where the task asks for it; a base this small is left out otherwise, and the page says so."""
    rows = [{"text": f"{n} {fruit}", "label": label} for n in range(20) for fruit, label in FRUIT.items()]
    evaluation = {"shots": [0], "limit": 6, "retention": True}
    train = {"preflight": "off", "max_steps": 2}
    task = {"data": {"train": rows, "format": "labels"}, "train": train, "evaluate": evaluation}
    run = ft.run(task, tmp_path / "run", quiet=True)
    found = read_json(run.path / FILE)
    assert found["n"] == len(ITEMS) and found["verdict"] in ("kept", "not proven")
    page = (run.path / "report.html").read_text("utf-8")
    assert "General ability" in page and "was not measured" not in page
    (run.path / FILE).unlink()
    assert "general ability was not measured" in invoke_report(run.path)


def invoke_report(path: Path) -> str:
    assert invoke(["report", str(path)]) == 0
    return (path / "report.html").read_text("utf-8")


@pytest.mark.full
def test_checkpoints_are_measured_on_request(tmp_path: Path) -> None:
    """At every validation, the first before a step, where nothing is lost yet; LoRA and full fine-tuning."""
    rows = [{"text": f"{n} {fruit}", "label": label} for n in range(20) for fruit, label in FRUIT.items()]
    evaluation = {"shots": [], "limit": 6, "retention": "checkpoints"}
    for adapter in ("lora", "none"):
        train = {"preflight": "off", "max_steps": 2, "validate_every": 1, "adapter": adapter}
        task = {"data": {"train": rows, "format": "labels"}, "train": train, "evaluate": evaluation}
        run = ft.run(task, tmp_path / adapter, quiet=True)
        lines = [line for line in read_jsonl(run.path / "train/metrics.jsonl") if "valid_loss" in line]
        assert [line["step"] for line in lines] == [0, 1, 2]
        kept = [line["valid_retention"] for line in lines]
        assert kept[0] == pytest.approx(0, abs=1e-6) and kept[-1] != 0
        if read_json(run.path / "train/result.json")["best_step"] == 2:
            assert kept[-1] == pytest.approx(read_json(run.path / FILE)["difference"], abs=1e-5)
        assert "General ability at the validations" in (run.path / "report.html").read_text("utf-8")
