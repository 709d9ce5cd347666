# SPDX-License-Identifier: Apache-2.0
"""The accountant: ε of steps, the noise that a guarantee needs, and the trade-off curve of attacks.

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

Neighbours differ as `Mechanism.relation` says. To add or remove a unit and to zero it out are the same: N(0, σ²)
against its mixture with N(1, σ²), as sums are divided by a number that is fixed. To replace it is the mixture with
N(1, σ²) against that with N(-1, σ²).
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from dp_accounting import NeighboringRelation, dp_event
from dp_accounting.pld import PLDAccountant
from scipy.optimize import brentq

from reticent.core.errors import BadInput
from reticent.privacy.mechanism import Mechanism
from reticent.privacy.renyi import renyi_epsilon
from reticent.privacy.spec import ADD_OR_REMOVE, REPLACE_ONE, SMALLEST_DELTA, ZERO_OUT
from reticent.privacy.tradeoff import NOTHING_SHOWN, AttackLimits, Losses, TradeoffCurve, of_gaussian, of_losses
from reticent.stats.epsilon import gdp_epsilon

SLACK, MIXTURE_SLACK, IMPLIED_SLACK = 1e-3, 1e-2, 1e-1
"""About how much rounding to the safe side may add to ε; more where finer cells would take minutes."""
FINEST = 5e-5
"""Finer cells take too long."""
LARGEST_EPSILON = 1000.0
"""Above, calibration would only waste memory."""
LEAST_NOISE = 0.2
"""Noise below this is never chosen, however loose the promise."""
MOST_CELLS = 5e7
"""Cells of a privacy loss distribution that still fit into memory."""
MOST_MIXED = 200
"""Mixtures of more Gaussians take minutes."""
NEIGHBOURS = {
    ADD_OR_REMOVE: NeighboringRelation.ADD_OR_REMOVE_ONE,
    ZERO_OUT: NeighboringRelation.REPLACE_SPECIAL,
    REPLACE_ONE: NeighboringRelation.REPLACE_ONE,
}


class EpsilonSpent(NamedTuple):
    """ε of some steps and the same by Rényi divergences, coarser."""

    epsilon: float
    check: float


@lru_cache(maxsize=64)
def spent(mechanism: Mechanism, *, steps: int, delta: float) -> EpsilonSpent:
    """Upper bounds on ε of ``steps`` steps at ``delta``.

    Raises:
        BadInput: so little noise that nothing worth a promise can be shown.
        RuntimeError: the two accountants contradict each other.

    Examples:
        >>> step = Mechanism(noise_multiplier=1.0, rate=0.01)
        >>> epsilon = spent(step, steps=1000, delta=1e-5)
        >>> round(epsilon.epsilon, 2), epsilon.check >= epsilon.epsilon
        (1.83, True)
    """
    if steps == 0:
        return EpsilonSpent(0.0, 0.0)
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
    return EpsilonSpent(float(size * single), float(size * check))


@lru_cache(maxsize=64)
def allowed(mechanism: Mechanism, *, steps: int, delta: float) -> AttackLimits:
    """The most that any attack can reach against ``steps`` steps, from the same distributions as `spent`.

    With ``black_box`` by the curve of one record, put together as often as an owner has records.

    Args:
        delta: the promised one, from which on μ holds.

    Examples:
        >>> limits = allowed(Mechanism(noise_multiplier=1.0, rate=0.01), steps=100, delta=1e-5)
        >>> 0.5 < limits.auc < 0.6, limits.tpr_at_1pct_fpr < 0.05
        (True, True)
    """
    return NOTHING_SHOWN if steps == 0 else curve(mechanism, steps=steps).allowed(delta)


def curve(mechanism: Mechanism, *, steps: int) -> TradeoffCurve:
    """The trade-off curve of ``steps`` steps, 1 or more: closed where all are in every step, else from the losses."""
    owned, single = (mechanism.owned, replace(mechanism, owned=1)) if mechanism.black_box else (1, mechanism)
    if mechanism.rate == 1:
        return of_gaussian(mechanism.shift * math.sqrt(steps) / mechanism.noise_multiplier)
    removed, added = _sides(_losses(single, steps))
    return of_losses(removed, added).of_group(owned)


@lru_cache(maxsize=64)
def calibrate(mechanism: Mechanism, *, steps: int, epsilon: float, delta: float) -> float:
    """The smallest noise multiplier, to three digits, with which ``steps`` such steps cost at most ``epsilon``.

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

    def excess(log_noise: float) -> float:
        losses = _losses(replace(single, noise_multiplier=math.exp(log_noise)), steps)
        return math.log(max(losses.get_epsilon(target[1]), 1e-12) / target[0])

    low = high = math.log(_guess(single, steps, *target))
    while excess(high) > 0:
        low, high = high, high + 0.4
    if low == high:
        while excess(low := high - 0.4) <= 0:
            if low < math.log(LEAST_NOISE):
                return math.exp(high)
            high = low
    log_noise = float(brentq(excess, low, high, xtol=3e-4))
    while excess(log_noise) > 0:
        log_noise += 3e-4
    noise = math.exp(log_noise)
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

    By the mixture of Gaussians, which is what group privacy of this mechanism comes to exactly, or as if all records
    were in every step, where the mixture would take minutes. For owners who come or go, or are zeroed out.
    """
    if steps == 0:
        return 0.0
    bounds = [_full_batch(records / mechanism.noise_multiplier * math.sqrt(steps), delta)]
    owner = replace(mechanism, owned=records)
    participation = owner.participation(tail=delta / 100 / steps)
    if mechanism.rate < 1 and len(participation.counts) <= MOST_MIXED and _cells(owner, steps, delta) <= MOST_CELLS:
        losses = PLDAccountant(value_discretization_interval=_interval(owner, steps, slack=IMPLIED_SLACK))
        losses.compose(dp_event.SelfComposedDpEvent(participation.event(mechanism.noise_multiplier), steps))
        bounds.append(losses.get_epsilon(delta - steps * participation.cut) - steps * math.log1p(-participation.cut))
    return float(min(bounds))


@lru_cache(maxsize=1)
def _losses(mechanism: Mechanism, steps: int) -> PLDAccountant:
    """Not to be composed any further: the last one is kept, as ε and the curve are asked for one after the other."""
    accountant = PLDAccountant(NEIGHBOURS[mechanism.relation], _interval(mechanism, steps))
    return accountant.compose(dp_event.SelfComposedDpEvent(mechanism.event, steps))


def _sides(accountant: PLDAccountant) -> tuple[Losses, Losses]:
    """Both directions, of which the accountant itself only tells the larger δ: unit removed, unit added."""
    # There is no public way to them; a test holds their larger δ against the accountant's own.
    both: Any = accountant._pld
    return _side(both._pmf_remove), _side(both._pmf_add)


def _side(pmf: Any) -> Losses:
    dense = pmf.to_dense_pmf()
    losses = (np.arange(dense.size) + dense._lower_loss) * dense._discretization
    return Losses(losses, np.asarray(dense._probs, dtype=np.float64), float(dense._infinity_mass))


def _interval(mechanism: Mechanism, steps: int, slack: float | None = None) -> float:
    """Width of the cells of a privacy loss distribution.

    Rounding to cells adds at most steps·width to ε and usually about steps·width²/4, here ``slack``. It adds at most
    width²/4 to the variance of the loss of a step, here 1/64 of it, which matters where ε is small.
    """
    if slack is None:
        slack = SLACK if mechanism.owned == 1 or mechanism.black_box else MIXTURE_SLACK
    return max(min(math.sqrt(4 * slack / steps), _spread(mechanism, steps) / 4), slack / steps, FINEST)


def _spread(mechanism: Mechanism, steps: int) -> float:
    """Standard deviation of the privacy loss of a step where it is small: the root of the χ² divergence."""
    if mechanism.relation == REPLACE_ONE:
        # With N(0, σ²) in place of the second mixture, from which it is hardly apart where the loss is small.
        single = 1 if mechanism.black_box else mechanism.owned
        inverse = min((single / mechanism.noise_multiplier) ** 2, 50.0)
        return mechanism.rate * math.sqrt(2 * (math.exp(inverse) - math.exp(-inverse)))
    # The tail that is left out is rare, but would rule the divergence.
    counts, chances, _ = mechanism.participation(tail=1e-3 / steps)
    exponents = np.minimum(np.outer(counts, counts) / mechanism.noise_multiplier**2, 50.0)
    return math.sqrt(float(chances @ np.expm1(exponents) @ chances))


def _guess(mechanism: Mechanism, steps: int, epsilon: float, delta: float) -> float:
    """About the noise that is needed, by the central limit theorem of privacy losses (Dong, Roth and Su 2022, Theorem
    3.5): many small losses add up to μ-GDP with μ² the sum of their variances."""
    mu = _gaussian_mu(epsilon, delta)

    def gap(log_noise: float) -> float:
        return math.log(
            math.sqrt(steps) * _spread(replace(mechanism, noise_multiplier=math.exp(log_noise)), steps) / mu
        )

    low, high = math.log(LEAST_NOISE), math.log(2 * mechanism.shift * math.sqrt(steps) / mu + 2)
    return math.exp(brentq(gap, low, high)) if gap(low) > 0 > gap(high) else math.exp(high)


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
    return renyi_epsilon(mechanism, steps=steps, delta=delta) / _interval(mechanism, steps)


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
