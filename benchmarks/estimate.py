"""The estimate of a training's memory beside its measured peak: python benchmarks/estimate.py --help.

Twelve configurations: the shapes of SmolLM2-135M and Gemma 3 270M with random weights (or your own models),
LoRA and full fine-tuning, rows of three lengths. Each is a `finetooth train` in a process of its own, whose
peak resident memory the system reports when it ends; the estimate is that of the run before its first step.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).resolve().parent.parent / "src"
sys.path.insert(0, str(SOURCE))
TOKENIZER = SOURCE / "finetooth" / "embedded" / "milktooth"
LENGTHS = (64, 256, 1024)  # tokens of a row, half of them scored
SHAPES: dict[str, dict[str, Any]] = {
    "SmolLM2 135M": {
        "model_type": "llama",
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "max_position_embeddings": 8192,
    },
    "Gemma 3 270M": {
        "model_type": "gemma3_text",
        "vocab_size": 262144,
        "hidden_size": 640,
        "intermediate_size": 2048,
        "num_hidden_layers": 18,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "max_position_embeddings": 32768,
    },
}


def make_model(directory: Path, shape: Mapping[str, Any]) -> None:
    """A model directory of the shape: config, the embedded model's tokenizer, random weights in bfloat16."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    directory.mkdir(parents=True)
    for file in TOKENIZER.glob("*token*.json"):
        shutil.copy(file, directory)
    ends = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 2}
    config = AutoConfig.for_model(**shape, **ends, tie_word_embeddings=True)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(directory)


def write_rows(path: Path, model: Path, length: int, count: int) -> None:
    """Questions and answers of about half of `length` tokens each."""
    from finetooth.data.render.tokenizer import Tokenizer

    tokenizer, draw = Tokenizer.load(model), random.Random(length)
    texts = (SOURCE / "finetooth" / "examples" / "support-triage" / "train.jsonl").read_text(encoding="utf-8")
    words = sorted(set(re.findall("[a-z]+", texts.lower())))

    def text() -> str:
        ids = tokenizer.encode(" ".join(draw.choices(words, k=length)))
        return tokenizer.decode(ids[: length // 2 - 8])

    with path.open("w", encoding="utf-8") as file:
        for _ in range(count):
            file.write(json.dumps({"question": text(), "answer": text()}) + "\n")


def train(directory: Path, model: Path, adapter: str, length: int, given: argparse.Namespace) -> None:
    """A few steps of training, as `finetooth train` takes them."""
    from rich.console import Console

    from finetooth.commands import train
    from finetooth.config.load import load_task

    rows = directory / "rows.jsonl"
    write_rows(rows, model, length, given.batch * given.steps)
    keys = {"adapter": adapter, "batch_size": given.batch, "max_steps": given.steps, "epochs": 99}
    keys |= {"preflight": given.preflight}
    data = {"train": str(rows), "validation": 0, "test": 0}
    task = load_task({"model": str(model), "data": data, "train": keys})
    train.run(task, directory / "run", Console(stderr=True))


def in_child(function: Callable[[], None]) -> int:
    """Run the function in a fork of this process, which has imported all and computed nothing; its peak in
    bytes.
    """
    child = os.fork()
    if child == 0:
        try:
            function()
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    _, status, used = os.wait4(child, 0)
    if status:
        raise SystemExit("A configuration failed; see above.")
    return used.ru_maxrss * 1024  # KiB on Linux


def measure(directory: Path, name: str, model: Path, adapter: str, length: int, given: Any) -> dict[str, Any]:
    """One configuration: what was predicted before its first step, and its peak."""
    peak = in_child(lambda: train(directory, model, adapter, length, given))
    kept = json.loads((directory / "run" / "train" / "estimate.json").read_text(encoding="utf-8"))
    shutil.rmtree(directory)
    lasting = {key: kept[key] for key in ("predicted", "phase", "parts", "corrected") if key in kept}
    return {"model": name, "adapter": adapter, "length": length, "peak": peak, **lasting}


def main() -> None:
    """Measure every configuration, print a line for each, and write them to --out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", nargs="*", type=Path, help="model directories instead of the two shapes")
    parser.add_argument("--lengths", nargs="*", type=int, default=LENGTHS, help="tokens of a row")
    parser.add_argument("--adapters", nargs="*", default=["lora", "none"], choices=["lora", "none"])
    parser.add_argument("--steps", type=int, default=2, help="optimizer steps, default %(default)s")
    parser.add_argument("--batch", type=int, default=4, help="rows of a step, default %(default)s")
    parser.add_argument("--preflight", default="off", choices=["on", "off"], help="default %(default)s")
    parser.add_argument("--out", type=Path, help="JSON file of the results")
    given = parser.parse_args()
    import finetooth.commands.train  # noqa: F401  once, before the forks

    results = []
    with tempfile.TemporaryDirectory() as folder:
        models = {path.name: path for path in given.models or ()}
        for name, shape in SHAPES.items() if not models else ():
            models[name] = Path(folder) / shape["model_type"]
            in_child(lambda path=models[name], shape=shape: make_model(path, shape))
        for name, model in models.items():
            for adapter in given.adapters:
                for length in given.lengths:
                    place = Path(folder) / "configuration"
                    place.mkdir()
                    results.append(measure(place, name, model, adapter, length, given))
                    print(json.dumps(results[-1]), flush=True)
    if given.out:
        given.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
