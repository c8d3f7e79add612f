"""The estimate of a training's memory beside its measured peak: python benchmarks/estimate.py --help.

Twelve configurations: the shapes of SmolLM2-135M and Gemma 3 270M with random weights (or your own models),
LoRA and full fine-tuning, rows of three lengths. Each model and adapter is a process of its own. It makes its
estimates before the first step, and then takes steps of one row each, of growing length; the peak is the most
memory that the process has held after each length, as the system counts it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).resolve().parent.parent / "src"
sys.path.insert(0, str(SOURCE))
TOKENIZER = SOURCE / "finetooth" / "embedded" / "milktooth"
LENGTHS = (64, 192, 512)  # tokens of a row, of which half are scored
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


def measure(name: str, directory: Path, adapter: str, lengths: Sequence[int], out: Path) -> None:
    """Append a line to `out` for each length of row: the estimate, its facts, and the peak."""
    import numpy as np

    from finetooth import machine
    from finetooth.config.task import TrainConfig
    from finetooth.model.api import Model
    from finetooth.runs.estimate import memory_facts
    from finetooth.training import optimizer as optimizers
    from finetooth.training.estimate import Workload, estimate_memory
    from finetooth.training.objectives import supervised
    from finetooth.training.step import train_step
    from finetooth.tree import Row

    config = TrainConfig(adapter=adapter, learning_rate=1e-5, micro_tokens=max(lengths), preflight="off")
    model = Model.load(directory)
    model.digest()  # as a run does, which reads all weights from the file
    if adapter == "lora":
        model.add_lora(config.rank, 0)
    facts = memory_facts(model, config, answers=0)
    optimizer = optimizers.build(model, config)
    model.train()
    draw, steps = np.random.default_rng(0), 2  # the optimizer's state is there from the second step on
    for length in sorted(lengths):
        weight = np.zeros(length)
        weight[length // 2 :] = 1.0
        for _ in range(steps):
            rows = [Row(draw.integers(0, 4096, length), weight)]
            train_step(model, supervised, rows, optimizer, budget=length, max_norm=1.0)
        steps = 1
        work = Workload(2, length, length, int(weight.sum()), length, length)
        result = {
            "model": name,
            "adapter": adapter,
            "length": length,
            "predicted": estimate_memory(facts, work).peak,
            "peak": machine.memory_of_process("VmHWM"),
            "facts": asdict(facts),
            "workload": asdict(work),
        }
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")


def in_child(function: Callable[[], None]) -> None:
    """Run the function in a fork of this process, which has imported much and computed nothing."""
    child = os.fork()
    if child == 0:
        try:
            function()
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        raise SystemExit("A configuration failed; see above.")


def measured(models: Mapping[str, Path], lengths: Sequence[int]) -> list[dict[str, Any]]:
    """All configurations of these models. A shape is made, with random weights, at its path."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "results.jsonl"
        for name, directory in models.items():
            if name in SHAPES:
                in_child(partial(make_model, directory, SHAPES[name]))
            for adapter in ("lora", "none"):
                in_child(partial(measure, name, directory, adapter, lengths, out))
        return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    """Measure every configuration, print a line for each, and write all to --out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", nargs="*", type=Path, help="model directories instead of the two shapes")
    parser.add_argument("--lengths", nargs="*", type=int, default=LENGTHS, help="tokens of a row")
    parser.add_argument("--out", type=Path, help="JSON file of the results")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        shapes = {name: Path(folder) / shape["model_type"] for name, shape in SHAPES.items()}
        models = {path.name: path for path in given.models} if given.models else shapes
        results = measured(models, given.lengths)
    for result in results:
        sizes = ", ".join(f"{key} {result[key] / 2**30:.2f} GiB" for key in ("predicted", "peak"))
        print(f"{result['model']}, adapter {result['adapter']}, {result['length']} tokens: {sizes}")
    if given.out:
        given.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
