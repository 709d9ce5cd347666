# SPDX-License-Identifier: Apache-2.0
"""What steps cost and how much noise a promise needs; neighbours differ by adding or removing one unit.

ε comes from privacy loss distributions (Doroshenko et al. 2022, arXiv:2207.04380) as `dp_accounting` computes them,
rounded to the safe side; Rényi divergences (Mironov, Talwar and Zhang 2019, arXiv:1908.10530) stand beside as a check.

======================  =============================================================================================
what is protected       one step
======================  =============================================================================================
the sampled unit        Poisson-sampled Gaussian
owner of ≤ G records    mixture of Gaussians N(i, σ²), i ~ Binomial(G, rate), against N(0, σ²) (Charles et al. 2024,
                        arXiv:2407.07737)
owner, as a black box   Poisson-sampled Gaussian, and group privacy at the end: (ε', δ') for one gives
                        (Gε', δ'·(e^Gε' − 1)/(e^ε' − 1)) for G (Vadhan 2017, Lemma 2.2)
======================  =============================================================================================
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant
from scipy.optimize import brentq
from scipy.stats import binom

from reticent.core.errors import BadInput
from reticent.privacy.mechanism import Mechanism
from reticent.privacy.renyi import renyi_epsilon
from reticent.privacy.spec import SMALLEST_DELTA
from reticent.stats.epsilon import gdp_epsilon

SLACK = 1e-3
"""About how much rounding to the safe side may add to ε."""
FINEST = 5e-5
"""Finer cells take too long."""
LARGEST_EPSILON = 1000.0
"""Above, calibration would only waste memory."""
LEAST_NOISE = 0.2
"""Noise below this is never chosen, however loose the promise."""
MOST_CELLS = 5e7
"""Cells of a privacy loss distribution that still fit into memory."""
MOST_RECORDS_MIXED = 200
"""Mixtures of more Gaussians take minutes; what a record-level run implies for such users is bounded without them."""


class Spent(NamedTuple):
    """ε of some steps and the same by Rényi divergences, coarser."""

    epsilon: float
    check: float


@lru_cache(maxsize=64)
def spent(mechanism: Mechanism, *, steps: int, delta: float) -> Spent:
    """Upper bounds on ε of ``steps`` steps at ``delta``.

    Raises:
        BadInput: so little noise that nothing worth a promise can be shown.
        RuntimeError: the two accountants contradict each other.
    """
    if steps == 0:
        return Spent(0.0, 0.0)
    _check_cells(mechanism, steps, delta)
    accountant = _losses(mechanism, steps)
    if mechanism.black_box and mechanism.owned > 1:
        single, single_delta = _single_of_group(accountant, size=mechanism.owned, delta=delta)
    else:
        single, single_delta = accountant.get_epsilon(delta), delta
    check = renyi_epsilon(mechanism, steps=steps, delta=single_delta)
    if not math.isfinite(single):
        raise _too_little_noise(mechanism)
    if check < single * 0.99 - 0.01:
        raise RuntimeError(f"accountants disagree on {mechanism}: PLD ε = {single}, RDP ε = {check}; promise nothing")
    size = mechanism.owned if mechanism.black_box else 1
    return Spent(float(size * single), float(size * check))


def calibrate(mechanism: Mechanism, *, steps: int, epsilon: float, delta: float) -> float:
    """The smallest noise multiplier, to four digits, with which ``steps`` such steps cost at most ``epsilon``.

    Args:
        mechanism: its noise multiplier is not looked at.

    Raises:
        BadInput: a promise that cannot be accounted for.
    """
    if mechanism.black_box:
        target = group_budget(epsilon, delta, size=mechanism.owned)
        single = replace(mechanism, owned=1, black_box=False)
    else:
        target, single = (epsilon, delta), mechanism
    target = (target[0] * (1 - 1e-6), target[1])
    if epsilon > LARGEST_EPSILON:
        raise BadInput(f"epsilon={epsilon:g}", "is so large that it promises nothing", "Give 8 or less.")

    def cost(noise: float) -> float:
        return _losses(replace(single, noise_multiplier=noise), steps).get_epsilon(target[1])

    # As if all were in every step, which is enough noise but for rounding; from there down, as little noise is slow.
    high = single.owned * math.sqrt(steps) / _gaussian_mu(*target)
    while cost(high) > target[0]:
        high *= 1.25
    while cost(low := high / 2) <= target[0]:
        high = low
        if high < LEAST_NOISE:
            return high
    noise = float(brentq(lambda noise: cost(noise) - target[0], low, high, xtol=1e-4 * low))
    while cost(noise) > target[0]:
        noise += 1e-4 * low
    reached = spent(replace(mechanism, noise_multiplier=noise), steps=steps, delta=delta).epsilon
    if reached > epsilon:
        raise RuntimeError(f"calibration reached ε = {reached}, above the promised {epsilon}; promise nothing")
    return noise


def group_budget(epsilon: float, delta: float, *, size: int) -> tuple[float, float]:
    """(ε', δ') for one record that give ``(epsilon, delta)`` for ``size`` of them.

    Raises:
        BadInput: δ' is smaller than can be accounted for.

    >>> epsilon, delta = group_budget(8, 1e-5, size=2)
    >>> f"{epsilon:g} {delta:.3e}"
    '4 1.799e-07'
    """
    single = epsilon / size
    single_delta = delta * math.exp(-_log_growth(single, size))
    if size > 1 and single_delta < SMALLEST_DELTA:
        raise BadInput(
            f"ε = {epsilon:g} at δ = {delta:g} for groups of {size}",
            f"asks for δ = {single_delta:.1e} of each record, which accounting cannot show",
            "Lower epsilon or records_per_user, or give --user_sampling user or record, which need no conversion.",
        )
    return single, single_delta


@lru_cache(maxsize=64)
def implied_user_epsilon(mechanism: Mechanism, *, records: int, steps: int, delta: float) -> float:
    """ε for the owner of ``records`` records that a record-level ``mechanism`` implies: an upper bound.

    By the mixture of Gaussians, which is what group privacy of this mechanism comes to exactly; for users with very
    many records as if all of them were in every step, which only costs more.
    """
    if steps == 0:
        return 0.0
    bounds = [_full_batch(records / mechanism.noise_multiplier * math.sqrt(steps), delta)]
    owner = replace(mechanism, owned=records)
    if records <= MOST_RECORDS_MIXED and _cells(owner, steps, delta) <= MOST_CELLS:
        bounds.append(_losses(owner, steps, slack=100 * SLACK).get_epsilon(delta))
    return float(min(bounds))


def _losses(mechanism: Mechanism, steps: int, slack: float = SLACK) -> PLDAccountant:
    accountant = PLDAccountant(value_discretization_interval=_interval(mechanism, steps, slack))
    return accountant.compose(dp_event.SelfComposedDpEvent(mechanism.event, steps))


def _interval(mechanism: Mechanism, steps: int, slack: float) -> float:
    """Width of the cells of a privacy loss distribution.

    Rounding to cells adds at most steps·width to ε and usually about steps·width²/4, here ``slack``. It adds at most
    width²/4 to the variance of the loss of a step, here 1/64 of it, which matters where ε is small.
    """
    sigma = mechanism.noise_multiplier
    counts, chances = np.arange(2), np.array([1 - mechanism.rate, mechanism.rate])
    if mechanism.owned > 1 and not mechanism.black_box:
        counts, chances = (np.array(values) for values in mechanism.drawn)
    exponents = np.minimum(np.outer(counts, counts) / sigma**2, 50.0)
    spread = math.sqrt(float(chances @ np.expm1(exponents) @ chances))
    return max(min(math.sqrt(4 * slack / steps), spread / 4), slack / steps, FINEST)


def _full_batch(mu: float, delta: float) -> float:
    """ε of Gaussian mechanisms that add up to ``mu``-GDP (Dong, Roth and Su 2022, Corollary 2.13)."""
    return gdp_epsilon(mu, delta)


def _gaussian_mu(epsilon: float, delta: float) -> float:
    """The μ at which μ-GDP is (epsilon, delta)-DP."""
    high = 1.0
    while _full_batch(high, delta) < epsilon:
        high *= 2
    low = high / 2
    while _full_batch(low, delta) > epsilon:
        low /= 2
    return float(brentq(lambda mu: _full_batch(mu, delta) - epsilon, low, high))


def _cells(mechanism: Mechanism, steps: int, delta: float) -> float:
    """About how many cells the privacy losses of ``steps`` steps fill."""
    together = max(1.0, float(binom.isf(1e-20, mechanism.owned, mechanism.rate)))
    sensitivity = 1.0 if mechanism.black_box else together
    most = _full_batch(sensitivity / mechanism.noise_multiplier * math.sqrt(steps), delta)
    return min(most, renyi_epsilon(mechanism, steps=steps, delta=delta)) / _interval(mechanism, steps, SLACK)


def _check_cells(mechanism: Mechanism, steps: int, delta: float) -> None:
    if _cells(mechanism, steps, delta) > MOST_CELLS:
        raise _too_little_noise(mechanism)


def _too_little_noise(mechanism: Mechanism) -> BadInput:
    return BadInput(
        f"noise_multiplier={mechanism.noise_multiplier:.3g}",
        "is too little noise, for so many steps, to show any privacy worth a promise",
        "Give more noise or fewer steps, or give epsilon and let the noise follow.",
    )


def _single_of_group(accountant: PLDAccountant, *, size: int, delta: float) -> tuple[float, float]:
    """The smallest (ε', δ') on the privacy curve of one record that gives ``delta`` for ``size`` of them; (∞, 0) where
    none does."""

    def excess(epsilon: float) -> float:
        return math.log(max(accountant.get_delta(epsilon), 1e-300)) + _log_growth(epsilon, size) - math.log(delta)

    top = accountant.get_epsilon(SMALLEST_DELTA)
    if not math.isfinite(top):
        return math.inf, 0.0
    grid = np.linspace(0, top, 400)
    good = next((epsilon for epsilon in grid if excess(epsilon) <= 0), None)
    if good is None:
        return math.inf, 0.0
    bad = max(good - grid[1], 0.0)
    while good - bad > 1e-9 * good:
        middle = (good + bad) / 2
        good, bad = (middle, bad) if excess(middle) <= 0 else (good, middle)
    return float(good), delta * math.exp(-_log_growth(good, size))


def _log_growth(epsilon: float, size: int) -> float:
    """log((e^size·ε − 1)/(e^ε − 1)), by which δ grows from one to ``size``; log(size) at ε = 0."""
    if epsilon < 1e-12:
        return math.log(size)
    return (size - 1) * epsilon + math.log(math.expm1(-size * epsilon) / math.expm1(-epsilon))
