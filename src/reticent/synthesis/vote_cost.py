# SPDX-License-Identifier: Apache-2.0
"""The cost of Gaussian noise on votes, in closed form: rounds of Gaussian mechanisms are one (Dong, Roth and Su 2022,
arXiv:1905.02383: squares of μ add up)."""

from __future__ import annotations

import math

from scipy.optimize import brentq

from reticent.core import validate
from reticent.privacy.spec import REPLACE_ONE
from reticent.stats.epsilon import gdp_epsilon

REPLACED = math.sqrt(2)
"""The most that votes of length 1 and no number below 0 are apart from others."""


def vote_epsilon(noise: float, *, rounds: int, relation: str, delta: float) -> float:
    """ε of all rounds, exactly.

    Args:
        noise: standard deviation on each count; a unit's votes have a length of at most 1.
        rounds: that are noised.
        relation: what neighbours differ by.
        delta: chance that it may fail.

    >>> round(vote_epsilon(10.0, rounds=4, relation="add_or_remove", delta=1e-5), 2)
    0.73
    """
    validate.positive(noise=noise, rounds=rounds)
    return gdp_epsilon(_moves(relation) * math.sqrt(rounds) / noise, delta)


def vote_noise(epsilon: float, *, rounds: int, relation: str, delta: float) -> float:
    """The least noise, to ten digits and not below, with which all rounds cost at most ``epsilon``.

    >>> noise = vote_noise(1.0, rounds=4, relation="add_or_remove", delta=1e-5)
    >>> round(vote_epsilon(noise, rounds=4, relation="add_or_remove", delta=1e-5), 6)
    1.0
    """
    validate.positive(epsilon=epsilon)

    def excess(log_noise: float) -> float:
        return vote_epsilon(math.exp(log_noise), rounds=rounds, relation=relation, delta=delta) - epsilon

    low, high = 0.0, 0.0
    while excess(low) <= 0:
        low -= 1
    while excess(high) > 0:
        high += 1
    log_noise = float(brentq(excess, low, high, xtol=1e-12))
    while excess(log_noise) > 0:
        log_noise += 1e-11
    return math.exp(log_noise)


def vote_rho(noise: float, *, rounds: int, relation: str) -> float:
    """zCDP of all rounds.

    >>> vote_rho(1.0, rounds=2, relation="add_or_remove")
    1.0
    """
    return rounds * (_moves(relation) / noise) ** 2 / 2


def _moves(relation: str) -> float:
    return REPLACED if relation == REPLACE_ONE else 1.0
