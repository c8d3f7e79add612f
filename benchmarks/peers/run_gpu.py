"""One system on one case, on a GPU or (to try the program) on the CPU: prints one line of JSON.

`python run_gpu.py SPEC.json` is started by gpu.py, each system in a process of its own, so that its peak
memory is its own. What a system needs and is not installed ends the process with the name of it.
"""

from __future__ import annotations

import importlib.util
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[2] / "src")]

from protocol import Facts, labels, read_rows  # noqa: E402

SIZE = {"cuda": 8192, "cpu": 256}  # of the probe's matrices


class Clock:
    """The times of steps, taken when the device has done all that was queued."""

    def __init__(self, spec: Facts) -> None:
        self.cuda, self.warmup = spec["device"] == "cuda", spec["warmup"]
        self.total = spec["warmup"] + spec["steps"]
        self._marks: list[float] = []

    def mark(self) -> None:
        """A step has ended, or the first begins; peak memory counts from there."""
        import torch

        if self.cuda:
            torch.cuda.synchronize()
            if not self._marks:
                torch.cuda.reset_peak_memory_stats()
        self._marks.append(time.perf_counter())

    def measure(self, turn: Callable[[], Facts]) -> Facts:
        """Call `turn` as often as the spec says; what the first call found."""
        self.mark()
        found = []
        for _ in range(self.total):
            found.append(turn())
            self.mark()
        return found[0]

    def facts(self) -> Facts:
        """Seconds of each step after the warm-up, and peak memory in bytes: of the GPU, if there is one."""
        import torch

        steps = [after - before for before, after in zip(self._marks, self._marks[1:], strict=False)]
        unit = 1 if sys.platform == "darwin" else 1024
        host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        peak = torch.cuda.max_memory_allocated() if self.cuda else host
        return {"seconds": steps[self.warmup :], "first_seconds": steps[0], "peak": peak}


def probe(spec: Facts, clock: Clock) -> Facts:
    """The rate of square matrix products: bfloat16 on a GPU, float32 on the CPU."""
    import torch

    size = SIZE[spec["device"]]
    dtype = torch.bfloat16 if clock.cuda else torch.float32
    left, right = (torch.randn(size, size, device=spec["device"], dtype=dtype) for _ in range(2))

    def turn() -> Facts:
        for _ in range(10):
            torch.mm(left, right)
        return {"gflop": 10 * 2 * size**3 / 1e9, "device": describe(spec["device"])}

    return clock.measure(turn)


def describe(device: str) -> str:
    """The name and memory of the card."""
    import torch

    if device != "cuda":
        return "CPU (to try the program; its numbers mean nothing)"
    card = torch.cuda.get_device_properties(0)
    return f"{card.name}, {card.total_memory / 2**30:.0f} GiB, torch {torch.__version__}"


def ours(spec: Facts) -> Any:
    """The model as a run of finetooth loads it; every weight is float32 where every weight is trained."""
    import finetooth as ft

    return ft.Model.load(spec["model"], device=spec["device"], master_weights=spec.get("adapter") == "none")


def train_ours(spec: Facts, clock: Clock) -> Facts:
    """finetooth: a turn is one optimizer step over all rows."""
    import finetooth as ft
    from finetooth.config.task import TrainConfig
    from finetooth.training import optimizer
    from finetooth.training.objectives import supervised
    from finetooth.training.step import train_step

    rows = [ft.Row(row["tokens"], row["scored"], id=str(at)) for at, row in enumerate(read_rows(spec))]
    model = ours(spec)
    if spec["adapter"] == "lora":
        model.add_lora(spec["rank"], seed=0)
    config = TrainConfig(adapter=spec["adapter"], rank=spec["rank"], learning_rate=spec["rate"])
    adamw = optimizer.build(model.train(), config)
    for group in adamw.param_groups:
        group["lr"] = spec["rate"]
    losses: list[float] = []

    def turn() -> Facts:
        budget, norm = spec["micro_tokens"], config.max_grad_norm
        done = train_step(model, supervised, rows, adamw, budget=budget, max_norm=norm)
        losses.append(done.loss)
        return {"computed_tokens": done.computed_tokens, "losses": losses, "notes": model.notes}

    return clock.measure(turn)


