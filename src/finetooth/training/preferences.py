"""Objectives of preference tuning: pure functions from a chosen and a rejected answer to one loss per pair.

Like every objective they return one value per unit and never sum or average over units. The two rows of a
pair are one unit, so they are in one tree and share their prompt. Rows carry the signals `chosen` (1, for the
rejected answer 0) and, where the method needs it, `reference_logp`: the log-probability of each token under
the initial model of the run (training/reference.py).

Axes: M scored tokens of all rows, R rows, U pairs. The score of an answer is what the loss compares; beta
times the score is its (implicit) reward.
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

ScoreFunction = Callable[[Signals], Tensor]  # -> score_R, float64
NEAR_ONE = -1e-9  # nats per token; the odds of a certain answer would be infinite


def _sum(signals: Signals, value_M: Tensor) -> Tensor:
    """The sum over each row's scored tokens, float64."""
    zero_R = torch.zeros_like(signals.by_name["chosen"])
    return zero_R.index_add(0, signals.row_M, value_M.double())


def _length(signals: Signals) -> Tensor:
    return _sum(signals, torch.ones_like(signals.logp_M))


def _implicit(signals: Signals, reference: bool, mean: bool) -> Tensor:
    """log p(answer), optionally minus that of the reference, summed or averaged over the answer's tokens."""
    logp_M = signals.logp_M.double()
    score_R = _sum(signals, logp_M - signals.by_name["reference_logp"] if reference else logp_M)
    return score_R / _length(signals) if mean else score_R


def _pair(signals: Signals, value_R: Tensor) -> tuple[Tensor, Tensor]:
    """The values of the chosen and of the rejected row of each pair."""
    chosen_R = signals.by_name["chosen"]
    zero_U = value_R.new_zeros(signals.units)
    return (
        zero_U.index_add(0, signals.unit_R, value_R * chosen_R),
        zero_U.index_add(0, signals.unit_R, value_R * (1 - chosen_R)),
    )


def _weight(signals: Signals) -> Tensor:
    """The loss weight of each row, which is the same for all its tokens."""
    return _sum(signals, signals.weight_M) / _length(signals)


def _pair_metrics(signals: Signals, chosen_U: Tensor, rejected_U: Tensor) -> dict[str, Tensor]:
    """Metrics of pairs, given their rewards: rewards, margin, and accuracy (chosen above rejected; ties
    half).

    chosen_logp, rejected_logp: nats per token; *_drift: their difference from the reference's.
    """
    chosen_U, rejected_U = chosen_U.detach(), rejected_U.detach()
    metrics = {
        "accuracy": (1 + torch.sign(chosen_U - rejected_U)) / 2,
        "margin": chosen_U - rejected_U,
        "chosen_reward": chosen_U,
        "rejected_reward": rejected_U,
    }
    if "score" in signals.by_name:
        return metrics
    for name, reference in (("logp", False), ("drift", True)):
        if not reference or "reference_logp" in signals.by_name:
            pair = _pair(signals, _implicit(signals, reference, mean=True).detach())
            metrics |= {f"chosen_{name}": pair[0], f"rejected_{name}": pair[1]}
    return metrics


def logistic(
    signals: Signals, score: ScoreFunction, beta: float, gamma: float = 0.0, label_smoothing: float = 0.0
) -> Loss:
    """-log sigmoid(beta * (score of chosen - score of rejected) - gamma); label_smoothing: share of flipped
    labels.

    DPO: Rafailov et al. 2023, arXiv 2305.18290, equation 7; conservative DPO, with label_smoothing: Mitchell
    2023, "A note on DPO with noisy preferences", equation 3. SimPO: Meng et al. 2024, arXiv 2405.14734,
    equation 6. Reward model: Bradley and Terry 1952; Ouyang et al. 2022, arXiv 2203.02155, equation 1.
    """
    chosen_U, rejected_U = _pair(signals, beta * score(signals))
    margin_U = chosen_U - rejected_U - gamma
    loss_U = -(1 - label_smoothing) * logsigmoid(margin_U) - label_smoothing * logsigmoid(-margin_U)
    return _pair(signals, _weight(signals))[0] * loss_U, _pair_metrics(signals, chosen_U, rejected_U)


def squared(signals: Signals, score: ScoreFunction, beta: float) -> Loss:
    """(score difference - 1 / (2 beta))^2. IPO: Azar et al. 2023, arXiv 2310.12036, equation 17.

    As in the authors' code, scores are per token, so that long answers do not have larger losses.
    """
    chosen_U, rejected_U = _pair(signals, score(signals))
    loss_U = (chosen_U - rejected_U - 1 / (2 * beta)) ** 2
    metrics = _pair_metrics(signals, beta * chosen_U, beta * rejected_U)
    return _pair(signals, _weight(signals))[0] * loss_U, metrics


