# SPDX-License-Identifier: Apache-2.0
"""Distributed noise: each client adds a share, so that the sum is noised before anybody sees it.

Each share is a discrete Gaussian of variance σ²C² / threshold, rounded up to a whole number of squared steps; so the
sum of any ``threshold`` clients carries the promised σ²C² or more, whoever dropped out. The sum of discrete Gaussians
is not one itself, but its probabilities are off by a factor of at most ``exp(closeness)`` a number (Kairouz, Liu and
Steinke 2021, arXiv:2102.06387), which `divergence` counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.federated.secure.discrete_gaussian import LARGEST_VARIANCE, discrete_gaussian
from reticent.federated.secure.lattice import Lattice, Whole, check_modulus
from reticent.federated.secure.random_bits import RandomBits

OVERFLOW = 2.0**-40
"""Chance that the noise of some number in some round is larger than is allowed for; such a sum is wrong, and no less
private."""
LONGER = 0.01
"""By how much rounding may make an update longer, where the levels follow from the other numbers."""
LEAST_STD = 3.0
"""Steps that a share of noise has for a standard deviation, at least, where the levels follow."""


@dataclass(frozen=True, kw_only=True)
class DistributedNoise:
    """Noise of one secure round.

    Args:
        lattice: steps and clip norm.
        noise_multiplier: σ: standard deviation that the sum of ``threshold`` shares has at least, over the clip norm.
        threshold: the fewest clients whose sum is opened.
        clients: the most whose sum can be.

    Raises:
        BadInput: shares of noise that are too small or too large for the sampler.

    Examples:
        >>> noise = DistributedNoise.fitted(
        ...     clip_norm=0.5, dimension=10_000, noise_multiplier=1.0, threshold=8, clients=10
        ... )
        >>> noise.lattice.levels, noise.variance, noise.bits(rounds=30)
        (607, 46057, 15)
        >>> 1.0 < noise.sensitivity / noise.lattice.levels < 1.02
        True
    """

    lattice: Lattice
    noise_multiplier: float
    threshold: int
    clients: int

    def __post_init__(self) -> None:
        validate.positive(noise_multiplier=self.noise_multiplier, threshold=self.threshold)
        validate.in_range(self.threshold - 1, 1 << 20, clients=self.clients)
        if self.variance > LARGEST_VARIANCE:
            raise BadInput(
                f"{self.lattice.levels} levels at noise multiplier {self.noise_multiplier:g}",
                "are shares of noise that are too large for the sampler",
                f"Give at most {math.isqrt(int(LARGEST_VARIANCE * self.threshold / self.noise_multiplier**2))} levels.",
            )

    @classmethod
    def fitted(
        cls, *, clip_norm: float, dimension: int, noise_multiplier: float, threshold: int, clients: int
    ) -> DistributedNoise:
        """With the fewest levels at which rounding makes no update longer than by about `LONGER` and each share of
        noise has a standard deviation of `LEAST_STD` steps; fewer where the sampler could not draw so much noise, at
        the cost of longer updates, which are counted."""
        root = math.sqrt(dimension)
        gain = math.sqrt(2 * math.log(2.0**40))
        # (1 + LONGER)² - 1 of the squared length for d/4 + gain·(levels + √d/2), a quadratic in the levels.
        room = 2 * LONGER + LONGER**2
        for_length = (gain + math.sqrt(gain**2 + 4 * room * (dimension / 4 + gain * root / 2))) / (2 * room)
        for_noise = LEAST_STD * math.sqrt(threshold) / noise_multiplier
        most = max(math.isqrt(math.floor(LARGEST_VARIANCE * threshold / noise_multiplier**2)), 1)
        levels = min(math.ceil(max(for_length, for_noise)), most)
        lattice = Lattice(clip_norm=clip_norm, levels=levels, dimension=dimension)
        return cls(lattice=lattice, noise_multiplier=noise_multiplier, threshold=threshold, clients=clients)

    @property
    def variance(self) -> int:
        """Of the noise that each client adds, in squared steps."""
        exact = (self.noise_multiplier * self.lattice.levels) ** 2 / self.threshold
        return max(math.ceil(exact * (1 - 1e-12)), 1)

    @property
    def sensitivity(self) -> float:
        """The most that one client's rounded update can be, in steps; a little more than the levels."""
        return self.lattice.rounded_norm

    @property
    def closeness(self) -> float:
        """τ: for each number, by how much the log-probabilities of the sum of shares may differ between neighbours more
        than those of one discrete Gaussian; for any number of shares up to ``clients`` and a top-up."""
        shares = np.arange(1, self.clients + 1)
        return float(10 * np.exp(-2 * math.pi**2 * self.variance * shares / (shares + 1)).sum())

    def share(self, key: bytes, *, round_: int) -> Whole:
        """A client's noise, ``[dimension]`` in steps.

        Args:
            key: 32 secret bytes of the client.
            round_: of the federation; a key must serve a round once.
        """
        bits = RandomBits(key, "noise share", round_)
        return discrete_gaussian(bits, self.variance, self.lattice.dimension)

    def top_up(self, key: bytes, *, round_: int, present: int) -> Whole:
        """Noise that the server adds to a sum that it publishes, as if all ``clients`` had been there.

        How much noise a sum carries tells how many clients are in it. With the top-up it tells nothing, and sampling
        amplifies the promise against whoever sees only what is published.
        """
        missing = self.clients - present
        if missing == 0:
            return np.zeros(self.lattice.dimension, dtype=np.int64)
        bits = RandomBits(key, "noise top-up", round_)
        total = np.zeros(self.lattice.dimension, dtype=np.int64)
        most = max(LARGEST_VARIANCE // self.variance, 1)
        while missing > 0:
            total += discrete_gaussian(bits, min(missing, most) * self.variance, self.lattice.dimension)
            missing -= min(missing, most)
        return total

    def largest_noise(self, rounds: int) -> float:
        """A bound on the noise of a sum of all clients that `OVERFLOW` is the chance of breaking, in any number of any
        round: the discrete Gaussian's tails are below the Gaussian's (Canonne et al. 2020, Corollary 17)."""
        chances = OVERFLOW / (2 * self.lattice.dimension * rounds)
        return math.sqrt(2 * self.clients * self.variance * math.log(1 / chances))

    def bits(self, rounds: int) -> int:
        """The smallest modulus, in bits, that the sum of all clients fits into.

        Raises:
            BadInput: it would be above 32.
        """
        most = self.clients * self.lattice.levels + math.ceil(self.largest_noise(rounds))
        bits = max((2 * most + 1).bit_length(), 8)
        self.check_bits(min(bits, 32), rounds)
        return bits

    def check_bits(self, bits: int, rounds: int) -> None:
        """Refuse a modulus that a sum could wrap around in."""
        check_modulus(bits, clients=self.clients, levels=self.lattice.levels, noise=self.largest_noise(rounds))

    def divergence(self, order: npt.ArrayLike, *, shares: int) -> npt.NDArray[np.float64]:
        """Upper bounds on the Rényi divergence of a sum with and without one client's update.

        Args:
            order: ``[...]``, above 1.
            shares: of noise that the observer cannot subtract.

        Source: Kairouz, Liu and Steinke 2021, Proposition 14, the two of its three bounds that need no ℓ₁ norm.
        """
        scale = self.sensitivity / math.sqrt(shares * self.variance)
        root = math.sqrt(self.lattice.dimension)
        half = np.asarray(order, dtype=np.float64) / 2
        added = half * scale**2 + self.closeness * self.lattice.dimension
        return np.minimum(added, half * (scale + self.closeness * root) ** 2)
