# SPDX-License-Identifier: Apache-2.0
"""Do two samples come from one distribution? The Kolmogorov-Smirnov statistic with an interval beside its p-value.

A p-value near 1 says nothing about how near two distributions are: few rows give it to any two. The statistic, the
largest gap between the two distribution functions, is a distance in [0, 1], and its interval says how far they may be
apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import ks_2samp

from reticent.core.errors import Underpowered
from reticent.core.finding import Estimate
from reticent.core.validate import in_range, same_length
from reticent.stats.resampling import cluster_weights
from reticent.stats.scores import Floats, as_scores

N_BOOT = 1000
"""Resamples."""
CELLS = 1 << 21
"""Entries of one block of resamples."""


@dataclass(frozen=True, kw_only=True)
class DistributionGap:
    """Kolmogorov and Smirnov's test of two samples.

    Args:
        statistic: largest gap between the distribution functions, 0 to 1, with an interval for that of the two
            populations; 0 in it means that no difference is shown, and its upper end is how different they may be.
        p_value: two-sided, of rows that are independent of each other; exact for small samples. 1 for a sample against
            itself.
        x, y: rows of each sample.
        paired: true if users have rows in both samples, as the same questions asked of two models do: then the p-value
            is too large, and only the interval takes the likeness into account.
    """

    statistic: Estimate
    p_value: float
    x: int
    y: int
    paired: bool


def distribution_gap(
    x: ArrayLike,
    y: ArrayLike,
    x_users: ArrayLike | None = None,
    y_users: ArrayLike | None = None,
    *,
    confidence: float = 0.95,
    n_boot: int = N_BOOT,
    seed: int = 0,
) -> DistributionGap:
    """The largest gap between two distribution functions, its p-value, and an interval of the populations' gap.

    The interval is ``D ± c``: c is the quantile, over resamples of whole users, of the largest error that both
    empirical distribution functions make together, so it holds at a gap of 0 too, where a bootstrap of D itself does
    not (there D has no Gaussian limit). It is careful: it covers more often than asked.

    Args:
        x: ``[N_x]``; infinite values are ranks.
        y: ``[N_y]``.
        x_users: ``[N_x]`` whose row it is; None where rows are independent.
        y_users: ``[N_y]``; users may have rows in both samples.
        confidence: two-sided coverage of the interval, at least.
        n_boot: resamples.
        seed: of the resampling.

    Raises:
        BadInput: NaN or nothing, users of another length, users of one sample only.
        Underpowered: a sample of fewer than 2 users or rows.

    Sources: doi:10.1214/aoms/1177730256 (the statistic), doi:10.1007/978-1-4757-2545-2 (bootstrap of the process).

    Examples:
        >>> gap = distribution_gap([0.1, 0.2, 0.3, 0.4, 0.5], [0.3, 0.5, 0.7, 0.9, 1.1])
        >>> round(gap.statistic.value, 6), round(gap.p_value, 6), gap.statistic.lo
        (0.6, 0.357143, 0.0)
    """
    in_range(0, 1, confidence=confidence)
    a, b = as_scores(x, name="x"), as_scores(y, name="y")
    a_owner, b_owner, users = _owners(a, b, x_users, y_users)
    for name, owner in (("x", a_owner), ("y", b_owner)):
        if len(np.unique(owner)) < 2:
            raise Underpowered(f"{name} of 1 user or row", "its spread cannot be told", "Use more of them.")
    tested = ks_2samp(a, b)
    paired = len(np.intersect1d(a_owner, b_owner)) > 0
    errors = _errors(a, b, a_owner, b_owner, users, n_boot=n_boot, seed=seed)
    few = min(len(np.unique(a_owner)), len(np.unique(b_owner)))
    half = float(np.quantile(errors, confidence)) * float(np.sqrt(few / (few - 1)))
    value = float(tested.statistic)
    statistic = Estimate(
        value=value,
        lo=max(0.0, value - half),
        hi=min(1.0, value + half),
        n=len(a) + len(b),
        method=f"bootstrap of {users} users or rows: largest error of both distribution functions",
        confidence=confidence,
    )
    return DistributionGap(statistic=statistic, p_value=float(tested.pvalue), x=len(a), y=len(b), paired=paired)


def _owners(
    a: Floats, b: Floats, x_users: ArrayLike | None, y_users: ArrayLike | None
) -> tuple[NDArray[np.intp], NDArray[np.intp], int]:
    """Numbers of the users of both samples, and how many there are; without users, each row its own."""
    if x_users is None and y_users is None:
        return np.arange(len(a)), len(a) + np.arange(len(b)), len(a) + len(b)
    first = np.array([f"x{row}" for row in range(len(a))]) if x_users is None else np.asarray(x_users).astype(str)
    second = np.array([f"y{row}" for row in range(len(b))]) if y_users is None else np.asarray(y_users).astype(str)
    same_length(x=a, x_users=first)
    same_length(y=b, y_users=second)
    names, number = np.unique(np.concatenate([first, second]), return_inverse=True)
    return number[: len(a)], number[len(a) :], len(names)


def _errors(
    a: Floats, b: Floats, a_owner: NDArray[np.intp], b_owner: NDArray[np.intp], users: int, *, n_boot: int, seed: int
) -> Floats:
    """``[draws]`` largest ``|(F* - F) - (G* - G)|`` of resamples of users; those with an empty sample are left out."""
    values, place = np.unique(np.concatenate([a, b]), return_inverse=True)
    counts = np.zeros((2, len(values), users))
    np.add.at(counts[0], (place[: len(a)], a_owner), 1.0)
    np.add.at(counts[1], (place[len(a) :], b_owner), 1.0)
    weights = cluster_weights(users, n_boot=n_boot, seed=seed)
    block = max(1, CELLS // len(values))
    seen = _functions(counts, weights[:, :1])
    observed = seen[0] - seen[1]
    errors = []
    for start in range(1, n_boot + 1, block):
        first, second = _functions(counts, weights[:, start : start + block])
        errors.append(np.abs(first - second - observed).max(axis=0))
    every = np.concatenate(errors)
    return every[~np.isnan(every)]


def _functions(counts: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Both distribution functions at each value, ``[V, B]``, for each column of users' weights."""
    with np.errstate(invalid="ignore", divide="ignore"):
        first, second = (np.cumsum(side @ weight, axis=0) / (side @ weight).sum(axis=0) for side in counts)
    return first, second
