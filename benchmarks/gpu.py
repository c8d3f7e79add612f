"""finetooth on a GPU: its laws, its speed beside TRL and Unsloth, and large shapes.

Everything runs with this interpreter: install finetooth's requirements and, to compare with, any of trl (and
datasets), liger-kernel, flash-attn and unsloth. What is missing is said. --smoke tries the program without a
GPU, with tiny models, where its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "src")]

from sidebyside import rows as made  # noqa: E402
from sidebyside.floor import Work, step_gflop  # noqa: E402
from sidebyside.models import write_tokenizer  # noqa: E402

Facts = dict[str, Any]
NAMES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
NAMES += ("intermediate_size", "vocab_size", "max_position_embeddings")
SHAPES = {  # Llama shapes, by about how many weights they have
    "tiny": dict(zip(NAMES, (64, 2, 4, 2, 96, 500, 1024), strict=True)),
    "1b": dict(zip(NAMES, (2048, 16, 32, 8, 8192, 128256, 8192), strict=True)),
    "3b": dict(zip(NAMES, (3072, 28, 24, 8, 8192, 128256, 8192), strict=True)),
    "8b": dict(zip(NAMES, (4096, 32, 32, 8, 14336, 128256, 8192), strict=True)),
}
LARGE = {  # shapes of well-known models that must load and train
    "gpt-neo-1.3b": ("gpt_neo", {}),
    "llama-2-7b": ("llama", dict(zip(NAMES, (4096, 32, 32, 32, 11008, 32000, 4096), strict=True))),
    "mistral-7b": ("mistral", dict(zip(NAMES, (4096, 32, 32, 8, 14336, 32000, 32768), strict=True))),
}
TINY_NEO = {"hidden_size": 64, "num_layers": 2, "num_heads": 4, "intermediate_size": 96, "vocab_size": 500}
TINY_NEO |= {"attention_types": [[["global", "local"], 1]], "max_position_embeddings": 1024}


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """What the user asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add("--cases", default="a-lora,a-none,b-lora,c,d", help="default: %(default)s")
    add("--shape", default="1b", choices=SHAPES, help="of the random Llama, default %(default)s")
    add("--large", default=",".join(LARGE), help="shapes that load and train, default: %(default)s")
    add("--laws", action=argparse.BooleanOptionalAction, default=True, help="run pytest -m gpu first")
    add("--rows", type=int, default=64, help="a step, default %(default)s")
    add("--answers", type=int, default=200, help="contexts of cases c and d, default %(default)s")
    add(
        "--micro-tokens", type=int, default=16384, help="distinct tokens of a micro-tree, default %(default)s"
    )
    add("--steps", type=int, default=5, help="timed, default %(default)s")
    add("--warmup", type=int, default=3, help="steps before them, which compile; default %(default)s")
    add("--models", type=Path, help="folder for the random models; default: a temporary one")
    add("--out", type=Path, default=Path("runs/gpu"), help="for the results, default %(default)s")
    add("--smoke", action="store_true", help="on the CPU, tiny, two steps")
    given = parser.parse_args(words)
    given.device = "cpu" if given.smoke else "cuda"
    if given.smoke:
        given.shape, given.laws, given.rows, given.answers = "tiny", False, 6, 4
        given.steps, given.warmup = 1, 1
    return given


