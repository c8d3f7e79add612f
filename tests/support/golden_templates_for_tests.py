"""Families of chat templates with their tokenizers, and the conversations of the golden tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import processors
from tokenizers_for_tests import LLAMA3_PIECES, byte_level

from finetooth.data.render.renderer import Renderer
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.types import Answer, Example, Message

GOLDEN = Path(__file__).resolve().parents[1] / "data" / "render" / "golden_templates"

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
