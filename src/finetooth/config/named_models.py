"""Named models: what a task may call a model besides a directory, a file or a hub id.

The table is models.yaml, read when it is first needed. Nothing is fetched because its name stands in a task:
`finetooth models get NAME` does that (data/fetch.py).
"""

from __future__ import annotations

import difflib
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import yaml


class Wheels(NamedTuple):
    """A model file in wheels.

    packages: pip requirements. parts: paths in the wheels, which joined make `file`. sha256, bytes: of that.
    """

    packages: tuple[str, ...]
    parts: tuple[str, ...]
    file: str
    sha256: str
    bytes: int


class Shape(NamedTuple):
    """The sizes on which a training's memory depends.

    hidden, inner: widths of the hidden states and of the MLP. vocabulary: rows of the embeddings. tied:
    whether these are the output head, too.
    """

    layers: int
    hidden: int
    inner: int
    vocabulary: int
    tied: bool


class NamedModel(NamedTuple):
    """One line of the table. hub: repository id, "" if there is none. parameters: in millions.

    shape: of the text model. context: tokens. kind: chat or base. duties: what the licence asks for.
    embedded: comes with finetooth.
    """

    name: str
    parameters: int
    shape: Shape
    context: int
    languages: str
    kind: str
    licence: str
    duties: str
    good_for: str
    hub: str = ""
    revision: str = "main"
    pypi: Wheels | None = None
    embedded: bool = False


@cache
def named_models() -> dict[str, NamedModel]:
    """Every named model by its name, in the table's order."""
    text = files("finetooth.config").joinpath("models.yaml").read_text(encoding="utf-8")
    return {name: _entry(name, dict(values)) for name, values in yaml.safe_load(text).items()}


def _entry(name: str, values: dict[str, Any]) -> NamedModel:
    if wheels := values.get("pypi"):
        parts: dict[str, Any] = {key: tuple(wheels[key]) for key in ("packages", "parts")}
        values["pypi"] = Wheels(**wheels | parts)
    return NamedModel(name=name, **values | {"shape": Shape(**values["shape"])})


def is_named(value: object) -> bool:
    """Whether this is the name of a model; a folder of the same name is ./NAME."""
    return isinstance(value, str) and value in named_models()


def nearest_names(name: str) -> str:
    """The names most like a misspelt one, as a question; "" if none is like it."""
    near = difflib.get_close_matches(name.lower(), named_models(), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(near)}?" if near else ""
