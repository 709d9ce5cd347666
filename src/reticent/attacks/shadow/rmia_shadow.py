# SPDX-License-Identifier: Apache-2.0
"""RMIA with real reference models: a member's gain over the models with and without it beats that of known non-members.

The attacker sees log-probabilities of the target, holds the pool that it was drawn from and trains shadow models on
parts of it, and knows some texts of the pool to be outside (the population; never records that are evaluated).

The share of the population that a text beats grows with its own ratio, so texts stand in the order of that ratio
whatever the population is; the population gives the score its meaning. Within one step of the share texts are put in
order by the ratio itself, as in `rmia`.
"""

from __future__ import annotations

import numpy as np

from reticent.attacks.attack import Scores, attack
from reticent.attacks.parameter import Positive
from reticent.attacks.shadow.lira import edge_cases as one_sided
from reticent.attacks.shadow_models import ShadowScores
from reticent.core import validate


def edge_cases(shadow: ShadowScores, known_shadow: ShadowScores, *, gamma: float = 1.0) -> dict[str, int]:
    """Texts that all shadow models were trained on, or none; texts that beat the whole population."""
    return {**one_sided(shadow), **on_top(log_ratio(shadow), log_ratio(known_shadow), gamma)}


def on_top(ratio: Scores, population: Scores, gamma: float) -> dict[str, int]:
    """How many texts beat the whole population."""
    top = int((beaten(ratio, population, gamma) == len(population)).sum())
    return {f"above all {len(population):,} population texts (in order of their likelihood ratio)": top}


def log_ratio(shadow: ShadowScores) -> Scores:
    """``log(p_T(x) / p(x))``, ``p(x)`` halfway between the mean of the models with and of those without the text."""
    inside, outside = shadow.means(np.exp, np.log)
    return np.asarray(shadow.target - np.logaddexp(inside, outside) + np.log(2.0))


def beaten(ratio: Scores, population: Scores, gamma: float) -> Scores:
    """``[N]``: how many of the population each text beats by the factor ``gamma``; both as logarithms."""
    return np.searchsorted(np.sort(population) + np.log(gamma), ratio, side="right").astype(np.float64)


def share(ratio: Scores, population: Scores, gamma: float) -> Scores:
    """``[N]`` in (0, 1): the share of the population that is beaten, and within a step the ratio's order."""
    within = 0.5 + np.arctan(ratio) / np.pi
    return (beaten(ratio, population, gamma) + within) / (len(population) + 1)


@attack(
    "rmia_shadow", unit="record", returns="score", access="logprob", paper="arXiv:2312.03262", edge_cases=edge_cases
)
def rmia_shadow(shadow: ShadowScores, known_shadow: ShadowScores, *, gamma: Positive = 1.0) -> Scores:
    """Share of known non-members whose gain over shadow models with and without them the text's gain beats by a factor.

    ``Pr_z[(p_T(x)/p(x)) / (p_T(z)/p(z)) >= gamma]``, ``p`` the geometric mean of a text's token probabilities and
    ``p(x)`` its mean over shadow models, half of them trained on ``x``.

    Args:
        shadow: target and shadow models on the text.
        known_shadow: the same on the population.
        gamma: the factor, greater than 0.

    Returns ``[N]``, in [0, 1], higher = member.
    """
    validate.positive(gamma=gamma)
    return share(log_ratio(shadow), log_ratio(known_shadow), gamma)
