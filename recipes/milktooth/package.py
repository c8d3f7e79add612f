"""Package a trained model directory as the embedded model: bf16 weights, tokenizer, template, card, notices.

    python recipes/milktooth/package.py .staging/milktooth/instruct/train/model \
        --measured .staging/milktooth/measured.json --bar .staging/milktooth/kneser_ney.json --compute "..."

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
OUTSIDE = ("wikitext2_validtest",)  # measured, but of another source than the corpus
QUALITY, COMPUTE = "<!-- quality -->", "<!-- compute -->"

Numbers = dict[str, dict[str, float]]  # by text: bytes and bits_per_byte


def to_bfloat16(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights rounded to bf16; ValueError when one of them is not finite."""
    broken = [name for name, tensor in weights.items() if not tensor.isfinite().all()]
    if broken:
        raise ValueError(f"not finite: {', '.join(broken)}")
    return {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in weights.items()}


def quality_table(measured: Numbers, bar: Numbers) -> str:
    """measure.py's numbers beside kneser_ney.py's as a Markdown table: held-out, total, others."""

    def line(name: str, texts: list[str]) -> str:
        size = sum(measured[text]["bytes"] for text in texts)
        if size != sum(bar[text]["bytes"] for text in texts):
            raise ValueError(f"{name}: the model and the 5-gram were measured on other texts")
        both = (
            sum(numbers[text]["bits_per_byte"] * numbers[text]["bytes"] for text in texts) / size
            for numbers in (measured, bar)
        )
        return f"| {name} | {int(size):,} | {' | '.join(f'{value:.3f}' for value in both)} |"

    lines = ["| held-out text | bytes | bits per byte | 5-gram |", "|---|---|---|---|"]
    heldout = [name for name in measured if name not in OUTSIDE]
    lines += [line(name, [name]) for name in heldout]
    lines += [line("**all of these**", heldout)]
    return "\n".join(lines + [line(name, [name]) for name in OUTSIDE if name in measured])


def card(measured: Numbers, bar: Numbers, compute: str) -> str:
    """MODEL_CARD.md with its blanks filled."""
    text = (HERE / "MODEL_CARD.md").read_text(encoding="utf-8")
    return text.replace(QUALITY, quality_table(measured, bar)).replace(COMPUTE, compute)


def package(source: Path, out: Path, measured: Numbers, bar: Numbers, compute: str) -> int:
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
    (out / "MODEL_CARD.md").write_text(card(measured, bar, compute), encoding="utf-8")
    size = sum(path.stat().st_size for path in out.iterdir())
    if size > LIMIT:
        raise ValueError(f"{out} has {size:,} bytes, more than {LIMIT:,}")
    return size


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", type=Path, help="the trained run's train/model directory")
    parser.add_argument("--measured", type=Path, required=True, help="what measure.py --json wrote")
    parser.add_argument("--bar", type=Path, required=True, help="what kneser_ney.py --json wrote")
    parser.add_argument("--compute", required=True, help="what the training took, a sentence for the card")
    parser.add_argument("--out", type=Path, default=EMBEDDED)
    options = parser.parse_args()
    measured = json.loads(options.measured.read_text(encoding="utf-8"))
    bar = json.loads(options.bar.read_text(encoding="utf-8"))
    size = package(options.model, options.out, measured, bar, options.compute)
    print(f"{options.out}: {size:,} bytes")


if __name__ == "__main__":
    main()
