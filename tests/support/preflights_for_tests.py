"""Trials of the preflight check on tiny real models: any template, architecture and shape of rows."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from models_for_tests import tiny_model_dir
from training_for_tests import settings

from finetooth.data.render.renderer import Renderer
from finetooth.model.api import Model
from finetooth.training.preflight.run import PreflightInputs
from finetooth.types import Answer, Example, Message

CITIES = ["Rome", "Oslo", "Lima", "Cairo", "Tokyo", "Quito", "Paris", "Delhi", "Accra", "Minsk"]


def question(n: int) -> Example:
    return Example(f"q{n}", (Message("user", f"Where is {n}?"),), (Answer(f"In {CITIES[n]}, {7 * n}."),))


def labelled(n: int) -> Example:
    return Example(f"l{n}", (Message("user", f"{n} of {CITIES[n]}"),), (Answer("ab"[n % 2]),))


def system(n: int) -> Example:
    context = (Message("system", "Be brief."), Message("user", f"Say {n}"))
    return Example(f"s{n}", context, (Answer(f"{n}{n}"),))


def dialogue(n: int) -> Example:
    turns = (Message("user", f"Hi {n}"), Message("assistant", "Yes?"), Message("user", f"Add {n}"))
    return Example(f"d{n}", turns, (Answer(f"It is {n + n}"),))


def text(n: int) -> Example:
    return Example(f"t{n}", (), (Answer(f"{CITIES[n]} lies by the {n}th river."),))


SHAPES = {"question": question, "labels": labelled, "system": system, "dialogue": dialogue, "text": text}


def trial(
    place: Path,
    tokenizer: str = "chatml",
    family: str = "llama",
    adapter: str = "lora",
    shape: str = "question",
    template: str = "auto",
    seed: int = 0,
) -> PreflightInputs:
    """What a preflight check needs, with nothing wrong."""
    directory = tiny_model_dir(place / "model", family, seed, tokenizer)
    model = Model.load(directory)
    renderer = Renderer(model.tokenizer, template)
    digest = model.digest()
    if adapter == "lora":
        model.add_lora(16, seed)
    model.add_stop(renderer.stop_id)
    examples = [SHAPES[shape](n) for n in range(10)]
    load: Any = partial(Model.load, attention=model.attention)
    return PreflightInputs(
        model=model,
        rows=renderer.render_all(examples).rows,
        examples=examples,
        config=settings(adapter=adapter, rank=16, micro_tokens=1024),
        training_renderer=renderer,
        evaluation_renderer=Renderer(model.tokenizer, template),
        load=load if adapter == "none" else partial(load, directory),
        directory=place / "preflight",
        base_digest=digest if adapter == "lora" else None,
        truncation_limit=None,
        memory=1 << 33,
        clock=lambda: 0.0,  # however slow the machine, no time limit
    )
