# SPDX-License-Identifier: Apache-2.0
"""ε by Rényi divergences: coarser than privacy loss distributions, and beside them as a check.

The sampled Gaussian has a closed form (Mironov, Talwar and Zhang 2019, arXiv:1908.10530); mixtures of Gaussians, and
sampled units that are replaced, are integrated here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from dp_accounting import dp_event
from dp_accounting.rdp import RdpAccountant
from dp_accounting.rdp.rdp_privacy_accountant import compute_epsilon
from scipy.special import logsumexp
from scipy.stats import norm

from reticent.privacy.mechanism import Mechanism, ParticipationCounts
from reticent.privacy.spec import REPLACE_ONE

ORDERS = (*range(2, 64), 80, 96, 128, 256, 512, 1024)
"""Whole numbers only: with others the closed form of the sampled Gaussian does not always converge."""


def renyi_epsilon(mechanism: Mechanism, *, steps: int, delta: float) -> float:
    """Upper bound on ε of ``steps`` steps at ``delta``; with ``black_box`` of a single sampled unit."""
    if mechanism.relation == REPLACE_ONE:
        return _replaced(mechanism, steps=steps, delta=delta)
    if not isinstance(mechanism.event, dp_event.MixtureOfGaussiansDpEvent):
        # Who is zeroed out adds nothing, as who is left out does: the same distributions.
        run = dp_event.SelfComposedDpEvent(mechanism.event, steps)
        return float(RdpAccountant(ORDERS).compose(run).get_epsilon(delta))
    # Many units of an owner at once are rare, but rule every divergence: a hundredth of δ pays for leaving them out.
    participation = mechanism.participation(tail=delta / 100 / steps)
    orders = _orders(mechanism.noise_multiplier, participation)
    losses = [steps * mixture_divergence(mechanism.noise_multiplier, participation, order) for order in orders]
    epsilon = float(compute_epsilon(orders, losses, delta - steps * participation.cut)[0])
    return epsilon - steps * math.log1p(-participation.cut)


def _replaced(mechanism: Mechanism, *, steps: int, delta: float) -> float:
    single = 1 if mechanism.black_box else mechanism.owned
    noise = mechanism.noise_multiplier / single
    if mechanism.rate == 1:
        run = dp_event.SelfComposedDpEvent(dp_event.GaussianDpEvent(noise / 2), steps)
        return float(RdpAccountant(ORDERS).compose(run).get_epsilon(delta))
    orders = [order for order in ORDERS if order == 2 or order <= min(1000 * noise, 64)]
    losses = [steps * replacement_divergence(noise, mechanism.rate, order) for order in orders]
    return float(compute_epsilon(orders, losses, delta)[0])


def replacement_divergence(noise: float, rate: float, order: int) -> float:
    """Rényi divergence of one step where a unit is replaced by its opposite, between the mixtures of N(0, σ²) with
    N(1, σ²) and with N(-1, σ²), of which the second comes in with chance ``rate``; by the trapezoid rule as
    `mixture_divergence`.

    Both directions are the same, by symmetry. The integrand is widest at a rate of 1: a Gaussian around 2·order - 1.
    """
    points = np.arange(-1 - 12 * noise, 2 * order + 12 * noise, noise / 20)

    def log_density(shift: float) -> npt.NDArray[np.float64]:
        stays, moves = norm.logpdf(points, scale=noise), norm.logpdf(points, loc=shift, scale=noise)
        return np.logaddexp(math.log1p(-rate) + stays, math.log(rate) + moves)

    powers = order * log_density(1.0) + (1 - order) * log_density(-1.0) + math.log(noise / 20)
    return max(float(logsumexp(powers)), 0.0) / (order - 1)


def renyi_total(parts: Mapping[Mechanism, int], *, delta: float) -> float:
    """Upper bound on ε of mechanisms, each with its number of steps, one after the other at ``delta``.

    Divergences of one order add up (Mironov 2017, Proposition 1). ``black_box`` is not looked at: owners of several are
    mixtures.
    """
    tail = delta / 100 / max(sum(parts.values()), 1)
    participations = {
        mechanism: replace(mechanism, black_box=False).participation(tail=tail)
        for mechanism in parts
        if mechanism.rate < 1
    }
    orders = [
        order
        for order in ORDERS
        if order == 2 or all(_fits(order, mechanism, participations[mechanism]) for mechanism in participations)
    ]
    # Of two Gaussians, where all are in every step: Mironov 2017, Proposition 7.
    unsampled = sum(
        steps * (mechanism.owned / mechanism.noise_multiplier) ** 2 / 2
        for mechanism, steps in parts.items()
        if mechanism.rate == 1
    )
    losses = [
        order * unsampled
        + sum(
            parts[mechanism] * mixture_divergence(mechanism.noise_multiplier, counts_of, order)
            for mechanism, counts_of in participations.items()
        )
        for order in orders
    ]
    left_out = sum(parts[mechanism] * counts_of.cut for mechanism, counts_of in participations.items())
    removed = sum(parts[mechanism] * math.log1p(-counts_of.cut) for mechanism, counts_of in participations.items())
    return float(compute_epsilon(orders, losses, delta - left_out)[0]) - removed


def _fits(order: int, mechanism: Mechanism, participation: ParticipationCounts) -> bool:
    """As `_orders`; where there are two Gaussians only, higher orders are quick too."""
    if len(participation.counts) == 2:
        return order <= 1000 * mechanism.noise_multiplier
    return order in _orders(mechanism.noise_multiplier, participation)


def _orders(noise: float, participation: ParticipationCounts) -> tuple[int, ...]:
    """Orders whose divergences do not need a grid of more than 20,000 points, and always 2."""
    most = min(1000 * noise / participation.counts[-1], 64)
    return tuple(order for order in ORDERS if order == 2 or order <= most)


def mixture_divergence(noise: float, participation: ParticipationCounts, order: int) -> float:
    """Rényi divergence of one step, the larger of both directions: E under N(0, σ²) of the density ratio to the power
    ``order`` (unit removed) and 1 - ``order`` (unit added), by the trapezoid rule; σ = ``noise``.

    The integrand is a sum of Gaussians of width σ with centres up to ``order`` times the largest count, so steps of
    σ/20 are exact to rounding. Owes nothing to the code of the other accountant.
    """
    points = np.arange(-12 * noise, order * participation.counts[-1] + 12 * noise, noise / 20)
    exponents = (np.outer(points, participation.counts) - participation.counts**2 / 2) / noise**2
    ratio = logsumexp(exponents, b=participation.chances, axis=1)
    density = norm.logpdf(points, scale=noise) + math.log(noise / 20)
    removed, added = (float(logsumexp(density + power * ratio)) for power in (order, 1 - order))
    return max(removed, added, 0.0) / (order - 1)
