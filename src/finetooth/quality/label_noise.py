"""How likely each label is to be wrong, where some are wrong by chance and the rest follow the text."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
SHARPER = 1.25 ** np.arange(-3, 9)  # powers of the probabilities; out-of-fold ones are mostly too cautious
RATES = (
    0.002,
    0.005,
    0.01,
    0.015,
    0.02,
    0.03,
    0.04,
    0.05,
    0.06,
    0.08,
    0.1,
    0.12,
    0.15,
    0.2,
)  # of wrong labels
LEAST = 1e-7


def label_error_probability_R(proba_RL: Floats, given_R: npt.NDArray[np.int64]) -> Floats:
    """The probability that the label of each row is wrong, (R,).

    The label of a row is the right one, with the chance q, or, with the chance `rate`, any of the others
    alike: given = (1 - rate) q + rate (1 - q) / (L - 1), the mixture of Angluin and Laird (1988, Machine
    Learning 2:343). q is p to a power, so that its certainty is fitted and not believed; power and rate are
    the likeliest of SHARPER and RATES.
    """
    rows, labels = proba_RL.shape
    log_RL = np.log(np.maximum(proba_RL, LEAST))
    log_RL -= log_RL.max(axis=1, keepdims=True)
    best: tuple[float, Any] = (-np.inf, np.zeros(rows, np.float32))
    for power in SHARPER:
        scaled_RL = np.exp(log_RL * power)
        right_R = scaled_RL[np.arange(rows), given_R] / scaled_RL.sum(axis=1)
        for rate in RATES:
            wrong = rate * (1 - right_R) / (labels - 1)
            given = (1 - rate) * right_R + wrong + LEAST
            fit = float(np.log(given).mean())
            if fit > best[0]:
                best = fit, wrong / given
    return np.asarray(best[1], dtype=np.float32)