def train_trl(spec: Facts, clock: Clock) -> Facts:
    """TRL's SFTTrainer, padded or packed, with Liger's kernels or without; or the same on Unsloth's model."""
    if spec.get("unsloth"):
        import unsloth  # noqa: F401  # first: it changes what the others import
    import torch
    from datasets import Dataset
    from run_trainer import lora, settings
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer
    from trl.data_utils import pack_dataset

    rows, packing, losses = read_rows(spec), spec.get("packing"), []
    data = Dataset.from_dict(
        {"input_ids": [row["tokens"] for row in rows], "labels": [labels(row) for row in rows]}
    )
    count = len(pack_dataset(data, packing, "bfd")) if packing else len(data)

    class Grades(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            clock.mark()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.mark()

        def on_log(self, args: Any, state: Any, control: Any, logs: Facts, **_: Any) -> None:
            losses.extend([float(logs["loss"])] if "loss" in logs else [])

    with tempfile.TemporaryDirectory() as folder:
        asked = settings(spec, folder, count)
        asked |= {"bf16": clock.cuda, "max_steps": clock.total, "use_liger_kernel": spec.get("liger", False)}
        model, tokenizer = peers_model(spec, torch.bfloat16 if spec["adapter"] == "lora" else torch.float32)
        SFTTrainer(
            model,
            SFTConfig(**asked, packing=bool(packing), max_length=packing),
            train_dataset=data,
            processing_class=tokenizer,
            peft_config=lora(spec) if spec["adapter"] == "lora" and not spec.get("unsloth") else None,
            callbacks=[Grades()],
        ).train()
    return {"losses": losses}


def peers_model(spec: Facts, dtype: Any) -> tuple[Any, Any]:
    """Model and tokenizer of a peer: stock with flash attention where that is installed, or Unsloth's."""
    if spec.get("unsloth"):
        from unsloth import FastLanguageModel

        full = spec["adapter"] == "none"
        model, tokenizer = FastLanguageModel.from_pretrained(
            spec["model"], max_seq_length=2048, dtype=dtype, load_in_4bit=False, full_finetuning=full
        )
        if full:
            return model, tokenizer
        parts = [f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")]
        adapted = FastLanguageModel.get_peft_model(
            model,
            r=spec["rank"],
            lora_alpha=spec["alpha"],
            lora_dropout=0,
            bias="none",
            target_modules=parts,
            use_gradient_checkpointing=False,
        )
        return adapted, tokenizer
    from transformers import AutoModelForCausalLM, AutoTokenizer

    flash = spec["device"] == "cuda" and importlib.util.find_spec("flash_attn") is not None
    model = AutoModelForCausalLM.from_pretrained(
        spec["model"], dtype=dtype, attn_implementation="flash_attention_2" if flash else "sdpa"
    )
    return model, AutoTokenizer.from_pretrained(spec["model"])


def answer_ours(spec: Facts, clock: Clock) -> Facts:
    """finetooth: a turn answers all contexts, or takes the best of the options behind each."""
    import finetooth as ft

    model = ours(spec)
    rows = [ft.Row(row["tokens"], [0.0] * len(row["tokens"])) for row in read_rows(spec)]
    sampling = ft.Sampling(temperature=0.0, max_tokens=spec["max_tokens"])

    def turn() -> Facts:
        done = model.choose(rows, spec["options"]) if spec["options"] else model.generate(rows, sampling)
        return {"count": len(list(done)), "notes": model.notes}

    return clock.measure(turn)


def answer_stock(spec: Facts, clock: Clock) -> Facts:
    """Stock transformers: padded batches of `generate`, or every option of one context a turn."""
    import torch
    from run_stock import generating, scoring

    model, _ = peers_model(spec, torch.bfloat16 if clock.cuda else torch.float32)
    if clock.cuda:
        model = model.to("cuda")
        torch.set_default_device("cuda")  # where the two functions below make their tensors
    turn = (scoring if spec["options"] else generating)(spec, model.eval())
    message = {"batch": spec["batch"], "row": 0}

    def one() -> Facts:
        turn(message)
        return {"count": 1 if spec["options"] else len(read_rows(spec))}

    return clock.measure(one)


SYSTEMS = {
    "probe": probe,
    "train_ours": train_ours,
    "train_trl": train_trl,
    "answer_ours": answer_ours,
    "answer_stock": answer_stock,
}


def measure(spec: Facts) -> Facts:
    """What the system found, with its times and its peak memory."""
    clock = Clock(spec)
    found = SYSTEMS[spec["system"]](spec, clock)
    return found | clock.facts()


if __name__ == "__main__":
    result = measure(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    print(json.dumps(result))
