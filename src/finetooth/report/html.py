"""Rendering of HTML pages: self-contained, without scripts, every value escaped."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from finetooth.evaluation.summary import percent, points


def render(template: str, page: Mapping[str, Any]) -> str:
    """The page made from a template beside this file (NAME.html.jinja), which extends page.html.jinja."""
    environment = Environment(
        loader=FunctionLoader(lambda name: files("finetooth.report").joinpath(name).read_text("utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=percent, points=points, p_value=p_value, format_corpus_score=format_corpus_score
    )
    return environment.get_template(template).render(**page)


def p_value(p: float) -> str:
    """0.0123 as `p = 0.012`, very small values as `p < 0.001`."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def format_corpus_score(value: float | None) -> str:
    """A corpus score on its own scale: BLEU or chrF such as 34.2, perplexity such as 2.93."""
    return "–" if value is None else f"{value:,.1f}" if value >= 10 else f"{value:.2f}"
