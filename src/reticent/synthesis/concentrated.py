# SPDX-License-Identifier: Apache-2.0
"""Zero-concentrated differential privacy (zCDP): of the exponential mechanism, and as (ε, δ).

**One token.** Scores u are public logits plus a sum of clipped differences over B. A unit that goes, or adds nothing,
moves each of them by at most C/B, up or down; one that is replaced by 2C/B. A token is drawn with chance ∝ exp(u/τ), so
the log-ratio of its chance between neighbours is (u - u')/τ less the log-ratio of the sums, which is the same for all
tokens: it ranges over at most η = 2·C/(B·τ) (twice that for who is replaced). A mechanism of bounded range η is
η²/8-zCDP (Cesar and Rogers 2021, arXiv:2004.07223), here C²/(2·B²·τ²), as in InvisibleInk (arXiv:2507.02974).

**All tokens of a text** add up, whatever is chosen in view of earlier ones (Bun and Steinke 2016, arXiv:1605.02635).
**Texts** of disjoint batches share no unit, so one unit pays for one text.

**As (ε, δ):** ρ-zCDP bounds the Rényi divergence of order α by ρ·α; any order gives a valid ε, and the best is taken
(Canonne, Kamath and Steinke 2020, arXiv:2004.00010).
"""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import brentq, minimize_scalar

from reticent.core import validate
from reticent.privacy.spec import REPLACE_ONE

LOWEST, HIGHEST = -18.0, 18.0
"""Natural logarithms of α - 1 between which the best order is looked for."""


def rho_of_token(*, clip: float, references: int, temperature: float, relation: str) -> float:
    """ρ of one token.

    Args:
        clip: C, bound on each difference of logits, in nats.
        references: B, that the sum is divided by.
        temperature: τ.
        relation: what neighbours differ by.

    >>> rho_of_token(clip=1.0, references=8, temperature=1.0, relation="add_or_remove") * 128
    1.0
    """
    moves = (2.0 if relation == REPLACE_ONE else 1.0) * clip / references
    bounded_range = 2 * moves / temperature
    return bounded_range**2 / 8


def clip_for(rho: float, *, references: int, temperature: float, relation: str) -> float:
    """The C at which one token is ``rho``-zCDP: `rho_of_token`, solved.

    >>> clip_for(1 / 128, references=8, temperature=1.0, relation="add_or_remove")
    1.0
    """
    unit = rho_of_token(clip=1.0, references=references, temperature=temperature, relation=relation)
    return math.sqrt(rho / unit)


def epsilon_of_rho(rho: float, delta: float) -> float:
    """An ε at which ``rho``-zCDP is (ε, δ)-DP: the smallest over all orders.

    >>> round(epsilon_of_rho(0.5, 1e-5), 2), epsilon_of_rho(0.0, 1e-5)
    (4.73, 0.0)
    """
    validate.non_negative(rho=rho)
    validate.in_range(0, 1, delta=delta)
    if rho == 0:
        return 0.0

    def bound(log_beyond: float) -> float:
        beyond = math.exp(log_beyond)
        order = 1 + beyond
        return rho * order + math.log(beyond / order) - (math.log(delta) + math.log(order)) / beyond

    # About the best order; convex around it, so a search between its neighbours finds it.
    grid = np.linspace(LOWEST, HIGHEST, 145)
    best = int(np.argmin([bound(point) for point in grid]))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    lowest = minimize_scalar(bound, bounds=(float(low), float(high)), method="bounded", options={"xatol": 1e-10})
    return max(0.0, float(min(lowest.fun, bound(float(grid[best])))))


def rho_for(epsilon: float, delta: float) -> float:
    """The largest ρ, to twelve digits and not above, at which ρ-zCDP is (ε, δ)-DP.

    >>> rho = rho_for(8.0, 1e-5)
    >>> epsilon_of_rho(rho, 1e-5) <= 8.0, round(rho, 2)
    (True, 1.23)
    """
    validate.positive(epsilon=epsilon)
    high = 1.0
    while epsilon_of_rho(high, delta) < epsilon:
        high *= 2
    low = high / 2
    while epsilon_of_rho(low, delta) > epsilon:
        low /= 2
    rho = float(brentq(lambda value: epsilon_of_rho(value, delta) - epsilon, low, high, xtol=1e-15, rtol=1e-12))
    while epsilon_of_rho(rho, delta) > epsilon:
        rho *= 1 - 1e-12
    return rho
