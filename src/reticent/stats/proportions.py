# SPDX-License-Identifier: Apache-2.0
"""Shares of units, and the paired difference of two, with intervals that hold for few units and for users' units.

Values lie in [0, 1]: hits (0 or 1), or degrees, whose spread a hit-or-miss of the same mean bounds.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv
from scipy.stats import t as student

from reticent.core.errors import BadInput, Underpowered
from reticent.core.finding import Estimate
from reticent.core.validate import in_range, same_length
from reticent.stats.scores import Floats, as_scores


def share(
    values: ArrayLike, cluster: ArrayLike | None = None, *, confidence: float = 0.95, higher_is_worse: bool = True
) -> Estimate:
    """Mean of values in [0, 1] with a Clopper-Pearson interval at the effective number of units.

    Without clusters the number of units: for hits, the exact interval (doi:10.2307/2331986). With clusters, the number
    of independent units that would spread as much as the clusters do, with the degrees of freedom of their variance
    (Korn and Graubard, 1998); where all clusters agree, the number of clusters. Never more than the units.

    Args:
        values: ``[N]`` in [0, 1].
        cluster: ``[N]`` user of each unit; None where units are independent.
        confidence: two-sided coverage.
        higher_is_worse: as in `Estimate`.

    Raises:
        BadInput: no values, or some outside [0, 1]; clusters of another length.
        Underpowered: the units of a single user.

    Examples:
        >>> estimate = share([1, 1, 0, 1])
        >>> estimate.value, round(estimate.lo, 3), round(estimate.hi, 3)
        (0.75, 0.194, 0.994)
    """
    x, owner = _checked(values, cluster, confidence)
    lo, hi = _ends(x, owner, (1 - confidence) / 2)
    return Estimate(
        value=float(x.mean()),
        lo=lo,
        hi=hi,
        n=len(x),
        method=_method("Clopper-Pearson", cluster, owner),
        confidence=confidence,
        higher_is_worse=higher_is_worse,
    )


def paired_difference(
    x: ArrayLike, y: ArrayLike, cluster: ArrayLike | None = None, *, confidence: float = 0.95
) -> Estimate:
    """``mean(x) - mean(y)`` of the same units: Newcombe's method 10 for pairs (Statistics in Medicine 17, 1998,
    2635-2650) on the intervals of `share`.

    The two intervals are joined by their distances from the means, with the correlation of ``x`` and ``y``; for hits
    with Newcombe's correction for continuity.

    Args:
        x, y: ``[N]`` in [0, 1], of the same units in the same order.
        cluster: ``[N]`` user of each unit; None where units are independent.
        confidence: two-sided coverage.

    Raises:
        BadInput: no values, some outside [0, 1], or lengths that differ.
        Underpowered: the units of a single user.

    Examples:
        >>> estimate = paired_difference([1, 1, 1, 0] * 10, [0, 1, 0, 0] * 10)
        >>> estimate.value, round(estimate.lo, 2), round(estimate.hi, 2)
        (0.5, 0.3, 0.65)
    """
    a, owner = _checked(x, cluster, confidence)
    b, _ = _checked(y, cluster, confidence)
    same_length(x=a, y=b)
    method = _method("Newcombe, paired", cluster, owner)
    return _joined((a, owner), (b, owner), _correlation(a, b), confidence, n=len(a), method=method)


def difference(
    x: ArrayLike,
    y: ArrayLike,
    x_cluster: ArrayLike | None = None,
    y_cluster: ArrayLike | None = None,
    *,
    confidence: float = 0.95,
) -> Estimate:
    """``mean(x) - mean(y)`` of different, independent units; otherwise as `paired_difference`."""
    a, a_owner = _checked(x, x_cluster, confidence)
    b, b_owner = _checked(y, y_cluster, confidence)
    method = _method("Newcombe, independent", x_cluster, a_owner)
    return _joined((a, a_owner), (b, b_owner), 0.0, confidence, n=len(a) + len(b), method=method)


def _joined(
    x: tuple[Floats, NDArray[np.intp]],
    y: tuple[Floats, NDArray[np.intp]],
    correlation: float,
    confidence: float,
    *,
    n: int,
    method: str,
) -> Estimate:
    miss = (1 - confidence) / 2
    (x_lo, x_hi), (y_lo, y_hi) = _ends(*x, miss), _ends(*y, miss)
    p, q = float(x[0].mean()), float(y[0].mean())
    below = _combined(p - x_lo, y_hi - q, correlation)
    above = _combined(x_hi - p, q - y_lo, correlation)
    return Estimate(
        value=p - q,
        lo=max(p - q - below, -1.0),
        hi=min(p - q + above, 1.0),
        n=n,
        method=method,
        confidence=confidence,
    )


def _combined(left: float, right: float, correlation: float) -> float:
    return math.sqrt(max(left**2 - 2 * correlation * left * right + right**2, 0.0))


def _correlation(x: Floats, y: Floats) -> float:
    if x.std() == 0 or y.std() == 0:
        return 0.0
    if np.isin(x, (0, 1)).all() and np.isin(y, (0, 1)).all():
        both, neither = float((x * y).sum()), float(((1 - x) * (1 - y)).sum())
        only_x, only_y = float((x * (1 - y)).sum()), float(((1 - x) * y).sum())
        product = both * neither - only_x * only_y
        if product > 0:  # Newcombe's correction: towards no correlation, which is the careful side
            product = max(product - len(x) / 2, 0.0)
        return product / math.sqrt((both + only_x) * (only_y + neither) * (both + only_y) * (only_x + neither))
    return float(np.corrcoef(x, y)[0, 1])


def _ends(x: Floats, owner: NDArray[np.intp], miss: float) -> tuple[float, float]:
    """Clopper-Pearson's two ends, each missed with probability ``miss``, at the effective number of units."""
    n = _effective(x, owner, miss)
    hits = float(x.mean()) * n
    lo = float(betaincinv(hits, n - hits + 1, miss)) if hits > 0 else 0.0
    hi = float(betaincinv(hits + 1, n - hits, 1 - miss)) if hits < n else 1.0
    mean = float(x.mean())
    return min(lo, mean), max(hi, mean)


