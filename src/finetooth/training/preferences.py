"""What preference tuning minimises: pure functions from a chosen and a rejected answer to one loss a pair.

As every objective they return one value per unit and never sum or average over units. The two rows of a pair
are one unit, so that they stand in one tree, where they share their prompt. Rows carry the signals `chosen`
(1, of the rejected answer 0) and, where the method needs it, `reference_logp`: the log-probability of each
token by the model that the run started from (training/reference.py).

Axes: M scored tokens of all rows, R rows, U pairs. A reward is what the loss takes an answer to be worth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from finetooth.config.method_keys import BETA, DEFAULT_BETA, PREFERENCE_METHODS, RL_METHOD_KEYS
from finetooth.config.task import TrainConfig
from finetooth.errors import ConfigError
from finetooth.evaluation.preference import IMPLICIT_REWARDS
from finetooth.model.api import Model
from finetooth.model.inference import row_logprobs
from finetooth.training.objectives import Loss, Objective, Signals
from finetooth.tree import PrefixTree, Row

Worth = Callable[[Signals], Tensor]  # -> worth_R, float64
NEAR_ONE = -1e-9  # nats a token; the odds of a certain answer are infinite


def _sum(signals: Signals, value_M: Tensor) -> Tensor:
    """The sum over each row's scored tokens, float64."""
    zero_R = torch.zeros_like(signals.by_name["chosen"])
    return zero_R.index_add(0, signals.row_M, value_M.double())


def _length(signals: Signals) -> Tensor:
    return _sum(signals, torch.ones_like(signals.logp_M))


def _implicit(signals: Signals, reference: bool, mean: bool) -> Tensor:
    """log p(answer), less that of the reference, summed or averaged over the answer's tokens."""
    logp_M = signals.logp_M.double()
    worth_R = _sum(signals, logp_M - signals.by_name["reference_logp"] if reference else logp_M)
    return worth_R / _length(signals) if mean else worth_R


def _pair(signals: Signals, value_R: Tensor) -> tuple[Tensor, Tensor]:
    """The value of the chosen and of the rejected row of each pair."""
    chosen_R = signals.by_name["chosen"]
    zero_U = value_R.new_zeros(signals.units)
    return (
        zero_U.index_add(0, signals.unit_R, value_R * chosen_R),
        zero_U.index_add(0, signals.unit_R, value_R * (1 - chosen_R)),
    )


def _weight(signals: Signals) -> Tensor:
    """The loss weight of each row, which all its tokens have."""
    return _sum(signals, signals.weight_M) / _length(signals)


def _said(signals: Signals, chosen_U: Tensor, rejected_U: Tensor) -> dict[str, Tensor]:
    """What is logged of pairs: rewards, their margin, and how often the chosen one is higher; ties are half.

    chosen_logp, rejected_logp: nats a token; *_drift: how far they are from the reference's.
    """
    chosen_U, rejected_U = chosen_U.detach(), rejected_U.detach()
    found = {
        "accuracy": (1 + torch.sign(chosen_U - rejected_U)) / 2,
        "margin": chosen_U - rejected_U,
        "chosen_reward": chosen_U,
        "rejected_reward": rejected_U,
    }
    if "score" in signals.by_name:
        return found
    for name, reference in (("logp", False), ("drift", True)):
        if not reference or "reference_logp" in signals.by_name:
            pair = _pair(signals, _implicit(signals, reference, mean=True).detach())
            found |= {f"chosen_{name}": pair[0], f"rejected_{name}": pair[1]}
    return found


def logistic(
    signals: Signals, worth: Worth, beta: float, gamma: float = 0.0, label_smoothing: float = 0.0
) -> Loss:
    """-log sigmoid(beta * (worth of chosen - of rejected) - gamma), of label_smoothing pairs the other way.

    DPO: Rafailov et al. 2023, arXiv 2305.18290, equation 7; conservative DPO, with label_smoothing: Mitchell
    2023, "A note on DPO with noisy preferences", equation 3. SimPO: Meng et al. 2024, arXiv 2405.14734,
    equation 6. Reward model: Bradley and Terry 1952; Ouyang et al. 2022, arXiv 2203.02155, equation 1.
    """
    chosen_U, rejected_U = _pair(signals, beta * worth(signals))
    by_U = chosen_U - rejected_U - gamma
    loss_U = -(1 - label_smoothing) * logsigmoid(by_U) - label_smoothing * logsigmoid(-by_U)
    return _pair(signals, _weight(signals))[0] * loss_U, _said(signals, chosen_U, rejected_U)


def squared(signals: Signals, worth: Worth, beta: float) -> Loss:
    """(difference in worth - 1 / (2 beta))^2. IPO: Azar et al. 2023, arXiv 2310.12036, equation 17.

    As its authors have it, worth is per token, so that long answers do not have larger losses.
    """
    chosen_U, rejected_U = _pair(signals, worth(signals))
    loss_U = (chosen_U - rejected_U - 1 / (2 * beta)) ** 2
    said = _said(signals, beta * chosen_U, beta * rejected_U)
    return _pair(signals, _weight(signals))[0] * loss_U, said


