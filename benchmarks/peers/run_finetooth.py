"""finetooth's side: the public path of the project, as a run of it goes through it."""

from __future__ import annotations

import os
from typing import Any

import torch
from finetooth_learning import learning
from protocol import Channel, Facts, read_rows, read_spec, serve

import finetooth as ft
from finetooth.config.task import TrainConfig
from finetooth.training import defaults, optimizer
from finetooth.training.objectives import supervised
from finetooth.training.step import train_step


def budget(model: ft.Model, rows: list[ft.Row]) -> int:
    """Distinct tokens of a micro-tree, as the auto rule of a run resolves it."""
    config = model.hf.config
    facts = defaults.DefaultsContext(
        family=config.model_type,
        hidden=config.hidden_size,
        layers=config.num_hidden_layers,
        vocabulary=config.vocab_size,
        weights=model.hf.num_parameters(),
        fresh=False,
        rows=len(rows),
        validation_rows=0,
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        inner=defaults.inner_width(config),
        sample=tuple(rows[:16]),
    )
    return defaults.micro_tokens(facts, "lora" if model.peft else "none")[0]


def training(spec: Facts) -> Any:
    """A turn is one optimizer step over all rows, or those in the `range` of the message."""
    rows = [ft.Row(row["tokens"], row["scored"], id=str(at)) for at, row in enumerate(read_rows(spec))]
    model = ft.Model.load(spec["model"])
    if spec["adapter"] == "lora":
        model.add_lora(spec["rank"], seed=0)
    config = TrainConfig(adapter=spec["adapter"], rank=spec["rank"], learning_rate=spec["rate"])
    adamw = optimizer.build(model, config)
    for group in adamw.param_groups:
        group["lr"] = spec["rate"]
    micro = spec.get("micro_tokens") or budget(model, rows)
    model.train()

    def turn(message: Facts) -> Facts:
        part = rows[slice(*message.get("range", (None,)))]
        done = train_step(model, supervised, part, adamw, budget=micro, max_norm=config.max_grad_norm)
        return {
            "loss": done.loss,
            "grad_norm": done.grad_norm,
            "computed_tokens": done.computed_tokens,
            "micro_tokens": micro,
            "attention": model.attention,
        }

    return turn


def generating(spec: Facts) -> Any:
    """A turn answers all contexts greedily."""
    model = ft.Model.load(spec["model"])
    rows = [ft.Row(row["tokens"], [0.0] * len(row["tokens"])) for row in read_rows(spec)]
    sampling = ft.types.Sampling(temperature=0.0, max_tokens=spec["max_tokens"])

    def turn(message: Facts) -> Facts:
        if "compare" in message:
            return {"gaps": gaps(model, rows, message["compare"])}
        answers = sorted(model.generate(rows, sampling), key=lambda answer: answer.row)
        return {
            "answers": [answer.tokens for answer in answers],
            "logprobs": [answer.logprobs for answer in answers],
        }

    return turn


def gaps(model: ft.Model, contexts: list[ft.Row], parted: list[Any]) -> list[float]:
    """How far apart two next tokens are, in nats, where our answer and another's part."""
    found = []
    for row, before, *both in parted:
        told = [*contexts[row].tokens.tolist(), *before]
        rows = [ft.Row([*told, token], [0.0] * len(told) + [1.0]) for token in both]
        with torch.inference_mode():
            own, other = model.logprobs(ft.PrefixTree.build(rows)).tolist()
        found.append(abs(own - other))
    return found


def choosing(spec: Facts) -> Any:
    """A turn takes the best of all labels for the contexts in the `range` of the message."""
    model = ft.Model.load(spec["model"])
    rows = [ft.Row(row["tokens"], [0.0] * len(row["tokens"])) for row in read_rows(spec)]

    def turn(message: Facts) -> Facts:
        best = sorted(
            model.choose(rows[slice(*message["range"])], spec["options"]), key=lambda choice: choice.row
        )
        return {
            "choices": [choice.option for choice in best],
            "logprobs": [choice.logprob for choice in best],
        }

    return turn


def main() -> None:
    """Load what the case asks for and serve its turns."""
    spec = read_spec()
    torch.set_num_threads(spec["threads"])
    turns = {"train": training, "generate": generating, "choose": choosing}
    make = turns.get(spec["task"], lambda spec: learning(spec, budget))
    serve(Channel(), make(spec), "torch", "transformers", "peft", "finetooth")


if __name__ == "__main__":
    main()