def make_model(directory: Path, kind: str, shape: Facts, device: str) -> Path:
    """A random model in bfloat16 with a tokenizer of as many words, unless it is there; returns it."""
    if list(directory.glob("*.safetensors")):
        return directory
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(kind, **shape, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    write_tokenizer(directory, config.vocab_size)
    model.save_pretrained(directory)
    del model
    if device == "cuda":
        torch.cuda.empty_cache()
    return directory


def launch(spec: Facts, room: Path) -> Facts:
    """What a child found, or {"failed": why}."""
    path = room / "spec.json"
    path.write_text(json.dumps(spec), encoding="utf-8")
    command = [sys.executable, str(HERE / "peers" / "run_gpu.py"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:300]}
    found: Facts = json.loads(done.stdout.splitlines()[-1])
    return found


def missing(*modules: str) -> str | None:
    """The first of these that is not installed."""
    return next((name for name in modules if importlib.util.find_spec(name) is None), None)


def trainers(rows: int) -> Iterator[tuple[str, Facts, str | None]]:
    """Name, settings and what is missing of every system that trains: TRL padded, packed, with Liger."""
    yield "finetooth", {"system": "train_ours"}, None
    trl = missing("trl", "datasets")
    for liger in (False, True):
        lacks = trl or (missing("liger_kernel") if liger else None)
        for name, more in (
            ("trl, padded", {"micro": max(1, rows // 4)}),
            ("trl, packed", {"micro": 2, "packing": 4096}),
        ):
            spec = {"system": "train_trl", "liger": liger, **more}
            yield f"{name}{', liger' if liger else ''}", spec, lacks
    spec = {"system": "train_trl", "unsloth": True, "micro": max(1, rows // 4)}
    yield "unsloth", spec, trl or missing("unsloth")


def answerers(options: list[list[int]], answers: int) -> Iterator[tuple[str, Facts, str | None]]:
    """The same for systems that answer."""
    yield "finetooth", {"system": "answer_ours"}, None
    if options:
        batch = len(options)
        yield "every label, row by row", {"system": "answer_stock", "batch": batch}, None
        yield "with a cached context", {"system": "answer_stock", "batch": batch, "cached": True}, None
        return
    for batch in sorted({max(1, answers // 4), answers}):
        yield f"generate, batch {batch}", {"system": "answer_stock", "batch": batch}, None


def run_case(name: str, given: argparse.Namespace, model: Path, room: Path, rate: float) -> Facts:
    """All systems on one case, one after the other; prints a line for each."""
    shape, (letter, _, adapter) = SHAPES[given.shape], name.partition("-")
    vocabulary, options = shape["vocab_size"], []
    spec = {"model": str(model), "device": given.device, "steps": given.steps, "warmup": given.warmup}
    spec |= {"rows": str(room / "rows.json"), "rank": 16, "alpha": 32, "rate": 1e-4, "max_tokens": 16}
    if letter in "ab":
        make = made.instruction_rows if letter == "a" else made.classification_rows
        rows = make(given.rows, vocabulary)
        handed = [row.as_json() for row in rows]
        work = Work.of(rows)
        floor = step_gflop(work, shape, adapter, 16) / rate
        systems = trainers(given.rows)
        spec |= {"adapter": adapter, "micro_tokens": given.micro_tokens}
    else:
        handed = [{"tokens": row} for row in made.prompted_contexts(given.answers, vocabulary, seed=3)]
        if letter == "d":
            options = [[*label, made.STOP] for label in made.label_set(150, vocabulary)]
        systems = answerers(options, given.answers)
    (room / "rows.json").write_text(json.dumps(handed), encoding="utf-8")
    result: Facts = {}
    for system, more, lacks in systems:
        found = {"failed": f"{lacks} is not installed"} if lacks else launch(
            spec | {"options": options} | more, room
        )  # fmt: skip
        if "seconds" in found:
            seconds = statistics.median(found["seconds"])
            if letter in "ab":
                found |= {"row_tokens_per_second": work.row_tokens / seconds, "share": floor / seconds}
            else:
                found["seconds_each"] = seconds / found["count"]
        result[system] = found
        print(f"{name:8} {system:28} {told(found)}", flush=True)
    return result


def told(found: Facts) -> str:
    """A system's result in one line."""
    if "failed" in found:
        return found["failed"]
    low, high = min(found["seconds"]), max(found["seconds"])
    line = f"{statistics.median(found['seconds']):9.4f} s ({low:.4f}-{high:.4f})"
    line += f", {found['peak'] / 2**30:.1f} GiB"
    if "share" in found:
        line += (
            f", {found['row_tokens_per_second']:,.0f} row tokens/s, {found['share']:.0%} of the card's rate"
        )
    if "seconds_each" in found:
        line += f", {1000 * found['seconds_each']:.2f} ms each"
    return line + (f", loss {found['losses'][0]:.4f}" if found.get("losses") else "")


def run_large(name: str, given: argparse.Namespace, models: Path, room: Path) -> Facts:
    """A shape loads and takes a few LoRA steps; prints what was decided at load."""
    kind, shape = LARGE[name]
    if given.smoke:
        shape = TINY_NEO if kind == "gpt_neo" else SHAPES["tiny"]
    vocabulary = shape.get("vocab_size", 50257)
    model = make_model(models / name, kind, shape, given.device)
    rows = made.instruction_rows(min(16, given.rows), vocabulary)
    (room / "rows.json").write_text(json.dumps([row.as_json() for row in rows]), encoding="utf-8")
    spec = {
        "system": "train_ours",
        "model": str(model),
        "device": given.device,
        "rows": str(room / "rows.json"),
    }
    spec |= {"adapter": "lora", "rank": 16, "rate": 1e-4, "micro_tokens": 4096, "steps": 2, "warmup": 1}
    found = launch(spec, room)
    print(f"{name:8} {told(found)}; {'; '.join(found.get('notes', []))}", flush=True)
    return found


def main(words: list[str] | None = None) -> None:
    """Laws, probe, cases, large shapes; results are written after each."""
    given = arguments(words)
    given.out.mkdir(parents=True, exist_ok=True)
    results: Facts = {}
    if given.laws:
        command = [sys.executable, "-m", "pytest", "-m", "gpu", "tests/laws"]
        results["laws"] = subprocess.run(command, cwd=HERE.parent, check=False).returncode
    with tempfile.TemporaryDirectory() as folder:
        room, models = Path(folder), given.models or Path(folder)
        found = launch({"system": "probe", "device": given.device, "steps": 5, "warmup": 2}, room)
        if "failed" in found:
            sys.exit(f"No measurement is possible on {given.device}: {found['failed']}")
        rate = found["gflop"] / statistics.median(found["seconds"])
        print(f"{found['device']}: matrix products at {rate / 1000:,.1f} TFLOP/s", flush=True)
        results |= {"device": found["device"], "gflop_per_second": rate, "cases": {}, "large": {}}
        cases = [name for name in given.cases.split(",") if name]
        if cases:
            model = make_model(models / given.shape, "llama", SHAPES[given.shape], given.device)
        for name in cases:
            results["cases"][name] = run_case(name, given, model, room, rate)
            (given.out / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        for name in [name for name in given.large.split(",") if name]:
            results["large"][name] = run_large(name, given, models, room)
            (given.out / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
