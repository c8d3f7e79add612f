"""Peak memory of training a 0.5 B-shaped model on the CPU: python benchmarks/memory.py --help.

The model has the shape of Qwen2.5-0.5B (494 million parameters, tied embeddings of 151,936 tokens) and random
weights, stored as shards of bfloat16. A child process runs `finetooth train`, from the first byte read to the
saved and verified adapter: LoRA of rank 16 on all linear layers, float32, 16 rows of about 200 tokens a step.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "src"
TOKENIZER = SOURCE / "finetooth" / "embedded" / "milktooth"
TASK = """\
model: {model}
data: {{train: {rows}, validation: {validation}, test: 0}}
train: {{adapter: lora, rank: 16, batch_size: 16, max_steps: {steps}, epochs: 99, validate_every: {steps}}}
"""


def make_model(directory: Path) -> None:
    """A model directory of the shape: config, the embedded model's tokenizer, bfloat16 shards."""
    import torch
    from transformers import AutoModelForCausalLM, Qwen2Config

    directory.mkdir()
    for file in TOKENIZER.glob("*token*.json"):
        shutil.copy(file, directory)
    config = Qwen2Config(
        vocab_size=151936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        max_position_embeddings=32768,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(directory, max_shard_size="300MB")


def make_rows(path: Path, count: int, seed: int) -> None:
    """Questions and answers of about 100 tokens each, half of which are scored."""
    draw = random.Random(seed)
    texts = (SOURCE / "finetooth" / "examples" / "support-triage" / "train.jsonl").read_text(encoding="utf-8")
    words = re.findall("[a-z]+", texts.lower())
    with path.open("w", encoding="utf-8") as file:
        for index in range(count):
            text = [" ".join(draw.choices(words, k=draw.randint(65, 85))) for _ in range(2)]
            file.write(json.dumps({"question": f"{index}: {text[0]}", "answer": text[1]}) + "\n")


def measure(directory: Path, steps: int) -> dict[str, float]:
    """Train in a child process: its peak resident memory in GiB, its seconds, its tokens a row."""
    make_model(directory / "model")
    make_rows(directory / "rows.jsonl", 16 * steps, 1)
    make_rows(directory / "validation.jsonl", 16, 2)
    values = {"rows": "rows.jsonl", "validation": "validation.jsonl"}
    paths = {name: directory / file for name, file in values.items()}
    task = directory / "task.yaml"
    task.write_text(TASK.format(model=directory / "model", steps=steps, **paths))
    command = [sys.executable, "-m", "finetooth", "train", str(task), "--out", str(directory / "run")]
    start = time.perf_counter()
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(SOURCE), "HF_HUB_OFFLINE": "1"})
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20  # KiB on Linux
    lines = (directory / "run" / "train" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    trained = [line for line in map(json.loads, lines) if "row_tokens" in line]
    tokens = sum(line["row_tokens"] for line in trained) / sum(line["rows"] for line in trained)
    return {"steps": steps, "peak_gib": peak, "seconds": seconds, "tokens_per_row": tokens}


def main() -> None:
    """Print what was measured as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=4, help="optimizer steps, default %(default)s")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        print(json.dumps(measure(Path(directory), given.steps)))


if __name__ == "__main__":
    main()
