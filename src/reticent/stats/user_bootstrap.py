# SPDX-License-Identifier: Apache-2.0
"""Intervals of any number that is computed from rows of users: whole users are drawn with replacement.

A statistic is given as what it is on each resample (`reticent.stats.resampling`: the first column is the sample
itself). The interval is the expanded percentile interval (Hesterberg, doi:10.1080/00031305.2015.1089789): quantiles
further out, by as much as Student's t of users - 1 is wider than a Gaussian, since a percentile interval of few users
is too narrow; and nowhere narrower than Student's t itself with the standard deviation of the resamples.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr
from scipy.stats import t as student

from reticent.core.errors import BadInput, Underpowered
from reticent.core.finding import Estimate
from reticent.core.validate import in_range, same_length
from reticent.stats.proportions import share
from reticent.stats.resampling import cluster_weights, weighted_mean
from reticent.stats.scores import Floats, as_scores

N_BOOT = 2000
"""Resamples."""
CELLS = 1 << 24
"""Most entries of a matrix of weights; more rows have fewer resamples, at least `LEAST`."""
LEAST = 400
CLOSED_FORM = 100_000
"""Rows from which on the error of a mean is the closed form of clustered rows, where users are many."""
CLOSED_FORM_USERS = 1000
DIFFERING = 10
"""Users that differ from most others, below which a bootstrap of them is not to be trusted."""


def owners(n: int, users: ArrayLike | None) -> NDArray[np.intp]:
    """``[n]`` numbers of the users from 0; without users each row its own.

    Raises:
        BadInput: another number of users than rows.
    """
    if users is None:
        return np.arange(n)
    names = np.asarray(users).astype(str)
    same_length(rows=range(n), users=names)
    return np.unique(names, return_inverse=True)[1]


def row_weights(owner: NDArray[np.intp], *, n_boot: int = N_BOOT, seed: int = 0) -> Floats:
    """``[N, 1 + n_boot]``: how often each row was drawn with its user; the first column is 1.

    Raises:
        Underpowered: the rows of a single user.
    """
    users = int(owner.max(initial=-1)) + 1
    if users < 2:
        raise Underpowered(f"{len(owner)} rows of {users} users", "their spread cannot be told", "Use more users.")
    draws = max(min(n_boot, CELLS // len(owner)), min(n_boot, LEAST))
    return cluster_weights(users, n_boot=draws, seed=seed)[owner]


def expanded_percentile(
    resampled: Floats,
    *,
    users: int,
    n: int,
    confidence: float = 0.95,
    unit: str = "",
    higher_is_worse: bool = True,
) -> Estimate:
    """The estimate of a statistic from its resamples.

    Args:
        resampled: ``[1 + B]``; the first is the value itself. Resamples that are NaN are left out.
        users: that were drawn.
        n: rows.
        confidence: two-sided coverage.
        unit, higher_is_worse: as in `Estimate`.

    Examples:
        >>> values = np.array([0.1, 0.4, 0.5, 0.9, 0.6])
        >>> estimate = expanded_percentile(values @ row_weights(np.arange(5)) / 5, users=5, n=5)
        >>> estimate.value, estimate.lo < 0.3, estimate.hi > 0.7
        (0.5, True, True)
    """
    in_range(0, 1, confidence=confidence)
    draws = resampled[1:][~np.isnan(resampled[1:])]
    if users < 2 or not len(draws):
        raise Underpowered(f"{n} rows of {users} users", "their spread cannot be told", "Use more users.")
    wide = float(student.ppf((1 + confidence) / 2, users - 1)) * math.sqrt(users / (users - 1))
    lo, hi = np.quantile(draws, [float(ndtr(-wide)), float(ndtr(wide))])
    value = float(resampled[0])
    error = wide * float(draws.std())
    lo, hi = min(float(lo), value - error), max(float(hi), value + error)
    return Estimate(
        value=value,
        lo=lo,
        hi=hi,
        n=n,
        method=f"bootstrap of {users} users or rows, expanded percentile, at least Student t",
        confidence=confidence,
        unit=unit,
        higher_is_worse=higher_is_worse,
    )


def mean_of_rows(
    values: ArrayLike,
    users: ArrayLike | None = None,
    *,
    confidence: float = 0.95,
    within: tuple[float, float] = (0.0, 1.0),
    unit: str = "",
    higher_is_worse: bool = True,
    seed: int = 0,
) -> Estimate:
    """Mean of rows, users drawn whole; from ``CLOSED_FORM`` rows of ``CLOSED_FORM_USERS`` users on by the closed form.

    Where fewer than ten users (or half of them) differ from the others, as with hits that are rare, a bootstrap knows
    too little of what it did not draw: Clopper-Pearson's interval at the effective number of rows takes its place
    (`reticent.stats.proportions.share`), and over the users where none differs at all.

    Args:
        values: ``[N]``, each in ``within``.
        users: ``[N]`` whose row it is; None where rows are independent.
        confidence: two-sided coverage.
        within: the range that a row can lie in: a share by default. An infinite range has no conservative interval:
            then rows that are all the same are refused.
        unit, higher_is_worse: as in `Estimate`.
        seed: of the drawing.

    Raises:
        BadInput: NaN, nothing, users of another length, or a value outside of ``within``.
        Underpowered: rows of a single user, or rows without spread in an infinite range.

    Examples:
        >>> print(mean_of_rows([0.2, 0.4, 0.9, 0.5]))
        0.500 [0.040, 0.960], n=4
        >>> print(mean_of_rows([1.0] * 30))
        1.000 [0.884, 1.000], n=30
    """
    x = as_scores(values, name="values")
    owner = owners(len(x), users)
    count = int(owner.max()) + 1
    if x.min() < within[0] or x.max() > within[1]:
        raise BadInput(
            f"values from {x.min():.4g} to {x.max():.4g}",
            f"lie outside of {within[0]:g} to {within[1]:g}, to which the interval would be cut",
            "Give the range that a row can lie in (within).",
        )
    if _few_differ(x, owner) and within == (0.0, 1.0):
        rare = share(x, owner, confidence=confidence, higher_is_worse=higher_is_worse)
        return replace(rare, unit=unit)
    estimate = _by_closed_form(x, owner, confidence) if _are_many(owner) else _by_resamples(x, owner, confidence, seed)
    if estimate is not None:
        lo, hi = max(estimate.lo, within[0]), min(estimate.hi, within[1])
        return replace(estimate, lo=lo, hi=hi, unit=unit, higher_is_worse=higher_is_worse)
    width = within[1] - within[0]
    if not math.isfinite(width):
        raise Underpowered(f"{len(x)} rows", "are all the same, so their spread cannot be told", "Use more rows.")
    value = float(x.mean())
    flat = share(np.full(count, (value - within[0]) / width), confidence=confidence)
    bounds = within[0] + width * flat.lo, within[0] + width * flat.hi
    return Estimate(
        value=value,
        lo=min(bounds[0], value),
        hi=max(bounds[1], value),
        n=len(x),
        method=f"{flat.method} over {count} users or rows (no variance in the sample)",
        confidence=confidence,
        unit=unit,
        higher_is_worse=higher_is_worse,
    )


def _are_many(owner: NDArray[np.intp]) -> bool:
    return len(owner) >= CLOSED_FORM and int(owner.max()) + 1 >= CLOSED_FORM_USERS


def _by_resamples(x: Floats, owner: NDArray[np.intp], confidence: float, seed: int) -> Estimate | None:
    """None where all resamples agree."""
    resampled = weighted_mean(x, np.ones(len(x)), row_weights(owner, seed=seed))
    if float(np.nanmax(resampled) - np.nanmin(resampled)) < 1e-12:
        return None
    return expanded_percentile(resampled, users=int(owner.max()) + 1, n=len(x), confidence=confidence)


def _by_closed_form(x: Floats, owner: NDArray[np.intp], confidence: float) -> Estimate | None:
    """Mean and Student t interval of clustered rows: users' sums less what their rows would have on average. None
    without spread."""
    users, value = int(owner.max()) + 1, float(x.mean())
    error = math.sqrt(users / (users - 1) * float((np.bincount(owner, weights=x - value) ** 2).sum())) / len(x)
    if error < 1e-12:
        return None
    half = float(student.ppf((1 + confidence) / 2, users - 1)) * error
    method = f"clustered variance of {users} users or rows, Student t"
    return Estimate(value=value, lo=value - half, hi=value + half, n=len(x), method=method, confidence=confidence)


def _few_differ(x: Floats, owner: NDArray[np.intp]) -> bool:
    """True if most users have one and the same mean, and few another."""
    means = np.bincount(owner, weights=x) / np.bincount(owner)
    _, counts = np.unique(means.round(12), return_counts=True)
    differing = len(means) - int(counts.max())
    return 0 < differing < min(DIFFERING, len(means) / 2)
