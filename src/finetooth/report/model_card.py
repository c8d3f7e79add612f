"""The model card of a run: README.md as Hugging Face reads it, with what the run has proven.

It says counts and never contents of rows, and names no folder of the machine.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetooth.config.named_models import is_named, named_models
from finetooth.config.values import format_count, hub_parts, is_hub_id
from finetooth.errors import ConfigError
from finetooth.evaluation import ledger
from finetooth.evaluation.graders import without_options
from finetooth.evaluation.summary import TUNED
from finetooth.quality.rules.language import language, language_code
from finetooth.report.answers import examples_of, last_question
from finetooth.report.data_part import data_part
from finetooth.report.evidence import Evidence
from finetooth.report.markdown import (
    block,
    bullets,
    code,
    escaped,
    headline,
    line_items,
    reproduction_paragraphs,
    score_paragraphs,
    verdict_paragraphs,
)
from finetooth.report.run_page import FirstPage
from finetooth.rundir import write_text

MARK = "<!-- Written by finetooth report --model-card. -->"
LICENCES = {  # of models.yaml: the hub's names for them
    "Apache-2.0": "apache-2.0",
    "MIT": "mit",
    "Gemma terms of use": "gemma",
    "Llama 2 Community": "llama2",
    "Llama 3.2 Community": "llama3.2",
}
METRICS = {"label": "accuracy", "number": "accuracy", "contains": "accuracy", "exact": "exact_match"}
SETTINGS = ("method", "adapter", "rank", "learning_rate", "batch_size", "epochs", "max_steps", "optimizer",
            "schedule", "warmup", "weight_decay")  # fmt: skip
SAMPLE = 100  # rows whose language is looked at
MAIN = 0.9  # share of those with a known language that one has to have


@dataclass(frozen=True, slots=True)
class Base:
    """The base model. hub: its id there, "" where it is not known. licence, duties: "" where not known."""

    name: str
    hub: str = ""
    licence: str = ""
    duties: str = ""

    @classmethod
    def of(cls, model: str, local: bool) -> Base:
        """The base by the task's key `model`. local: whether it is a folder, whose name alone is told."""
        if is_named(model):
            known = named_models()[model]
            return cls(known.name, known.hub, known.licence, known.duties)
        if not local and is_hub_id(model):
            name = hub_parts(model)[0]
            return cls(name, name)
        return cls(Path(model).name or model)


def write_card(path: Path, text: str) -> None:
    """Write a card. ConfigError for a file there that is no card of ours."""
    if path.is_dir() or (path.is_file() and MARK not in path.read_text(encoding="utf-8", errors="replace")):
        raise ConfigError(
            f"{path} was not written by finetooth, which never overwrites your files. To write the card "
            "elsewhere: --out FILE"
        )
    write_text(path, text)


def model_card(page: FirstPage, evidence: Evidence, adapter: bool) -> str:
    """README.md of an evaluated run. adapter: whether its weights are a PEFT adapter."""
    base = Base.of(page.model, bool(evidence.environment.get("model_files")))
    kind = "reward model" if page.method == "reward_model" else "model"
    data = data_part(evidence)
    weights = "LoRA adapter" if adapter else "all weights"
    what = f"{code(base.hub or base.name)}, fine-tuned ({weights}, method {page.method})"
    parts = [
        f"---\n{metadata(page, evidence, base, adapter)}---",
        MARK,
        f"# {escaped(page.name)}",
        f"A {kind} for one task: {what}.",
        f"**{escaped(headline(page))}.**",
        *verdict_paragraphs(page),
        "## Intended use",
        *_use(page, data["labels"]),
        "## Results",
        *score_paragraphs(page),
        line_items(page, public=True),
        "## Limits",
        bullets(page.unchecked),
        "## How to use it",
        *_how(evidence, base, adapter, data["labels"]),
        "## Data",
        *_data(data),
        "## How it was trained",
        *_training(evidence),
        *reproduction_paragraphs(page, "## Reproduce", command="finetooth run task.yaml"),
        "## Licence",
        *_licence(base),
    ]
    return "\n\n".join(parts) + "\n"


def metadata(page: FirstPage, evidence: Evidence, base: Base, adapter: bool) -> str:
    """The front matter, as YAML."""
    from huggingface_hub import ModelCardData  # here, as it takes a second to load

    reward = page.method == "reward_model"
    tags = ["finetooth", *(["lora"] if adapter else []), page.method.replace("_", "-")]
    data = ModelCardData(
        base_model=base.hub or None,
        license=LICENCES.get(base.licence),
        language=_language(evidence) or None,
        library_name="peft" if adapter else "transformers",
        pipeline_tag="text-classification" if reward else "text-generation",
        tags=tags,
        model_name=_plain(page.name),
        eval_results=_results(page, evidence),
    )
    if base.hub:
        data["base_model_relation"] = "adapter" if adapter else "finetune"
    return f"{data.to_yaml()}\n"


