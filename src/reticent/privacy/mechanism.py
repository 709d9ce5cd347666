# SPDX-License-Identifier: Apache-2.0
"""Mechanism: one step of private training, in the numbers that its privacy depends on."""

from __future__ import annotations

from dataclasses import dataclass

from dp_accounting import dp_event
from scipy.stats import binom

from reticent.core import validate


@dataclass(frozen=True, kw_only=True)
class Mechanism:
    """One step of training, as the accountant sees it.

    Args:
        noise_multiplier: standard deviation of the noise over the clip norm.
        rate: chance of a sampled unit to be in the step.
        owned: how many of the sampled units one protected unit can be behind.
        black_box: whether owners of several are accounted for by group privacy instead of a mixture.
    """

    noise_multiplier: float
    rate: float
    owned: int = 1
    black_box: bool = False

    def __post_init__(self) -> None:
        validate.positive(noise_multiplier=self.noise_multiplier, owned=self.owned)
        validate.in_range(0, 1, rate=self.rate)

    @property
    def event(self) -> dp_event.DpEvent:
        """One step for the accountant; with ``black_box``, for a single sampled unit."""
        if self.owned == 1 or self.black_box:
            gaussian = dp_event.GaussianDpEvent(self.noise_multiplier)
            return gaussian if self.rate == 1 else dp_event.PoissonSampledDpEvent(self.rate, gaussian)
        if self.rate == 1:
            return dp_event.GaussianDpEvent(self.noise_multiplier / self.owned)
        counts, chances = self.drawn
        return dp_event.MixtureOfGaussiansDpEvent(self.noise_multiplier, list(counts), list(chances))

    @property
    def drawn(self) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """How many records of an owner can be in a step, and with which chance: Binomial(owned, rate)."""
        counts = range(self.owned + 1)
        return tuple(counts), tuple(float(chance) for chance in binom.pmf(counts, self.owned, self.rate))
