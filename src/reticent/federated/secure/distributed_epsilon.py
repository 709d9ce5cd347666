# SPDX-License-Identifier: Apache-2.0
"""ε of distributed discrete noise, by Rényi divergences; for those who see that a client takes part, and those who do
not.

Neighbours: a client's update is zeroed out, its share of noise stays. Against whoever sees who takes part, sampling
hides nothing: a round counts in full. Against whoever sees only sums of constant noise, the divergence of a sampled
round is at most that of Mironov, Talwar and Zhang (2019, arXiv:1908.10530) with the moments of the discrete noise in
place of the Gaussian's: they are bounded by it (Canonne et al. 2020), and noise that is the same mirrored makes the
other direction the smaller one. No bound by privacy loss distributions is known for this noise, so ε is a tenth to a
third above that of one Gaussian by the finer accountant.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from dp_accounting.rdp.rdp_privacy_accountant import compute_epsilon
from scipy.optimize import brentq
from scipy.special import gammaln, logsumexp

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.federated.secure.distributed_noise import DistributedNoise
from reticent.privacy.renyi import ORDERS


class Observation(NamedTuple):
    """Rounds of one client as an observer sees them.

    Fields: ``rounds`` that may hold the client's update; ``rate``, its chance to be drawn, 1 for those who see it;
    ``shares`` of noise that the observer cannot subtract.
    """

    rounds: int
    rate: float
    shares: int


def distributed_epsilon(noise: DistributedNoise, observed: Observation, *, delta: float) -> float:
    """Upper bound on ε; infinite where no share of noise is left.

    Raises:
        BadInput: no δ, or a rate outside (0, 1].

    Examples:
        >>> noise = DistributedNoise.fitted(clip_norm=1, dimension=1000, noise_multiplier=1, threshold=20, clients=20)
        >>> round(distributed_epsilon(noise, Observation(30, 20 / 98, 20), delta=1e-3), 1)
        7.0
    """
    validate.in_range(0, 1, delta=delta, rate=observed.rate)
    if observed.rounds == 0:
        return 0.0
    if observed.shares < 1:
        return math.inf
    losses = [observed.rounds * sampled_divergence(noise, observed, order) for order in ORDERS]
    return float(compute_epsilon(ORDERS, losses, delta)[0])


def sampled_divergence(noise: DistributedNoise, observed: Observation, order: int) -> float:
    """Upper bound on the Rényi divergence of one round, of a whole order of 2 or more."""
    full = float(noise.divergence(order, shares=observed.shares))
    if observed.rate == 1:
        return full
    k = np.arange(order + 1)
    moments = np.zeros(order + 1)
    moments[2:] = (k[2:] - 1) * noise.divergence(k[2:], shares=observed.shares)
    chances = gammaln(order + 1) - gammaln(k + 1) - gammaln(order - k + 1)
    chances += k * math.log(observed.rate) + (order - k) * math.log1p(-observed.rate)
    return float(min(max(logsumexp(chances + moments), 0.0) / (order - 1), full))


def calibrated_noise(
    noise: DistributedNoise, observed: Observation, *, epsilon: float, delta: float
) -> DistributedNoise:
    """The same with the smallest noise multiplier, to three digits, that keeps ε.

    The lattice is fitted anew: its levels depend on the noise.

    Raises:
        BadInput: an ε that is not positive, or none that noise up to 1,000 could keep.

    Examples:
        >>> noise = DistributedNoise.fitted(clip_norm=1, dimension=1000, noise_multiplier=1, threshold=20, clients=20)
        >>> chosen = calibrated_noise(noise, Observation(30, 20 / 98, 20), epsilon=8, delta=1e-3)
        >>> 0.94 < chosen.noise_multiplier < 0.96
        True
    """
    validate.positive(epsilon=epsilon)

    def of(log_noise: float) -> DistributedNoise:
        return DistributedNoise.fitted(
            clip_norm=noise.lattice.clip_norm,
            dimension=noise.lattice.dimension,
            noise_multiplier=math.exp(log_noise),
            threshold=noise.threshold,
            clients=noise.clients,
        )

    def excess(log_noise: float) -> float:
        return math.log(max(distributed_epsilon(of(log_noise), observed, delta=delta), 1e-12) / epsilon)

    low, high = math.log(0.05), math.log(1000)
    if excess(high) > 0:
        raise BadInput(f"epsilon={epsilon:g}", "is less than any noise worth adding could keep", "Give a larger one.")
    if excess(low) <= 0:
        return of(low)
    log_noise = float(brentq(excess, low, high, xtol=3e-4))
    while excess(log_noise) > 0:
        log_noise += 3e-4
    return of(log_noise)