def odds_ratio(signals: Signals, worth: Worth, beta: float) -> Loss:
    """Negative log-likelihood of the chosen answer, per token, and beta times the log-sigmoid of log odds.

    ORPO: Hong et al. 2024, arXiv 2403.07691, equations 4, 6 and 7; beta is the paper's lambda, and a
    sequence's probability the geometric mean of its tokens'.
    """
    chosen_U, rejected_U = _pair(signals, worth(signals).clamp(max=NEAR_ONE))
    odds_U = chosen_U - rejected_U - _log1mexp(chosen_U) + _log1mexp(rejected_U)
    loss_U = -chosen_U - beta * logsigmoid(odds_U)
    said = _said(signals, beta * chosen_U, beta * rejected_U)
    return _pair(signals, _weight(signals))[0] * loss_U, said


def _log1mexp(logp: Tensor) -> Tensor:
    """log(1 - exp(logp)) for logp < 0, exact at both ends."""
    small = logp > -0.6931
    near = torch.log(-torch.expm1(torch.where(small, logp, -1.0)))
    return torch.where(small, near, torch.log1p(-torch.exp(torch.where(small, -1.0, logp))))


def prospect(
    signals: Signals, worth: Worth, beta: float, desirable_weight: float, undesirable_weight: float
) -> Loss:
    """weight * (1 - sigmoid(+-beta * (worth - kl))), + for desirable answers; one loss a row.

    KTO: Ethayarajh et al. 2024, arXiv 2402.01306, equation 8. The signal kl is that of the whole step, see
    `with_kl`. accuracy: on which side of it the row is; margin: by how much, times beta.
    """
    chosen_R, kl_R = signals.by_name["chosen"], signals.by_name["kl"]
    by_R = beta * (2 * chosen_R - 1) * (worth(signals) - kl_R)
    weight_R = chosen_R * desirable_weight + (1 - chosen_R) * undesirable_weight
    said = {"accuracy": (1 + torch.sign(by_R)) / 2, "margin": by_R, "kl": kl_R}
    said = {name: value_R.detach() for name, value_R in said.items()}
    return _weight(signals) * weight_R * torch.sigmoid(-by_R), said


def with_kl(model: Model, rows: Sequence[Row], budget: int) -> list[Row]:
    """The rows of a step, with the signal kl, and without those that only serve to measure it.

    Those are marked `mismatched`: contexts with the answer to another one. kl: the mean over them of what
    the model has added to their log-probability since it started, nats a row, at least 0; 0 without any.
    """
    others = [row for row in rows if row.signals["mismatched"]]
    added = [
        logp_M.sum() - row.signals["reference_logp"][row.weight > 0].sum()
        for row, logp_M in zip(others, row_logprobs(model, others, budget), strict=True)
    ]
    kl = max(0.0, float(sum(added)) / len(added)) if added else 0.0
    kept = (row for row in rows if not row.signals["mismatched"])
    return [with_signals(row, {"kl": kl}) for row in kept]


def with_signals(row: Row, signals: Mapping[str, object]) -> Row:
    """The row with further signals, or other values of those it has."""
    return replace(row, signals={**row.signals, **signals})


def _read_scores(model: Model, tree: PrefixTree) -> Signals:
    """The signal `score` of each row; log-probabilities are not computed, and are 0."""
    signals = Signals.of(tree, torch.zeros(tree.node_M.size, device=model.device))
    return replace(signals, by_name={**signals.by_name, "score": model.scores(tree).double()})


def _score(signals: Signals) -> Tensor:
    return signals.by_name["score"]


def require_used(config: TrainConfig) -> None:
    """Raises ConfigError for a key that is set, and that the method does not read."""
    read = {**PREFERENCE_METHODS, **RL_METHOD_KEYS}
    known = {key for keys in read.values() for key in keys}
    for key in sorted(known - set(read.get(config.method, ()))):
        if getattr(config, key) != TrainConfig.model_fields[key].default:
            users = ", ".join(method for method, keys in read.items() if key in keys)
            raise ConfigError(
                f"train.{key} is set, but train.method {config.method} does not read it. It belongs to "
                f"{users}: choose one of these, or take the key out."
            )


def objective(config: TrainConfig) -> Objective:
    """The objective of `train.method`, with its keys. config: without any auto."""
    method = config.method
    if method == "reward_model":
        return Objective("unit", partial(logistic, worth=_score, beta=1.0), _read_scores)
    reference, mean = IMPLICIT_REWARDS[method]
    worth = partial(_implicit, reference=reference, mean=mean)
    keys = {key: getattr(config, key) for key in PREFERENCE_METHODS[method]} | {"beta": beta(config)}
    formulas: Mapping[str, Callable[..., Loss]] = {"ipo": squared, "orpo": odds_ratio, "kto": prospect}
    loss = partial(formulas.get(method, logistic), worth=worth, **keys)
    return Objective("row", loss, prepare=with_kl) if method == "kto" else Objective("unit", loss)


def needs_reference(method: str) -> bool:
    """Whether the log-probabilities by the run's starting point are part of the method's loss."""
    return method in IMPLICIT_REWARDS and IMPLICIT_REWARDS[method].reference


def start_loss(config: TrainConfig) -> float | None:
    """The loss of any pair before the first step, when the model is the reference; None where rows decide.

    dpo, dpo_norm: log 2 whatever label_smoothing is. ipo: 1 / (4 beta^2).
    """
    if config.method in ("dpo", "dpo_norm"):
        return float(torch.log(torch.tensor(2.0, dtype=torch.float64)))
    return 1 / (4 * beta(config) ** 2) if config.method == "ipo" else None


def beta(config: TrainConfig) -> float:
    """train.beta, or what its method usually has."""
    return BETA.get(config.method, DEFAULT_BETA) if config.beta is None else config.beta
