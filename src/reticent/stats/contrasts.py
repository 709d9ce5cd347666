# SPDX-License-Identifier: Apache-2.0
"""Mean of the treated minus mean of the controls, for several contrasts of the same panel at once.

A contrast is a weight on each look at a unit: "this look minus the last one before". What is estimated is the mean of
the treated units' own contrasts, less what the same contrasts give on the units that were never treated. All of them
share units, so their intervals are made together and hold together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import norm
from scipy.stats import t as student

from reticent.core.finding import Estimate
from reticent.stats.scores import Floats

CELLS = 1 << 21
"""Entries of one block of multipliers, so that memory does not grow with their number."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PanelDesign:
    """``C`` looks at units, in clusters that are independent of each other.

    Args:
        treated: ``[T, C]`` outcomes of the units that are treated at some time.
        control: ``[M, C]`` of those that never are.
        treated_cluster: ``[T]`` numbers of clusters, from 0.
        control_cluster: ``[M]``; may share clusters with the treated.
        clusters: how many there are.
    """

    treated: Floats
    control: Floats
    treated_cluster: NDArray[np.intp]
    control_cluster: NDArray[np.intp]
    clusters: int


class LinearStatistic(Protocol):
    """A number whose error is known cluster by cluster."""

    @property
    def influence(self) -> Floats:
        """``[clusters]``: what each cluster adds to the error; their squares sum to its variance."""

    @property
    def error(self) -> float:
        """Standard error."""


class Contrast(NamedTuple):
    """One estimated contrast, before it has an interval."""

    value: float
    influence: Floats
    """``[clusters]``: what each cluster adds to the error of ``value``; their squares sum to its variance."""
    freedom: float
    """Degrees of freedom of that variance (Welch-Satterthwaite)."""
    n: int
    """Units that it rests on, treated and controls."""

    @property
    def error(self) -> float:
        """Standard error."""
        return float(np.sqrt((self.influence**2).sum()))


def contrast(panel: PanelDesign, chosen: NDArray[np.bool_], weight: Floats) -> Contrast:
    """Mean over the ``chosen`` treated units of ``weight · outcomes``, less the same of the controls.

    Each treated unit is compared with the mean of all controls under its own weights, so units may be treated at
    different times. With one time and a cluster a unit the standard error is Welch's:
    ``sqrt(Var(treated) / n + Var(control) / m)``.

    Args:
        panel: the outcomes.
        chosen: ``[T]`` which of the treated.
        weight: ``[T, C]`` what their looks count.
    """
    weight, outcome = weight[chosen], panel.treated[chosen]
    against = panel.control.mean(axis=0)
    by_time = np.einsum("tc,tc->t", weight, outcome - against)
    others = panel.control @ weight.mean(axis=0)
    value = float(by_time.mean())
    parts = [
        _part(by_time - value, panel.treated_cluster[chosen], panel.clusters),
        _part(others.mean() - others, panel.control_cluster, panel.clusters),
    ]
    variances = [float((part**2).sum()) for part, _ in parts]
    freedom = float(min(count - 1 for _, count in parts))
    if sum(variances) > 0:
        terms = [variance**2 / (count - 1) for variance, (_, count) in zip(variances, parts, strict=True)]
        freedom = min(panel.clusters - 1.0, sum(variances) ** 2 / sum(terms))
    return Contrast(value, parts[0][0] + parts[1][0], freedom, len(by_time) + len(others))


def _part(deviation: Floats, cluster: NDArray[np.intp], clusters: int) -> tuple[Floats, int]:
    """Contribution of each cluster to the error of a mean, for few clusters enlarged as a sample variance is."""
    count = len(np.unique(cluster))
    sums = np.bincount(cluster, weights=deviation, minlength=clusters) / len(deviation)
    return sums * np.sqrt(count / (count - 1)), count


def together(
    contrasts: Sequence[Contrast], *, confidence: float, unit: str, draws: int, seed: int, clustered: bool
) -> list[Estimate]:
    """An estimate for each contrast, with intervals that all hold together with probability ``confidence``.

    Multiplier bootstrap: clusters' influences times standard normal multipliers give the joint distribution of the
    errors; its largest one gives the confidence of each single interval, and that one uses Student's t. One contrast
    alone has exactly Welch's interval.

    Args:
        contrasts: what is shown together.
        confidence: that all hold.
        unit: of the outcomes.
        draws: of the multipliers.
        seed: of the multipliers.
        clustered: whether clusters hold several units, for the name of the method.
    """
    if not contrasts:
        return []
    single = confidence
    if len(contrasts) > 1:
        limit = float(np.quantile(largest(contrasts, draws=draws, seed=seed), confidence))
        single = max(confidence, 1 - 2 * float(norm.sf(limit)))
    method = "clustered by user, " if clustered else ""
    method += "Student t" if len(contrasts) == 1 else "multiplier bootstrap, Student t"
    estimates = []
    for contrast_given in contrasts:
        half = float(student.ppf((1 + single) / 2, contrast_given.freedom)) * contrast_given.error
        estimates.append(
            Estimate(
                value=contrast_given.value,
                lo=contrast_given.value - half,
                hi=contrast_given.value + half,
                n=contrast_given.n,
                method=method,
                confidence=single,
                unit=unit,
            )
        )
    return estimates if len(estimates) == 1 else [replace(estimate, joint=confidence) for estimate in estimates]


def joint_p(contrasts: Sequence[Contrast], *, draws: int, seed: int) -> float:
    """p-value for "all contrasts are 0", by the largest of them in standard errors; never below ``1 / (draws + 1)``."""
    observed = 0.0
    for single in contrasts:
        if single.error > 0:
            tail = float(student.sf(abs(single.value) / single.error, single.freedom))
            observed = max(observed, float(-ndtri(max(tail, 1e-300))))
        elif single.value != 0:
            observed = np.inf
    reached = int(np.count_nonzero(largest(contrasts, draws=draws, seed=seed) >= observed))
    return (1 + reached) / (1 + draws)


def largest(contrasts: Sequence[LinearStatistic], *, draws: int, seed: int) -> Floats:
    """``[draws]`` largest error among the contrasts, in standard errors, by normal multipliers on the clusters."""
    errors = np.array([single.error for single in contrasts])
    influence = np.stack([single.influence for single in contrasts])[errors > 0] / errors[errors > 0, None]
    if not len(influence):
        return np.zeros(draws)
    rng = np.random.default_rng(seed)
    block = max(1, CELLS // influence.shape[1])
    maxima = []
    for start in range(0, draws, block):
        multipliers = rng.standard_normal((min(block, draws - start), influence.shape[1]))
        maxima.append(np.abs(multipliers @ influence.T).max(axis=1))
    return np.concatenate(maxima)
