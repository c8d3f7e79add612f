"""Golden tables: what every family of chat templates makes of a conversation, token by token.

One file a family in golden_templates/: its template, with the structure of the real one, and the table.
Tables are written by

    PYTHONPATH=src:tests python tests/data/test_golden_templates.py

and meant to be read when they change. A line is a run of tokens with one space between two of them: `+` is
scored, · a space, ↵ a line break. Contexts and their continuations are also those of transformers.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import processors
from tokenizers_for_tests import LLAMA3_PIECES, byte_level
from transformers import AutoTokenizer

from finetooth.data.render.renderer import Renderer
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.data.render.turns import as_dicts, scored_turns, thought
from finetooth.errors import DataError
from finetooth.types import Answer, Example, Message

GOLDEN = Path(__file__).parent / "golden_templates"
WIDTH = 100

CHATML = ["", "<|im_end|>", "<|im_start|>"]
LLAMA = ["<s>", "</s>"]
PHI = ["", "<|endoftext|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
DEEPSEEK = [
    "<｜begin▁of▁sentence｜>",
    "<｜end▁of▁sentence｜>",
    "<｜User｜>",
    "<｜Assistant｜>",
    "<｜tool▁sep｜>",
]
DEEPSEEK += [
    f"<｜tool▁{name}▁{end}｜>" for name in ("calls", "call", "outputs", "output") for end in ("begin", "end")
]
COHERE = ["<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>", "<|START_OF_TURN_TOKEN|>"] + [
    f"<|{role}_TOKEN|>" for role in ("SYSTEM", "USER", "CHATBOT")
]

# family -> its special tokens: BOS ("" for none), EOS, others
FAMILIES = {
    "alpaca": LLAMA,
    "chatml": CHATML,
    "command-r": COHERE,
    "deepseek": DEEPSEEK,
    "gemma": ["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"],
    "llama2": LLAMA,
    "llama3": ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"],
    "mistral": [*LLAMA, *(f"[{end}{name}]" for name in ("INST", "AVAILABLE_TOOLS", "TOOL_RESULTS")
                          for end in ("", "/")), "[TOOL_CALLS]"],
    "phi": PHI,
    "plain": ["<|endoftext|>", "<|endoftext|>"],
    "qwen2.5": CHATML,
    "qwen3": CHATML,
    "qwen3-thinking": CHATML,
    "vicuna": LLAMA,
    "zephyr": LLAMA,
}  # fmt: skip
FOLDS_SYSTEM = ("gemma", "mistral")  # the second drops a system message from the conversation with its answer

TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "translate",
        "description": "Translate the text.",
        "parameters": {"type": "object", "properties": {"text": {"type": "string"}}},
    },
}
CALL = {
    "type": "function",
    "id": "123456789",
    "function": {"name": "translate", "arguments": '{"text": "Good morning", "lines": 2}'},
}
WAY, CAPITAL = Message("user", "Which way?"), Message("user", "What is the capital of France?")
CALLED = (
    Message("user", "Translate Good morning"),
    Message("assistant", "", more={"tool_calls": [CALL]}),
    Message("tool", "Guten Morgen", more={"tool_call_id": "123456789", "name": "translate"}),
)
THOUGHT = {"reasoning_content": "The fox jumps over the dog."}
CASES = [
    Example("single", (WAY,), (Answer("Left, then right."),)),
    Example("multi-turn", (WAY, Message("assistant", "Left."), CAPITAL), (Answer("Paris, of course!"),)),
    Example("weights", (WAY, Message("assistant", "Left.", 0.0), CAPITAL), (Answer("Paris", weight=0.5),)),
    Example("system", (Message("system", "Translate the text."), Message("user", "Good morning")),
            (Answer("Guten Morgen"),)),
    Example("tools", CALLED, (Answer("Of course!"),), tools=(TOOL,)),
    Example("calls", CALLED, (Answer("Of course!"),)),
    Example("thinking", (WAY, Message("assistant", "Left.", more=THOUGHT), CAPITAL),
            (Answer("Paris", more={"reasoning_content": "Spaces and lines."}),)),
    Example("own-thought", (WAY,), (Answer("<think>\nThe fox jumps.\n</think>\n\nLeft."),)),
]  # fmt: skip

# What the tokenizers learn, so that nearly every word of the tables is one token.
WORDS = [
    *(message.content for example in CASES for message in example.context),
    *(answer.text for example in CASES for answer in example.answers),
    *(f"{value} {value.lower()} {json.dumps(value)}" for value in (json.dumps([TOOL, CALL]), str(THOUGHT))),
]


def save(directory: Path, family: str) -> Path:
    """A tokenizer with the family's special tokens and template, as a model's directory."""
    bos, eos, *others = FAMILIES[family]
    path = GOLDEN / f"{family}.jinja"
    template = path.read_text(encoding="utf-8") if path.is_file() else None
    texts = 4 * [*WORDS, (template or "").replace("\\n", "\n")]
    backend = byte_level(list(dict.fromkeys(filter(None, [bos, eos, *others]))), 4000, LLAMA3_PIECES, texts)
    values: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": eos}
    if bos and family != "plain":
        pair = [(bos, backend.token_to_id(bos))]
        backend.post_processor = processors.TemplateProcessing(f"{bos} $A", f"{bos} $A {bos} $B", pair)
    if bos:
        values["bos_token"] = bos
    if template:
        values["chat_template"] = template
    directory.mkdir(parents=True, exist_ok=True)
    backend.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(json.dumps(values), encoding="utf-8")
    return directory


def renderer_of(directory: Path, family: str) -> Renderer:
    return Renderer(Tokenizer.load(save(directory, family)), "plain" if family == "plain" else "chat")


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
            lines.append(f"{row.id}: head {row.signals['head']}, tail {row.signals['tail']}")
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
            if family == "qwen3" and thought(turn):
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
