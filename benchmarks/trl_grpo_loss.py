"""TRL's GRPO loss and its gradient on made-up log-probabilities: tests/training/rl/golden_policy.json.

Run it where trl is installed (it takes nothing of finetooth): python benchmarks/trl_grpo_loss.py [OUT]. The
trainer's own `_compute_loss` is called; log-probabilities are handed to it in place of a model's.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import trl
from trl import GRPOTrainer

LONGEST = 9
SIZES = (3, 9, 1, 5, 7, 2)  # tokens of the answers
CASES = [(kind, beta) for kind in ("grpo", "dapo", "dr_grpo") for beta in (0.0, 0.04)]


def made_up() -> dict[str, torch.Tensor]:
    """Log-probabilities [R, T] of three models that are near each other, a mask, and an advantage a row."""
    generator = torch.Generator().manual_seed(11)
    shape = (len(SIZES), LONGEST)
    old = -3 * torch.rand(shape, generator=generator, dtype=torch.float64)
    found = {
        "logp": old + 0.3 * torch.randn(shape, generator=generator, dtype=torch.float64),
        "old": old,
        "reference": old + 0.2 * torch.randn(shape, generator=generator, dtype=torch.float64),
        "mask": torch.arange(LONGEST)[None] < torch.tensor(SIZES)[:, None],
    }
    return found | {"advantage": torch.randn(len(SIZES), generator=generator, dtype=torch.float64)}


def loss(kind: str, beta: float, given: dict[str, torch.Tensor], logp: torch.Tensor) -> torch.Tensor:
    """What the trainer would take the gradient of."""
    mask = given["mask"].long()
    trainer = SimpleNamespace(
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level="token",
        beta=beta,
        args=SimpleNamespace(use_bias_correction_kl=False, delta=None, steps_per_generation=1),
        epsilon_low=0.2,
        epsilon_high=0.28,
        loss_type=kind,
        use_vllm=False,
        vllm_importance_sampling_correction=False,
        model=SimpleNamespace(training=True),
        current_gradient_accumulation_steps=1,
        max_completion_length=LONGEST,
        _entropy_bonus_enabled=False,
        _metrics={"train": defaultdict(list)},
        accelerator=SimpleNamespace(
            num_processes=1, gather=lambda value: value, reduce=lambda value, reduction: value
        ),
        _get_per_token_logps_and_entropies=lambda *args, **kwargs: (logp, torch.zeros_like(logp), None),
    )
    inputs: dict[str, Any] = {
        "prompt_ids": torch.zeros(len(SIZES), 1, dtype=torch.long),
        "prompt_mask": torch.ones(len(SIZES), 1, dtype=torch.long),
        "completion_ids": torch.zeros_like(mask),
        "completion_mask": mask,
        "advantages": given["advantage"],
        "old_per_token_logps": given["old"],
        "ref_per_token_logps": given["reference"],
        "num_items_in_batch": mask.sum(),
    }
    found: torch.Tensor = GRPOTrainer._compute_loss(trainer, None, inputs)
    return found


def main(out: Path) -> None:
    """Write the numbers that went in and what came out."""
    given = made_up()
    cases = []
    for kind, beta in CASES:
        logp = given["logp"].clone().requires_grad_()
        value = loss(kind, beta, given, logp)
        value.backward()
        assert logp.grad is not None
        grad = [row[:size] for row, size in zip(logp.grad.tolist(), SIZES, strict=True)]
        cases.append({"loss_type": kind, "beta": beta, "loss": value.item(), "gradient": grad})
    rows = {
        name: [row[:size] for row, size in zip(given[name].tolist(), SIZES, strict=True)]
        for name in ("logp", "old", "reference")
    }
    known = {"made_by": f"trl {trl.__version__}", "longest": LONGEST, "clip": [0.2, 0.28], **rows}
    known["advantage"] = given["advantage"].tolist()
    lines = [f" {json.dumps(name)}: {json.dumps(value)},\n" for name, value in known.items()]
    listed = ",\n".join(f"  {json.dumps(case)}" for case in cases)
    out.write_text("".join(["{\n", *lines, ' "cases": [\n', listed, "\n ]\n}\n"]), encoding="utf-8")


if __name__ == "__main__":
    here = Path(__file__).resolve().parents[1] / "tests" / "training" / "golden_policy.json"
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else here)