def odds_ratio(signals: Signals, score: ScoreFunction, beta: float) -> Loss:
    """Negative log-likelihood of the chosen answer per token, minus beta times the log-sigmoid of the log
    odds.

    ORPO: Hong et al. 2024, arXiv 2403.07691, equations 4, 6 and 7; beta is the paper's lambda, and the
    probability of a sequence is the geometric mean of its tokens' probabilities.
    """
    chosen_U, rejected_U = _pair(signals, score(signals).clamp(max=NEAR_ONE))
    odds_U = chosen_U - rejected_U - _log1mexp(chosen_U) + _log1mexp(rejected_U)
    loss_U = -chosen_U - beta * logsigmoid(odds_U)
    metrics = _pair_metrics(signals, beta * chosen_U, beta * rejected_U)
    return _pair(signals, _weight(signals))[0] * loss_U, metrics


def _log1mexp(logp: Tensor) -> Tensor:
    """log(1 - exp(logp)) for logp < 0, accurate near 0 and near minus infinity."""
    small = logp > -0.6931
    near = torch.log(-torch.expm1(torch.where(small, logp, -1.0)))
    return torch.where(small, near, torch.log1p(-torch.exp(torch.where(small, -1.0, logp))))


def prospect(
    signals: Signals, score: ScoreFunction, beta: float, desirable_weight: float, undesirable_weight: float
) -> Loss:
    """weight * (1 - sigmoid(+-beta * (score - kl))), + for desirable answers; one loss per row.

    KTO: Ethayarajh et al. 2024, arXiv 2402.01306, equation 8. The signal kl belongs to the whole step, see
    `with_kl`. accuracy: whether the score is on the right side of kl; margin: by how much, times beta.
    """
    chosen_R, kl_R = signals.by_name["chosen"], signals.by_name["kl"]
    margin_R = beta * (2 * chosen_R - 1) * (score(signals) - kl_R)
    weight_R = chosen_R * desirable_weight + (1 - chosen_R) * undesirable_weight
    metrics = {"accuracy": (1 + torch.sign(margin_R)) / 2, "margin": margin_R, "kl": kl_R}
    metrics = {name: value_R.detach() for name, value_R in metrics.items()}
    return _weight(signals) * weight_R * torch.sigmoid(-margin_R), metrics


def with_kl(model: Model, rows: Sequence[Row], budget: int) -> list[Row]:
    """Add the signal kl to the rows of a step, and drop the rows that only serve to estimate it.

    Those are marked `mismatched`: contexts with the answer to another context. kl: the mean increase of their
    log-probability over the initial model, nats per row, at least 0; 0 without such rows.
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
    """The row with these signals added or replaced."""
    return replace(row, signals={**row.signals, **signals})


def _read_scores(model: Model, tree: PrefixTree) -> Signals:
    """Signals with the reward model's `score` of each row; log-probabilities are not computed, and are 0."""
    signals = Signals.of(tree, torch.zeros(tree.node_M.size, device=model.device))
    return replace(signals, by_name={**signals.by_name, "score": model.scores(tree).double()})


def reject_unused_keys(config: TrainConfig) -> None:
    """Raises ConfigError for a key that is set although the method does not read it."""
    read = {**PREFERENCE_METHODS, **RL_METHOD_KEYS}
    known = {key for keys in read.values() for key in keys}
    for key in sorted(known - set(read.get(config.method, ()))):
        if getattr(config, key) != TrainConfig.model_fields[key].default:
            users = ", ".join(method for method, keys in read.items() if key in keys)
            raise ConfigError(
                f"train.{key} is set, but train.method {config.method} does not read it. It belongs to "
                f"{users}: choose one of these methods, or remove the key."
            )
    if config.interpolate != 1 and config.method == "reward_model":
        raise ConfigError(
            "train.interpolate is for models that answer; a reward model scores. Remove the key."
        )


def objective(config: TrainConfig) -> Objective:
    """The objective of `train.method` with its keys. config: without any auto."""
    method = config.method
    if method == "reward_model":
        return Objective(
            "unit", partial(logistic, score=lambda signals: signals.by_name["score"], beta=1.0), _read_scores
        )
    reference, mean = IMPLICIT_REWARDS[method]
    score = partial(_implicit, reference=reference, mean=mean)
    keys = {key: getattr(config, key) for key in PREFERENCE_METHODS[method]} | {"beta": beta(config)}
    formulas: Mapping[str, Callable[..., Loss]] = {"ipo": squared, "orpo": odds_ratio, "kto": prospect}
    loss = partial(formulas.get(method, logistic), score=score, **keys)
    return Objective("row", loss, prepare=with_kl) if method == "kto" else Objective("unit", loss)


def needs_reference(method: str) -> bool:
    """Whether the method's loss needs log-probabilities under the initial model."""
    return method in IMPLICIT_REWARDS and IMPLICIT_REWARDS[method].reference


def start_loss(config: TrainConfig) -> float | None:
    """The loss of any pair before the first step, when the model is its own reference; None if it varies by
    row.

    dpo, dpo_norm: log 2, whatever label_smoothing is. ipo: 1 / (4 beta^2).
    """
    if config.method in ("dpo", "dpo_norm"):
        return float(torch.log(torch.tensor(2.0, dtype=torch.float64)))
    return 1 / (4 * beta(config) ** 2) if config.method == "ipo" else None


def beta(config: TrainConfig) -> float:
    """train.beta, or the default of its method."""
    return BETA.get(config.method, DEFAULT_BETA) if config.beta is None else config.beta
