"""The probability that a label is wrong, from out-of-fold predictions, with a noise rate for each label.

A row whose label is not the predicted one is either mislabelled or a difficult row of its own label. A
mislabelled row looks like any other row of the predicted label; a difficult one looks like a poor example of
it. So each such row is ranked among the rows that rightly have the predicted label, by how much likelier that
label is than the row's own: the ranks of wrong labels are uniform, those of difficult rows are close to 1.
The shares of both, and the density of the difficult rows, are estimated for each label by itself, because a
model errs most on rare labels: one rate for all would call many of their rows wrong and none of the others.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

LEAST_PROBABILITY = 1e-9
FEWEST_RIGHT = 5  # rows of the predicted label to be ranked among; with fewer, the row is not judged
# Shares of wrong labels among the rows that disagree, and exponents a of the density a u^(a-1) of the others.
SHARES = np.array([0, 0.01, 0.02, 0.05, *np.arange(0.1, 1.01, 0.1)], np.float32)
EXPONENTS = np.array([2, 2.5, 3, 4, 5, 6.5, 8, 10, 13, 17, 22, 30, 40], np.float32)
HOPELESS, BROAD = 0.2, 2.5  # share of the difficult rows with a density of BROAD u^(BROAD-1) in any case
PRIOR = 10  # rows that the average over all labels counts for, against those of one label
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


def label_error_probability_R(proba_RL: Floats, given_R: Ints) -> Floats:
    """The probability that the label of each row is wrong, (R,); 0 where it is the predicted one.

    Posterior mean over SHARES and EXPONENTS, for each label. Labels with few rows that disagree are judged
    mostly by the average over all labels.
    """
    wrong_R = np.zeros(len(given_R), np.float32)
    apart = np.flatnonzero(proba_RL.argmax(axis=1) != given_R)
    if not len(apart):
        return wrong_R
    share_G, exponent_G = (grid.ravel() for grid in np.meshgrid(SHARES, EXPONENTS))
    rank_A1 = _ranks(proba_RL, given_R, apart)[:, None]
    difficult_AG = (1 - HOPELESS) * exponent_G * rank_A1 ** (exponent_G - 1)
    difficult_AG += HOPELESS * BROAD * rank_A1 ** (BROAD - 1)
    density_AG = share_G + (1 - share_G) * difficult_AG + LEAST_PROBABILITY
    fit_AG = np.log(density_AG)
    usual_G = PRIOR * fit_AG.mean(axis=0)
    for label in np.unique(given_R[apart]):
        at = np.flatnonzero(given_R[apart] == label)
        fit_G = fit_AG[at].sum(axis=0) + usual_G
        posterior_G = np.exp(fit_G - fit_G.max())
        wrong_R[apart[at]] = (share_G / density_AG[at]) @ (posterior_G / posterior_G.sum())
    return wrong_R


def _ranks(proba_RL: Floats, given_R: Ints, apart: Ints) -> Floats:
    """Rank (0 to 1, the most typical first) of each row among those that rightly have its predicted label."""
    labels = proba_RL.shape[1]
    likely_R = proba_RL.argmax(axis=1)
    right = [np.flatnonzero((likely_R == label) & (given_R == label)) for label in range(labels)]
    pair_A = likely_R[apart] * labels + given_R[apart]
    order = np.argsort(pair_A, kind="stable")
    rank_A = np.ones(len(apart), np.float32)
    for at in np.split(order, np.flatnonzero(np.diff(pair_A[order])) + 1):
        likely, given = divmod(int(pair_A[at[0]]), labels)
        if len(right[likely]) >= FEWEST_RIGHT:
            typical = np.sort(_margins(proba_RL[right[likely]], likely, given))
            below = np.searchsorted(typical, _margins(proba_RL[apart[at]], likely, given))
            rank_A[at] = (len(typical) - below + 0.5) / (len(typical) + 1)
    return rank_A


def _margins(proba_RL: Floats, likely: int, given: int) -> Floats:
    """Log ratio of two labels' probabilities, (R,)."""
    logs = np.log(np.maximum(proba_RL[:, [likely, given]], LEAST_PROBABILITY))
    margins: Floats = logs[:, 0] - logs[:, 1]
    return margins