def _results(page: FirstPage, evidence: Evidence) -> list[Any]:
    """The tuned model's scores by every grader, for the model index."""
    from huggingface_hub import EvalResult

    summary = evidence.summary or {}
    tuned = next((one for one in summary["candidates"] if one["name"] == TUNED), None)
    if tuned is None:
        return []
    found = {summary["grader"]: tuned, **tuned.get("also", {})}
    digest = ledger.sealed_digest(evidence.path) if page.split == "test" else None
    return [
        EvalResult(
            task_type="text-classification" if without_options(grader) == "label" else "text-generation",
            dataset_type=re.sub(r"[^a-z0-9]+", "-", page.name.lower()).strip("-") or "private",
            dataset_name=_plain(page.name),
            dataset_split=page.split,
            dataset_revision=digest,
            metric_type=METRICS.get(without_options(grader), without_options(grader)),
            metric_name=f"{grader}, mean over {format_count(summary['n'] - one['errors'], 'row')}",
            metric_value=round(one["score"], 4),
            metric_args={"confidence_interval_95": [round(one["low"], 4), round(one["high"], 4)]},
        )
        for grader, one in found.items()
        if one["score"] is not None
    ]


def _plain(text: str) -> str:
    """A text on one line."""
    return " ".join(text.split())


def _language(evidence: Evidence) -> str:
    """The language code of the training questions; "" where it is not known, or there are several."""
    asked = [
        last_question(one) for one, _ in zip(examples_of(evidence.path, "train"), range(SAMPLE), strict=False)
    ]
    known = Counter(name for text in asked if (name := language(text)))
    name, count = known.most_common(1)[0] if known else ("", 0)
    return language_code(name) if count >= MAIN * known.total() and 2 * known.total() >= len(asked) else ""


def _use(page: FirstPage, labels: int) -> list[str]:
    task = f"It gives a text one of {labels} labels." if labels else "It answers texts of one kind."
    parts = [
        f"{task} It is meant for texts like those that it was trained and measured on, and for nothing else: "
        "other texts, languages or tasks were not tried unless the results say so. Where a wrong answer does "
        "harm, have a person check it."
    ]
    if (verdict := (page.verdict or {}).get("verdict", "better")) != "better":
        than = "better than" if verdict == "not proven" else "than"
        parts.append(f"It is **{verdict}** {than} a prompt for the base model: prefer the prompt.")
    return parts


def _how(evidence: Evidence, base: Base, adapter: bool, labels: int) -> list[str]:
    config = evidence.config
    evaluate = config.get("evaluate") or {}
    instruction = str(config.get("instruction") or "")
    parts = []
    if instruction:
        parts += ["Each request carries this system message, as in training:", block(instruction, "text")]
    if evidence.method == "reward_model":
        return [*parts, "It scores an answer to a question; it writes none."]
    kind = "AutoPeftModelForCausalLM" if adapter else "AutoModelForCausalLM"
    system = [f'{{"role": "system", "content": {instruction!r}}}'] if instruction else []
    messages = ", ".join([*system, '{"role": "user", "content": "Your text"}'])
    program = f"""\
from {"peft" if adapter else "transformers"} import {kind}
from transformers import AutoTokenizer

folder = "."  # where this file is
model = {kind}.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
messages = [{messages}]
inputs = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
)
output = model.generate(**inputs, max_new_tokens={evaluate.get("max_tokens", 64)}, do_sample=False)
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))"""
    parts += [block(program, "python")]
    if adapter and base.name != base.hub:
        parts.append(
            "`adapter_config.json` names the base model by its folder on the machine where the adapter was "
            "trained: write where yours is to `base_model_name_or_path`."
        )
    if labels:
        parts.append(
            "The scores are those of answers chosen among the labels, as `finetooth predict RUN FILE` does; "
            "free generation, as above, may write something else."
        )
    return parts


def _data(found: Mapping[str, Any]) -> list[str]:
    counts = [(name, count) for name, count in found["counts"]] + [("rejected", found["rejected"])]
    table = [f"| {' | '.join(name for name, _ in counts)} |", f"|{' ---: |' * len(counts)}"]
    table.append(f"| {' | '.join(f'{count:,}' for _, count in counts)} |")
    sealed = (
        "The sealed test was set aside before training, and nothing was chosen on it. The rows are not "
        "published here."
    )
    return ["Rows by side:", "\n".join(table), sealed]


def _training(evidence: Evidence) -> list[str]:
    train: Mapping[str, Any] = evidence.config.get("train") or {}
    if evidence.config.get("tuned"):
        return ["It was trained elsewhere; finetooth measured it."]
    chosen = [(key, train[key]) for key in SETTINGS if train.get(key) is not None]
    if train.get("adapter") == "none":
        chosen = [(key, value) for key, value in chosen if key != "rank"]
    return [
        "With finetooth, by these settings:",
        block("\n".join(f"{key}: {value}" for key, value in chosen), "yaml"),
    ]


def _licence(base: Base) -> list[str]:
    if not base.licence:
        return [
            f"finetooth does not know the licence of {code(base.hub or base.name)}. It applies to this "
            "model, too: look it up before you pass the model on."
        ]
    return [
        f"The base model's licence applies: {escaped(base.licence)}. It asks you to {escaped(base.duties)}."
    ]
