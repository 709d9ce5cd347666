# SPDX-License-Identifier: Apache-2.0
"""Exact intervals: a binomial share (Clopper-Pearson), and a quantile by order statistics."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaincinv
from scipy.stats import binom

from reticent.core.errors import BadInput
from reticent.stats.scores import Floats


class Interval(NamedTuple):
    """Two ends of an interval: numbers, or arrays of one shape."""

    lo: Floats
    hi: Floats


class OrderInterval(NamedTuple):
    """An interval between two sorted values, given by their places.

    ``miss`` is the exact probability that the interval misses what it is for. ``below`` counts from the smallest
    value (0-based); -1 stands for minus infinity and n for plus infinity.
    """

    below: int
    above: int
    miss: float


def clopper_pearson_lower(successes: ArrayLike, trials: ArrayLike, miss: float) -> Floats:
    """Lower bound of a binomial share that is too high with probability at most ``miss``; broadcasts. 0 for 0 hits."""
    x, n = _counts(successes, trials)
    bound = betaincinv(np.maximum(x, 1), n - np.maximum(x, 1) + 1, miss)
    return np.where(x > 0, bound, 0.0)


def clopper_pearson_upper(successes: ArrayLike, trials: ArrayLike, miss: float) -> Floats:
    """Upper bound of a binomial share that is too low with probability at most ``miss``; broadcasts. 1 for n hits."""
    x, n = _counts(successes, trials)
    return 1.0 - clopper_pearson_lower(n - x, n, miss)


def clopper_pearson(successes: ArrayLike, trials: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Exact interval of a binomial share, both tails alike (doi:10.2307/2331986).

    Examples:
        >>> lo, hi = clopper_pearson(0, 10)
        >>> float(lo), round(float(hi), 4)
        (0.0, 0.3085)

    Args:
        successes, trials: counts, scalars or arrays that broadcast; ``0 <= successes <= trials``, ``trials >= 1``.
        confidence: coverage, at least; the exact interval covers more often than asked.

    Raises:
        BadInput: impossible counts.
    """
    miss = (1 - confidence) / 2
    return Interval(clopper_pearson_lower(successes, trials, miss), clopper_pearson_upper(successes, trials, miss))


@functools.lru_cache(maxsize=1024)
def quantile_order(n: int, share: float, miss: float) -> OrderInterval:
    """Places of the sorted values that hold the ``share``-quantile between them, free of any distribution.

    Each side misses with probability at most ``miss / 2``, ties or not: the count of values below a quantile is
    binomial. With few values a side can stay open (see `OrderInterval`).
    """
    below = int(binom.ppf(miss / 2, n, share)) - 1
    above = int(binom.isf(miss / 2, n, share))
    missed = float(binom.cdf(below, n, share) if below >= 0 else 0.0) + float(binom.sf(above, n, share))
    return OrderInterval(below, above, missed)


def _counts(successes: ArrayLike, trials: ArrayLike) -> tuple[Floats, Floats]:
    """Both as float64 of one shape, refused when they cannot be counts."""
    x, n = np.broadcast_arrays(np.asarray(successes, dtype=np.float64), np.asarray(trials, dtype=np.float64))
    if not np.all((x >= 0) & (x <= n) & (n >= 1)):
        raise BadInput(
            f"successes={successes!r}, trials={trials!r}",
            "these are no counts",
            "Give 0 <= successes <= trials and trials >= 1.",
        )
    return x, n
