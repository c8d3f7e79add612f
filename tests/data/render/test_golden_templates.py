"""Golden tables: what every family of chat templates makes of a conversation, token by token.

One file a family in golden_templates/: its template, with the structure of the real one, and the table.
Tables are written by

    PYTHONPATH=src:tests/support python tests/data/render/test_golden_templates.py

and meant to be read when they change. A line is a run of tokens with one space between two of them: `+` is
scored, · a space, ↵ a line break. Contexts and their continuations are also those of transformers.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from golden_templates_for_tests import CASES, FAMILIES, FOLDS_SYSTEM, GOLDEN, renderer_of
from transformers import AutoTokenizer

from finetooth.data.render.renderer import Renderer
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.data.render.turns import as_dicts, reasoning, scored_turns
from finetooth.errors import DataError

WIDTH = 100


def table(renderer: Renderer) -> str:
    """The golden file of one family."""
    lines = [f"stop: {renderer.tokenizer.text_of(renderer.stop_id)}"]
    lines += [f"note: {note}" for note in renderer.notes]
    for example in CASES:
        lines.append("")
        try:
            rows = renderer.rows(example)
        except DataError as error:
            lines.append(f"== {example.id}: refused\n{error}")
            continue
        lines.append(f"== {example.id}")
        for row in rows:
            lines.append(f"{row.id}: head {row.kept[0]}, tail {row.kept[1]}")
            lines += written(renderer.tokenizer, row.tokens.tolist(), row.weight.tolist())
    return "\n".join(lines) + "\n"


def written(tokenizer: Tokenizer, ids: list[int], weights: list[float]) -> list[str]:
    """Lines of tokens, broken at line breaks and where scoring starts or ends."""
    lines: list[str] = []
    last: float | None = None
    for index, weight in zip(ids, weights, strict=True):
        text = tokenizer.decode([index]).replace(" ", "·").replace("\n", "↵")
        mark = "  " if weight == 0 else "+ " if weight == 1 else f"+{weight:g} "
        if weight != last or lines[-1].endswith("↵") or len(lines[-1]) + len(text) >= WIDTH:
            lines.append(mark + text)
        else:
            lines[-1] += f" {text}"
        last = weight
    return lines


@pytest.mark.parametrize("family", FAMILIES)
def test_the_table_of_a_family_is_the_golden_one(family: str, tmp_path: Path) -> None:
    assert table(renderer_of(tmp_path, family)) == (GOLDEN / f"{family}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_template_gives_transformers_the_same_tokens(family: str, tmp_path: Path) -> None:
    """Contexts are equal; and the whole conversation, encoded by transformers, starts with the row."""
    renderer = renderer_of(tmp_path / "own", family)
    renderer.tokenizer.save(tmp_path / "saved", renderer.chat_template)
    other = AutoTokenizer.from_pretrained(str(tmp_path / "saved"), local_files_only=True)
    compared = 0
    for example in CASES:
        try:
            rows = renderer.rows(example)
        except DataError:
            continue
        for row, (_, context, turn) in zip(rows, scored_turns(example), strict=True):
            options: dict[str, Any] = {"tools": list(example.tools) or None, "return_dict": False}
            if family == "qwen3" and reasoning(turn):
                options["enable_thinking"] = True
            if family in FOLDS_SYSTEM and context[0].role == "system":
                system, first, *rest = context
                context = [replace(first, content=f"{system.content}\n\n{first.content}"), *rest]
            asked = other.apply_chat_template(as_dicts(context), add_generation_prompt=True, **options)
            whole = other.apply_chat_template(as_dicts([*context, turn]), **options)
            assert row.tokens[row.weight == 0].tolist() == asked
            assert whole[: len(row)] == row.tokens.tolist()
            compared += 1
    assert compared >= 4 or family == "qwen3-thinking"
    assert renderer.boundary_merges == 0


def test_every_family_is_in_the_tables_and_every_shape_in_some() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(FAMILIES)
    tables = [path.read_text(encoding="utf-8") for path in GOLDEN.glob("*.txt")]
    for example in CASES:
        assert sum(f"== {example.id}\n" in text for text in tables) >= (
            2 if example.id == "thinking" else 5
        ), example.id


if __name__ == "__main__":
    for name in FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            (GOLDEN / f"{name}.txt").write_text(table(renderer_of(Path(folder), name)), encoding="utf-8")
