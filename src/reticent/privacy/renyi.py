# SPDX-License-Identifier: Apache-2.0
"""ε by Rényi divergences: coarser than privacy loss distributions, and beside them as a check.

The sampled Gaussian has a closed form (Mironov, Talwar and Zhang 2019, arXiv:1908.10530); mixtures of Gaussians are
integrated here.
"""

from __future__ import annotations

import math

import numpy as np
from dp_accounting import dp_event
from dp_accounting.rdp import RdpAccountant
from dp_accounting.rdp.rdp_privacy_accountant import compute_epsilon
from scipy.special import logsumexp
from scipy.stats import norm

from reticent.privacy.mechanism import Mechanism

ORDERS = (*range(2, 64), 80, 96, 128, 256, 512, 1024)
"""Whole numbers only: with others the closed form of the sampled Gaussian does not always converge."""


def renyi_epsilon(mechanism: Mechanism, *, steps: int, delta: float) -> float:
    """Upper bound on ε of ``steps`` steps at ``delta``; with ``black_box`` of a single sampled unit."""
    if isinstance(mechanism.event, dp_event.MixtureOfGaussiansDpEvent):
        orders = _mixture_orders(mechanism)
        losses = [steps * _mixture_divergence(mechanism, order) for order in orders]
        return float(compute_epsilon(orders, losses, delta)[0])
    return float(RdpAccountant(ORDERS).compose(dp_event.SelfComposedDpEvent(mechanism.event, steps)).get_epsilon(delta))


def _mixture_orders(mechanism: Mechanism) -> tuple[int, ...]:
    """Orders whose divergences do not need a grid of more than 20,000 points, and always 2."""
    most = 1000 * mechanism.noise_multiplier / mechanism.owned
    return tuple(order for order in ORDERS if order == 2 or order <= min(most, 64))


def _mixture_divergence(mechanism: Mechanism, order: int) -> float:
    """Rényi divergence of one step, the larger of both directions: E under N(0, σ²) of the density ratio to the power
    ``order`` (unit removed) and 1 - ``order`` (unit added), by the trapezoid rule.

    The integrand is a sum of Gaussians of width σ with centres up to ``order``·``owned``, so steps of σ/20 are exact
    to rounding. Owes nothing to the code of the other accountant.
    """
    sigma = mechanism.noise_multiplier
    counts, chances = (np.array(values) for values in mechanism.drawn)
    points = np.arange(-12 * sigma, order * mechanism.owned + 12 * sigma, sigma / 20)
    exponents = (np.outer(points, counts) - counts**2 / 2) / sigma**2
    ratio = logsumexp(exponents, b=chances, axis=1)
    density = norm.logpdf(points, scale=sigma) + math.log(sigma / 20)
    removed, added = (float(logsumexp(density + power * ratio)) for power in (order, 1 - order))
    return max(removed, added, 0.0) / (order - 1)
