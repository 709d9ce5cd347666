# SPDX-License-Identifier: Apache-2.0
"""Mechanism: one step of private training, in the numbers that its privacy depends on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from dp_accounting import dp_event
from scipy.stats import binom

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.privacy.spec import ADD_OR_REMOVE, RELATIONS, REPLACE_ONE


@dataclass(frozen=True, kw_only=True)
class Mechanism:
    """One step of training, as the accountant sees it.

    Args:
        noise_multiplier: standard deviation of the noise over the clip norm.
        rate: chance of a sampled unit to be in the step.
        owned: how many of the sampled units one protected unit can be behind.
        black_box: whether owners of several are accounted for by group privacy instead of a mixture.
        relation: what neighbouring data sets differ by, of `RELATIONS`.

    Raises:
        BadInput: out of range, or owners of several sampled units who are replaced, which no mixture accounts for.

    Examples:
        >>> step = Mechanism(noise_multiplier=1.0, rate=0.01)
        >>> step.rate, step.relation
        (0.01, 'add_or_remove')
    """

    noise_multiplier: float
    rate: float
    owned: int = 1
    black_box: bool = False
    relation: str = ADD_OR_REMOVE

    def __post_init__(self) -> None:
        validate.positive(noise_multiplier=self.noise_multiplier, owned=self.owned)
        validate.in_range(0, 1, rate=self.rate)
        validate.one_of(RELATIONS, relation=self.relation)
        if self.relation == REPLACE_ONE and self.owned > 1 and not self.black_box and self.rate < 1:
            raise BadInput(
                f"relation={REPLACE_ONE!r} for owners of {self.owned} sampled records",
                "no accountant at hand counts owners who are replaced as a mixture of Gaussians",
                "Give --user_sampling user or group, or another --relation.",
            )

    @property
    def shift(self) -> float:
        """How far a step in which all of a protected unit is drawn can move, in clip norms, between neighbours."""
        return self.owned * (2.0 if self.relation == REPLACE_ONE else 1.0)

    @property
    def event(self) -> dp_event.DpEvent:
        """One step for the accountant; with ``black_box``, for a single sampled unit."""
        if self.owned == 1 or self.black_box:
            gaussian = dp_event.GaussianDpEvent(self.noise_multiplier)
            return gaussian if self.rate == 1 else dp_event.PoissonSampledDpEvent(self.rate, gaussian)
        if self.rate == 1:
            return dp_event.GaussianDpEvent(self.noise_multiplier / self.owned)
        return self.participation().event(self.noise_multiplier)

    def participation(self, tail: float = 0.0) -> ParticipationCounts:
        """How many units of one owner are in a step: Binomial(owned, rate), without its largest values as far as they
        have a chance of at most ``tail``, which is then named as cut; a single unit with ``black_box``."""
        owned = 1 if self.black_box else self.owned
        most = owned if tail == 0 else max(1, int(binom.isf(tail, owned, self.rate)))
        counts = np.arange(most + 1)
        cut = float(binom.sf(most, owned, self.rate))
        return ParticipationCounts(counts=counts, chances=binom.pmf(counts, owned, self.rate) / (1 - cut), cut=cut)


class ParticipationCounts(NamedTuple):
    """``chances`` of ``counts``, under the condition that none of those happens that have the chance ``cut``.

    Let P be what training shows with the owner and Q without, over T steps, and P' be P under that condition in each
    step. P is at most P' but for T·cut, and at least (1 - cut)^T·P'. So where (ε, δ) holds between P' and Q,
    (ε - T·log(1 - cut), δ + T·cut) holds between P and Q.
    """

    counts: npt.NDArray[np.int64]
    chances: npt.NDArray[np.float64]
    cut: float

    def event(self, noise_multiplier: float) -> dp_event.DpEvent:
        """A mixture of Gaussians, one for each count."""
        return dp_event.MixtureOfGaussiansDpEvent(noise_multiplier, self.counts.tolist(), self.chances.tolist())
