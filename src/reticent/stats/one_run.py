# SPDX-License-Identifier: Apache-2.0
"""The two one-run privacy audits as counts in, bound out: how many guesses were made and how many were right.

Both assume that each of the ``units`` was included by its own fair coin, and that the number of guesses was fixed
before the scores were seen. `reticent.stats.epsilon` turns scores into counts.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import bdtr, bdtrc, expit, ndtr, ndtri

from reticent.core.errors import BadInput
from reticent.core.validate import in_range

LARGEST = 64.0
"""Bounds are searched up to this; more would need over 10^27 units."""
FEW = 30
"""At least so many guesses a side, where that is no more than a quarter of the units."""
MANY = 100
"""From so many a side on, a twentieth of the units is enough."""


def guesses_a_side(units: int) -> int:
    """How many of the highest scores to guess "in", and of the lowest to guess "out".

    A function of the number of units alone, so it is fixed before any score is seen. A tenth of the units; more of few,
    since from few guesses no large ε follows even if all are right; a twentieth of very many, where the most extreme
    are many enough. Near the best number for every ε from 1 to 8 (benchmarks/epsilon_bounds.py).

    >>> [guesses_a_side(units) for units in (10, 40, 100, 500, 1000, 5000)]
    [2, 10, 25, 50, 100, 250]
    """
    at_least, at_most = min(FEW, units // 4), max(MANY, units // 20)
    return max(1, at_least, min(units // 10, at_most))


def one_run_p_value(units: int, guesses: int, correct: int, epsilon: float, *, delta: float) -> float:
    """Probability bound of at least ``correct`` right guesses under any (ε, δ)-DP algorithm.

    ``P[Bin(r, q) >= v] + 2 m δ max_i P[v - i <= Bin(r, q) < v] / i`` with ``q = e^ε / (1 + e^ε)``, at most 1.

    Source: Privacy Auditing with One (1) Training Run, arXiv:2305.08846.
    """
    _check_counts(units, guesses, correct)
    if correct == 0:
        return 1.0
    q = float(expit(epsilon))
    tail = float(bdtrc(correct - 1, guesses, q))
    if delta == 0:
        return min(1.0, tail)
    i = np.arange(1, correct + 1)
    below = np.where(i < correct, bdtr(np.maximum(correct - i - 1, 0), guesses, q), 0.0)
    slack = float(((bdtr(correct - 1, guesses, q) - below) / i).max())
    return min(1.0, tail + 2 * units * delta * slack)


def one_run_epsilon(units: int, guesses: int, correct: int, *, delta: float, miss: float) -> float:
    """Largest ε that ``correct`` of ``guesses`` right guesses over ``units`` coins reject, 0 if none.

    Args:
        units: m, all units with a coin, guessed or not.
        guesses: r, how many were guessed at; fixed beforehand.
        correct: v, how many guesses were right.
        delta: δ in [0, 1).
        miss: probability with which the bound may be too high, e.g. 0.05.
    """
    in_range(0, 1, miss=miss)
    if not 0 <= delta < 1:
        raise BadInput(f"delta={delta!r}", "must be in [0, 1)", "Give the delta of the guarantee, e.g. 1e-5.")
    return _largest(lambda epsilon: one_run_p_value(units, guesses, correct, epsilon, delta=delta) <= miss)


def rejects_gdp(units: int, guesses: int, correct: int, mu: float, *, miss: float) -> bool:
    """True if ``correct`` right guesses are too many for a μ-Gaussian-DP algorithm.

    Source: Auditing f-Differential Privacy in One Run, arXiv:2410.22235, with two options a unit (in or out).
    """
    _check_counts(units, guesses, correct)
    wrong_mass = miss * (guesses - correct) / units
    right_mass = miss * correct / units
    for i in range(correct - 1, -1, -1):
        grown = max(wrong_mass, float(ndtr(ndtri(min(right_mass, 1.0)) - mu)))
        right_mass += i / (guesses - i) * (grown - wrong_mass)
        wrong_mass = grown
        if right_mass + wrong_mass > guesses / units:  # both only grow
            return True
    return False


def gdp_one_run_mu(units: int, guesses: int, correct: int, *, miss: float) -> float:
    """Largest μ of Gaussian DP that the guesses reject, 0 if none. Args as in `one_run_epsilon`."""
    in_range(0, 1, miss=miss)
    return _largest(lambda mu: rejects_gdp(units, guesses, correct, mu, miss=miss))


def _largest(rejected: Callable[[float], bool]) -> float:
    """Largest value that is rejected, to 1e-10, rounded down; 0 if not even 0 is."""
    if not rejected(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while rejected(high):
        low, high = high, 2 * high
        if high > LARGEST:
            return low
    while high - low > 1e-10:
        middle = (low + high) / 2
        low, high = (middle, high) if rejected(middle) else (low, middle)
    return low


def _check_counts(units: int, guesses: int, correct: int) -> None:
    if not 0 <= correct <= guesses <= units or guesses < 1:
        raise BadInput(
            f"{correct} of {guesses} guesses right over {units} units",
            "these are no counts",
            "Give 0 <= correct <= guesses <= units.",
        )
