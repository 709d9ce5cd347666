# SPDX-License-Identifier: Apache-2.0
"""Exact samples of the discrete Gaussian (Canonne, Kamath and Steinke 2020, arXiv:2004.00010), many at a time.

Only whole numbers are compared with uniform whole numbers, so probabilities are those of the definition: no floating
point rounds them, and nothing is cut off. The paper's three algorithms each become a loop over those that are not
settled yet.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from reticent.core.errors import BadInput
from reticent.federated.secure.random_bits import RandomBits

LARGEST_VARIANCE = 1 << 28
"""Above, numerators would not fit into 63 bits within 32 standard deviations."""
_FARTHEST = 32
"""Standard deviations within which all numbers fit; beyond, the proposal is given up, which changes a probability below
e^-480."""

Counts = npt.NDArray[np.int64]
Coins = npt.NDArray[np.bool_]


def discrete_gaussian(bits: RandomBits, variance: int, count: int) -> Counts:
    """Whole numbers x with probability proportional to ``exp(-x²/(2·variance))``.

    Args:
        bits: the source of randomness.
        variance: whole, at least 1, at most `LARGEST_VARIANCE`. The variance of the samples is a little less.
        count: of samples.

    Returns:
        ``[count]`` int64.

    Raises:
        BadInput: a variance out of range.

    Examples:
        >>> drawn = discrete_gaussian(RandomBits(b"k" * 32, "noise", 0), 100, 10_000)
        >>> abs(float(drawn.mean())) < 0.5, 95 < float(drawn.var()) < 105
        (True, True)
    """
    if not 1 <= variance <= LARGEST_VARIANCE:
        raise BadInput(f"variance={variance}", f"must be in 1 … {LARGEST_VARIANCE}", "Take fewer or more levels.")
    scale = math.isqrt(variance) + 1
    drawn: list[Counts] = []
    missing = count
    while missing > 0:
        proposed = discrete_laplace(bits, scale, missing + missing // 2 + 8)
        proposed = proposed[np.abs(proposed) <= _FARTHEST * scale]
        # exp(-(|y| - σ²/t)²/(2σ²)), with both sides of the fraction made whole by t².
        above = (np.abs(proposed) * scale - variance) ** 2
        accepted = proposed[exponential_coins(bits, above, 2 * variance * scale**2)]
        drawn.append(accepted[:missing])
        missing -= len(drawn[-1])
    return np.concatenate(drawn) if drawn else np.empty(0, dtype=np.int64)


def discrete_laplace(bits: RandomBits, scale: int, about: int) -> Counts:
    """At most ``about`` whole numbers with probability proportional to ``exp(-|x|/scale)``: those of ``about`` tries
    that were not rejected."""
    rest = bits.below(scale, about)
    rest = rest[exponential_coins(bits, rest, scale)]
    size = rest + scale * _runs(bits, len(rest))
    negative = bits.below(2, len(size)).astype(bool)
    kept = ~(negative & (size == 0))  # else 0 would come up twice as often
    signed: Counts = np.where(negative, -size, size)[kept]
    return signed


def exponential_coins(bits: RandomBits, above: Counts, below: int) -> Coins:
    """Coins that show heads with probability ``exp(-above/below)``, exactly.

    Args:
        bits: the source of randomness.
        above: ``[n]``, 0 or more.
        below: 1 or more.
    """
    whole, rest = above // below, above % below
    heads = np.ones(len(above), dtype=bool)
    turn = 0
    while len(alive := np.flatnonzero(heads & (whole > turn))):
        heads[alive] = _unit_coins(bits, np.full(len(alive), below), below)
        turn += 1
    alive = np.flatnonzero(heads)
    heads[alive] = _unit_coins(bits, rest[alive], below)
    return heads


def _unit_coins(bits: RandomBits, above: Counts, below: int) -> Coins:
    """As `exponential_coins`, for fractions of at most 1: the first k at which a coin of ``above/below/k`` shows tails
    is odd with just that probability."""
    odd = np.zeros(len(above), dtype=bool)
    alive, k = np.arange(len(above)), 1
    while len(alive):
        goes_on = bits.below(below, len(alive)) < above[alive]
        if k > 1:
            goes_on &= bits.below(k, len(alive)) == 0
        odd[alive[~goes_on]] = k % 2 == 1
        alive, k = alive[goes_on], k + 1
    return odd


def _runs(bits: RandomBits, count: int) -> Counts:
    """Heads before the first tails of a coin with probability 1/e."""
    runs = np.zeros(count, dtype=np.int64)
    alive = np.arange(count)
    while len(alive):
        alive = alive[exponential_coins(bits, np.ones(len(alive), dtype=np.int64), 1)]
        runs[alive] += 1
    return runs
