"""The table of docs/models.md is what the capability proof and LoRA say of each architecture of the laws.

To write it again: python tests/docs/test_models.py, with src and tests/support in PYTHONPATH.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from gate import gate
from models_for_tests import CONFIGS, tiny

from finetooth.model import lora
from finetooth.model.api import Model

PAGE = Path(__file__).resolve().parents[2] / "docs" / "models.md"
HEAD = (
    "| architecture | `model_type` | back-end on the CPU | LoRA adapts | why not the tree |\n"
    "|---|---|---|---|---|\n"
)
NAMES = {
    "llama": "Llama 1, 2",
    "llama3": "Llama 3 (rotary scaling `llama3`)",
    "mistral": "Mistral (window)",
    "mixtral": "Mixtral (experts)",
    "qwen2": "Qwen 2, 2.5",
    "qwen3": "Qwen 3",
    "gemma2": "Gemma 2",
    "gemma3": "Gemma 3, text",
    "phi3": "Phi-3",
    "phi3-longrope": "Phi-3, long (`longrope`)",
    "gpt-oss": "gpt-oss (sinks, experts)",
    "gpt2": "GPT-2",
    "gpt-neox": "GPT-NeoX, Pythia",
    "opt": "OPT",
    "opt-projected": "OPT-350m (projected embeddings)",
    "olmo2": "OLMo 2",
    "granite": "Granite",
    "smollm3": "SmolLM3 (layers without positions)",
    "falcon": "Falcon (rotary)",
    "falcon-alibi": "Falcon (ALiBi)",
    "bloom": "BLOOM",
    "gpt-neo": "GPT-Neo",
}


def line(family: str) -> str:
    """One line of the table."""
    model = Model(tiny(family), None, "rows", frozenset())
    model.choose_backend("auto")
    (note,) = (note for note in model.notes if note.startswith("attention: "))
    way, _, reason = note.partition(", because ")
    way = way.removeprefix("attention: ").removesuffix(", proven on a small random copy")
    found = lora.projections(model.hf)
    leaves = [dict.fromkeys(n.rsplit(".", 1)[-1] for n in part) for part in (found.layers, found.experts)]
    experts = [f"{leaf} of every expert" for leaf in leaves[1]]
    covered = ", ".join([*leaves[0], *experts])
    reason = reason.partition("proven: ")[2]
    return f"| {NAMES[family]} | `{model.hf.config.model_type}` | {way} | {covered} | {reason} |".replace(
        "|  |", "| |"
    )


@pytest.mark.parametrize("family", gate(CONFIGS, ["llama", "gemma3", "gpt-oss", "falcon-alibi"]))
def test_the_table_says_what_the_proof_says(family: str) -> None:
    assert line(family) in PAGE.read_text(encoding="utf-8").splitlines()


def test_the_table_has_no_other_line() -> None:
    text = PAGE.read_text(encoding="utf-8")
    table = text[text.index(HEAD) + len(HEAD) :].partition("\n\n")[0]
    assert len(table.splitlines()) == len(CONFIGS)


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    start, end = text.index("| architecture"), text.index("\n\n", text.index("| architecture"))
    PAGE.write_text(text[:start] + HEAD + "\n".join(map(line, CONFIGS)) + text[end:], encoding="utf-8")
