"""Preference losses beside TRL's, on the same log-probabilities.

    pip install trl==1.16.0
    python benchmarks/trl_losses.py [--golden tests/training/golden_preferences.json]

Numbers drawn by a seed take the place of a model, so that only the formulas are compared: the loss, and its
gradient by the log-probability of every token. TRL's functions are called as its trainers call them.
--golden writes TRL's numbers down for the test that runs without it.

Axes: R rows, chosen and rejected in turn; T tokens of the longest answer.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from finetooth.config.task import TrainConfig
from finetooth.training import preferences
from finetooth.training.objectives import Signals

PAIRS, LONGEST = 6, 9
KEYS: dict[str, dict[str, float]] = {
    "dpo": {"beta": 0.1},
    "dpo_norm": {"beta": 2.0},
    "ipo": {"beta": 0.1},
    "simpo": {"beta": 2.0, "gamma": 1.0},
    "orpo": {"beta": 0.1},
    "kto": {"beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.5},
    "reward_model": {},
}


def numbers(seed: int = 0) -> dict[str, list[Any]]:
    """Answer lengths, log-probabilities by the model and by the reference, of mismatched rows too, scores."""
    draw = np.random.default_rng(seed)
    lengths = draw.integers(2, LONGEST + 1, 2 * PAIRS).tolist()
    rows = {
        name: [(-draw.gamma(1.0, 1.5, n)).round(4).tolist() for n in lengths]
        for name in ("policy", "reference")
    }
    scores = draw.normal(0, 2, 2 * PAIRS).round(4).tolist()
    return {"lengths": lengths, **rows, "kl": draw.normal(1.0, 1.0, 4).round(4).tolist(), "scores": scores}


def ours(method: str, keys: Mapping[str, float], given: Mapping[str, list[Any]]) -> tuple[float, list[float]]:
    """The mean loss, and its gradient by every token's log-probability (of a reward model: by scores)."""
    logp_M = torch.tensor(
        [v for row in given["policy"] for v in row], dtype=torch.float64, requires_grad=True
    )
    score_R = torch.tensor(given["scores"], dtype=torch.float64, requires_grad=True)
    rows = len(given["lengths"])
    kl = max(0.0, float(np.mean(given["kl"])))
    signals = Signals(
        logp_M=logp_M,
        weight_M=torch.ones(logp_M.numel()),
        row_M=torch.repeat_interleave(torch.arange(rows), torch.tensor(given["lengths"])),
        by_name={
            "chosen": torch.tensor([1.0, 0.0] * (rows // 2), dtype=torch.float64),
            "reference_logp": torch.tensor(
                [v for row in given["reference"] for v in row], dtype=torch.float64
            ),
            "kl": torch.full((rows,), kl, dtype=torch.float64),
            **({"score": score_R} if method == "reward_model" else {}),
        },
        unit_R=torch.arange(rows) // 2,
        units=rows // 2,
    )
    objective = preferences.objective(TrainConfig.model_validate({"method": method, **keys}))
    loss = objective.loss(signals)[0].mean()
    by = score_R if method == "reward_model" else logp_M
    return float(loss.detach()), torch.autograd.grad(loss, by)[0].tolist()


class _Alone:
    """What a trainer asks of accelerate where there is one process."""

    device = torch.device("cpu")

    def gather(self, value: Tensor) -> Tensor:
        return value

    gather_for_metrics = gather


def _padded(rows: list[list[float]]) -> Tensor:
    """Chosen rows, then rejected ones, as TRL has them, padded with 0."""
    ordered = rows[0::2] + rows[1::2]
    return torch.tensor([row + [0.0] * (LONGEST - len(row)) for row in ordered], dtype=torch.float64)


def theirs(
    method: str, keys: Mapping[str, float], given: Mapping[str, list[Any]]
) -> tuple[float, list[float]]:
    """The same by TRL; the gradient in the order of `ours`."""
    policy, reference = _padded(given["policy"]).requires_grad_(), _padded(given["reference"])
    lengths = torch.tensor(given["lengths"][0::2] + given["lengths"][1::2])
    mask = (torch.arange(LONGEST) < lengths[:, None]).long()
    score = torch.tensor(
        given["scores"][0::2] + given["scores"][1::2], dtype=torch.float64, requires_grad=True
    )
    loss = _loss(method, keys, given, policy, reference, mask, score)
    by = score[:, None] if method == "reward_model" else policy
    grad = torch.autograd.grad(loss, score if method == "reward_model" else policy)[0].reshape(by.shape)
    count = torch.ones(2 * PAIRS, dtype=torch.long) if method == "reward_model" else lengths
    flat = [
        grad[(row % 2) * PAIRS + row // 2][: count[(row % 2) * PAIRS + row // 2]] for row in range(2 * PAIRS)
    ]
    return float(loss.detach()), torch.cat(flat).tolist()


def _loss(
    method: str,
    keys: Mapping[str, float],
    given: Mapping[str, list[Any]],
    policy: Tensor,
    reference: Tensor,
    mask: Tensor,
    score: Tensor,
) -> Tensor:
    from trl import DPOTrainer, KTOTrainer, RewardTrainer
    from trl.experimental.cpo import CPOTrainer
    from trl.experimental.orpo import ORPOTrainer

    zeros = torch.zeros(2 * PAIRS, LONGEST)
    outputs = SimpleNamespace(log_probs=policy, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool())
    outputs.logits = score[:, None]
    full = torch.cat([torch.zeros(2 * PAIRS, 1, dtype=torch.long), mask], dim=1)
    inputs: dict[str, Any] = {"input_ids": full, "attention_mask": full, "completion_mask": full}
    trainer = _trainer(keys)

    def model(**_: Any) -> Any:
        return outputs

    sums, counts = policy.sum(1), mask.sum(1)
    if method in ("dpo", "dpo_norm", "ipo"):
        trainer.loss_types = [{"dpo": "sigmoid", "dpo_norm": "sigmoid_norm"}.get(method, method)]
        before = reference.sum(1).chunk(2)
        inputs |= {"ref_chosen_logps": before[0], "ref_rejected_logps": before[1]}
        return DPOTrainer._compute_loss(trainer, model, inputs, False)
    if method == "kto":
        trainer.loss_type = "kto"
        trainer._compute_kl_logps = lambda model, batch: torch.tensor(given["kl"], dtype=torch.float64)
        label = torch.tensor([True] * PAIRS + [False] * PAIRS)
        inputs |= {
            "label": label,
            "ref_logps": reference.sum(1),
            "ref_KL_logps": torch.zeros(len(given["kl"])),
        }
        return KTOTrainer._compute_loss(trainer, model, inputs, False)
    if method == "reward_model":
        return RewardTrainer.compute_loss(trainer, model, inputs)
    means = (sums / counts).chunk(2)
    if method == "simpo":
        trainer.loss_type, trainer.simpo_gamma = "simpo", keys["gamma"]
        return CPOTrainer.cpo_loss(trainer, *means)[0].mean()
    ratios = ORPOTrainer.odds_ratio_loss(trainer, *means)[0]
    return (-means[0] - ratios).mean()  # its trainer adds the likelihood of the whole chosen text


def _trainer(keys: Mapping[str, float]) -> Any:
    """What TRL's losses ask of their trainer."""
    return SimpleNamespace(
        model=SimpleNamespace(training=True),
        accelerator=_Alone(),
        _metrics={"train": _Lists()},
        _total_train_tokens=0,
        _tp_size=1,
        aux_loss_enabled=False,
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        use_weighting=False,
        loss_weights=[1.0],
        calculate_KL=True,
        alpha=0.0,
        args=SimpleNamespace(center_rewards_coefficient=None),
        **{"label_smoothing": 0.0, **keys},
    )


class _Lists(dict[str, list[float]]):
    """Metrics as a trainer keeps them."""

    def __missing__(self, key: str) -> list[float]:
        return self.setdefault(key, [])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--golden", type=Path, help="write TRL's numbers to this file")
    options = parser.parse_args()
    given = numbers()
    golden: dict[str, Any] = {
        "made by": "benchmarks/trl_losses.py, trl 1.16.0",
        "given": given,
        "methods": {},
    }
    print(f"{'method':14} {'TRL':>12} {'finetooth':>12} {'difference':>12} {'of gradient':>12}")
    for method, keys in KEYS.items():
        want, own = theirs(method, keys, given), ours(method, keys, given)
        gap = float(np.abs(np.array(want[1]) - np.array(own[1])).max())
        print(f"{method:14} {want[0]:12.8f} {own[0]:12.8f} {abs(want[0] - own[0]):12.1e} {gap:12.1e}")
        golden["methods"][method] = {"keys": keys, "loss": want[0], "gradient": want[1]}
    if options.golden:
        options.golden.write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
