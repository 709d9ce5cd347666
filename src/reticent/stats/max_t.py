# SPDX-License-Identifier: Apache-2.0
"""Many tests of "the coin changed nothing" at once, as sharp as their likeness allows: step-down max-T, in groups.

Statistics of one level (every attack by its AUC and by its highest scores) are highly correlated. Bonferroni pays for
them as if they were not; the distribution of their largest value under re-thrown coins does not (Westfall and Young,
Resampling-Based Multiple Testing, 1993). Groups of statistics that were weighed beforehand are put together by a closed
test (Marcus, Peritz and Gabriel, doi:10.1093/biomet/63.3.655).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from reticent.core.errors import BadInput
from reticent.core.validate import in_range
from reticent.stats.scores import Floats

SAME = 1e-9
"""Standardised statistics that differ by less are the same: sums in another order round otherwise."""


class MaxT(NamedTuple):
    """One-sided p-values, small where the real statistic is large."""

    p: Floats
    """``[K]`` of each by itself."""
    adjusted: Floats
    """``[K]`` of the family: the smallest level of the whole family at which this one is rejected."""


class HypothesisGroup(NamedTuple):
    """Hypotheses that share a part of the error."""

    weight: float
    adjusted: Floats
    """``[K]`` adjusted within the group by a step-down procedure (`max_t`, `reticent.stats.hypothesis.holm`)."""


def max_t(statistics: ArrayLike) -> MaxT:
    """Step-down max-T over ``K`` statistics.

    Exact: if the real labels are exchangeable with the drawn ones, the chance that any adjusted p-value is at most α is
    at most α, whatever the correlations, ties and shapes. Statistics are brought to one scale by their mean, spread and
    skewness over all columns (Wilson and Hilferty's cube root), so that a share of few units, whose draws have a long
    tail, does not hide the others.

    Args:
        statistics: ``[K, 1 + draws]``; the first column is the real one. Larger = leaks more.

    Raises:
        BadInput: fewer than two columns, or NaN.
    """
    raw = np.asarray(statistics, dtype=np.float64)
    if raw.ndim != 2 or raw.shape[1] < 2 or np.isnan(raw).any():
        raise BadInput(f"statistics of shape {raw.shape}", "are no [K, 1 + draws] numbers", "Draw labels first.")
    z = _one_scale(raw)
    reached = z >= z[:, :1] - SAME
    p = reached.mean(axis=1)
    order = np.argsort(z[:, 0], kind="stable")  # smallest first: the family of each is itself and those before it
    largest = np.maximum.accumulate(z[order], axis=0)
    stepped = (largest >= z[order, :1] - SAME).mean(axis=1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(stepped[::-1])[::-1]
    return MaxT(p=p, adjusted=adjusted)


def closed(groups: Sequence[HypothesisGroup]) -> list[Floats]:
    """p-values adjusted for all groups together: one at most α is rejected while all errors stay within α.

    The error is divided by weight. What a group that is rejected as a whole does not need goes to the others.

    >>> groups = [HypothesisGroup(0.8, np.array([0.02])), HypothesisGroup(0.2, np.array([0.009, 0.4]))]
    >>> [row.round(3).tolist() for row in closed(groups)]
    [[0.025], [0.025, 0.4]]
    """
    for group in groups:
        in_range(0, np.inf, weight=group.weight)
    largest = [float(group.adjusted.max(initial=0.0)) for group in groups]
    adjusted = []
    for number, group in enumerate(groups):
        others = [index for index in range(len(groups)) if index != number and len(groups[index].adjusted)]
        worst = group.adjusted.copy()
        for size in range(1, len(others) + 1):
            for chosen in combinations(others, size):
                total = group.weight + sum(groups[index].weight for index in chosen)
                beside = min(largest[index] * total / groups[index].weight for index in chosen)
                worst = np.maximum(worst, np.minimum(group.adjusted * total / group.weight, beside))
        adjusted.append(np.minimum(worst, 1.0))
    return adjusted


def _one_scale(raw: Floats) -> Floats:
    """Standard scores of each row, with the skewness of gamma-like tails taken out; 0 where a row never moves."""
    middle = raw - raw.mean(axis=1, keepdims=True)
    spread = np.sqrt((middle**2).mean(axis=1, keepdims=True))
    still = spread < 1e-12 * (1 + np.abs(raw).max(axis=1, keepdims=True))
    z = np.where(still, 0.0, middle / np.where(still, 1.0, spread))
    skew = (z**3).mean(axis=1, keepdims=True)
    tilted = np.abs(skew) > 0.02
    shape = 4 / np.where(tilted, skew, 1.0) ** 2
    sign = np.where(skew < 0, -1.0, 1.0)
    root = np.cbrt(np.maximum(1 + sign * z / np.sqrt(shape), 0.0) + 1e-12 * sign * z)
    even = sign * (root - (1 - 1 / (9 * shape))) * 3 * np.sqrt(shape)
    return np.where(tilted & ~still, even, z)