def _effective(x: Floats, owner: NDArray[np.intp], miss: float) -> float:
    clusters = int(owner.max()) + 1
    n = len(x)
    if clusters == n:
        return float(n)
    mean = float(x.mean())
    total = np.bincount(owner, weights=x - mean)
    variance = clusters / (clusters - 1) * float((total**2).sum()) / n**2
    if variance < 1e-12 * mean * (1 - mean) or mean in (0.0, 1.0):
        return float(clusters)
    independent = mean * (1 - mean) / variance
    careful = (float(student.isf(miss, n - 1)) / float(student.isf(miss, clusters - 1))) ** 2
    return max(min(independent * careful, float(n)), 1.0)


def _checked(values: ArrayLike, cluster: ArrayLike | None, confidence: float) -> tuple[Floats, NDArray[np.intp]]:
    """Values, and the number of each unit's cluster."""
    in_range(0, 1, confidence=confidence)
    x = as_scores(values, name="values")
    if (x < 0).any() or (x > 1).any():
        raise BadInput("values", "some lie outside [0, 1]", "Give hits or degrees.")
    if cluster is None:
        return x, np.arange(len(x))
    names = np.asarray(cluster).astype(str)
    same_length(values=x, cluster=names)
    owner = np.unique(names, return_inverse=True)[1]
    if len(x) > 1 and owner.max() == 0:
        raise Underpowered(f"{len(x)} units of 1 user", "the spread between users cannot be told", "Use more users.")
    return x, owner


def _method(name: str, cluster: ArrayLike | None, owner: NDArray[np.intp]) -> str:
    if cluster is None or int(owner.max()) + 1 == len(owner):
        return name
    return f"{name} at the effective size of {int(owner.max()) + 1} users"
