"""`report --model-card`: README.md beside the tuned weights, as Hugging Face reads it."""

from __future__ import annotations

import re
from pathlib import Path

from command_line import finetooth
from huggingface_hub import ModelCard, metadata_load
from made_up_run import QUESTIONS, made_up_run

from finetooth.commands import report
from finetooth.config.named_models import named_models
from finetooth.report.model_card import LICENCES
from finetooth.rundir import read_json, write_json, write_text


def trained(path: Path, model: str = "smollm2-135m", adapter: bool = True, **options: object) -> Path:
    run = made_up_run(path, **options)
    write_text(
        run / "config.yaml", (run / "config.yaml").read_text().replace("model: milktooth", f"model: {model}")
    )
    write_json(run / "train" / "result.json", {"steps": 528})
    (run / "train" / ("adapter" if adapter else "model")).mkdir()
    if adapter:
        write_json(run / "train" / "adapter" / "adapter_config.json", {})
    return run


def test_the_card_is_what_the_hub_reads(tmp_path: Path) -> None:
    run = trained(tmp_path / "run")
    told = finetooth(tmp_path, "report", run, "--model-card")
    file = run / "train" / "adapter" / "README.md"
    assert told.returncode == 0 and told.stdout == f"Report: {file}\n"
    card = ModelCard.load(file)  # raises for a model index that is not one
    data = card.data
    assert data.base_model == "HuggingFaceTB/SmolLM2-135M-Instruct" and data.license == "apache-2.0"
    assert data.to_dict()["base_model_relation"] == "adapter"
    assert (data.language, data.library_name, data.pipeline_tag) == ("en", "peft", "text-generation")
    assert data.tags == ["finetooth", "lora", "sft"] and data.model_name == "support-triage"
    (result,) = metadata_load(file)["model-index"][0]["results"]
    assert result["task"] == {"type": "text-classification"}
    assert result["dataset"]["type"] == "support-triage" and result["dataset"]["split"] == "test"
    assert result["metrics"][0]["type"] == "accuracy"
    headings = re.findall(r"^## (.+)$", card.text, re.MULTILINE)
    assert headings == ["Intended use", "Results", "Limits", "How to use it", "Data", "How it was trained",
                        "Reproduce", "Licence"]  # fmt: skip


def test_it_has_counts_and_no_contents_and_no_folders(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", model=f"{tmp_path}/models/base")
    inputs = {f"{tmp_path}/private/tickets.csv": {"sha256": "ab" * 32}}
    environment = read_json(run / "environment.json")
    write_json(run / "environment.json", {**environment, "inputs": inputs})
    text = report.as_model_card(run, None).text
    assert str(tmp_path) not in text and "/home/ada" not in text and "private" not in text
    assert not any(question[:30] in text for question in QUESTIONS)
    assert not re.search(r"(?:validation|test|train)-\d{4}", text) and "refund_not_showing_up" not in text
    assert "| 2,100 | 240 | 520 | 2 |" in text and "tickets.csv `abababababab`" in text
    assert "one of 10 labels" in text and "You sort messages of a bank's customers." in text


def test_what_is_not_known_is_left_out(tmp_path: Path) -> None:
    """A base in a folder: neither its place on the hub nor its licence is guessed."""
    run = trained(tmp_path / "run", model="models/base", adapter=False)
    environment = read_json(run / "environment.json")
    write_json(run / "environment.json", {**environment, "model_files": {"models/base/config.json": {}}})
    card = ModelCard(report.as_model_card(run, None).text)
    assert card.data.base_model is None and card.data.license is None
    assert card.data.library_name == "transformers" and card.data.tags == ["finetooth", "sft"]
    assert "does not know the licence of `base`" in card.text
    assert "AutoModelForCausalLM" in card.text and "adapter_config.json" not in card.text


def test_the_licence_of_a_named_base_comes_with_its_duties(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", model="gemma3-270m")
    card = ModelCard(report.as_model_card(run, None).text)
    assert card.data.license == "gemma" and named_models()["gemma3-270m"].duties in card.text
    assert {one.licence for one in named_models().values()} <= LICENCES.keys()


def test_a_worse_model_is_called_worse(tmp_path: Path) -> None:
    text = report.as_model_card(trained(tmp_path / "run", tuned=0.2), None).text
    assert "It is **worse** than a prompt for the base model" in text
    assert "Better than" not in text


def test_a_readme_of_the_users_is_kept(tmp_path: Path) -> None:
    run = trained(tmp_path / "run")
    file = run / "train" / "adapter" / "README.md"
    file.write_text("mine")
    told = finetooth(tmp_path, "report", run, "--model-card")
    assert told.returncode == 2 and "never overwrites your files" in told.stderr
    assert file.read_text() == "mine"
    assert finetooth(tmp_path, "report", run, "--model-card", "--out", "card.md").returncode == 0
    assert finetooth(tmp_path, "report", run, "--model-card", "--out", "card.md").returncode == 0, (
        "ours is replaced"
    )


def test_a_run_that_is_not_evaluated_has_no_card(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", evaluated=False)
    told = finetooth(tmp_path, "report", run, "--model-card")
    assert told.returncode == 2 and "is not evaluated yet" in told.stderr
