"""Package a trained model directory as the embedded model: bf16 weights, tokenizer, template, card, notices.

    python recipes/milktooth/package.py .staging/milktooth/instruct/train/model \
        --measured .staging/milktooth/measured.json --compute "..."

writes src/finetooth/embedded/milktooth/ anew. MODEL_CARD.md's two blanks are filled: the table of what
measure.py measured, and what the training took. Refuses what would not be fit to ship: non-finite weights,
another template than the recipe's, or more than 10 MB.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

HERE = Path(__file__).resolve().parent
EMBEDDED = HERE.parents[1] / "src" / "finetooth" / "embedded" / "milktooth"
FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
GENERATION = ("bos_token_id", "eos_token_id", "pad_token_id")
LIMIT = 10_000_000  # bytes of the whole directory
QUALITY, COMPUTE = "<!-- quality -->", "<!-- compute -->"


def to_bfloat16(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights rounded to bf16; ValueError when one of them is not finite."""
    broken = [name for name, tensor in weights.items() if not tensor.isfinite().all()]
    if broken:
        raise ValueError(f"not finite: {', '.join(broken)}")
    return {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in weights.items()}


def quality_table(measured: dict[str, dict[str, float]]) -> str:
    """measure.py's numbers as a Markdown table, with the total over all bytes."""
    lines = ["| held-out text | bytes | bits per byte |", "|---|---|---|"]
    lines += [
        f"| {name} | {int(entry['bytes']):,} | {entry['bits_per_byte']:.3f} |"
        for name, entry in measured.items()
    ]
    size = sum(entry["bytes"] for entry in measured.values())
    bits = sum(entry["bits_per_byte"] * entry["bytes"] for entry in measured.values())
    return "\n".join([*lines, f"| all | {int(size):,} | {bits / size:.3f} |"])


def card(measured: dict[str, dict[str, float]], compute: str) -> str:
    """MODEL_CARD.md with its blanks filled."""
    text = (HERE / "MODEL_CARD.md").read_text(encoding="utf-8")
    return text.replace(QUALITY, quality_table(measured)).replace(COMPUTE, compute)


def package(source: Path, out: Path, measured: dict[str, dict[str, float]], compute: str) -> int:
    """Write the embedded model from a model directory; returns its size in bytes. Raises ValueError."""
    template = (source / "chat_template.jinja").read_text(encoding="utf-8")
    if "<|im_start|>" not in template:
        raise ValueError(f"{source}/chat_template.jinja is not the recipe's chat template")
    weights = to_bfloat16(load_file(source / "model.safetensors"))
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    generation = json.loads((source / "generation_config.json").read_text(encoding="utf-8"))
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    (out / "model.safetensors").chmod(0o644)
    for name, value in (
        ("config.json", config | {"dtype": "bfloat16"}),
        ("generation_config.json", {key: generation[key] for key in GENERATION if key in generation}),
    ):
        (out / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    for name in FILES:
        shutil.copyfile(source / name, out / name)
    shutil.copyfile(HERE / "NOTICE", out / "NOTICE")
    (out / "MODEL_CARD.md").write_text(card(measured, compute), encoding="utf-8")
    size = sum(path.stat().st_size for path in out.iterdir())
    if size > LIMIT:
        raise ValueError(f"{out} has {size:,} bytes, more than {LIMIT:,}")
    return size


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", type=Path, help="the trained run's train/model directory")
    parser.add_argument("--measured", type=Path, required=True, help="what measure.py --json wrote")
    parser.add_argument("--compute", required=True, help="what the training took, a sentence for the card")
    parser.add_argument("--out", type=Path, default=EMBEDDED)
    options = parser.parse_args()
    measured = json.loads(options.measured.read_text(encoding="utf-8"))
    size = package(options.model, options.out, measured, options.compute)
    print(f"{options.out}: {size:,} bytes")


if __name__ == "__main__":
    main()
