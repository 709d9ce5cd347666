# SPDX-License-Identifier: Apache-2.0
"""Exact one-sided rank test: are values of one group lower than those of another, beyond what chance gives?

Direction: *low* values are the evidence, as with losses of secrets that a model may have learned. The p-value is small
when the first group is low.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from reticent.stats.scores import Floats, as_scores

EXACT = 300_000_000
"""Additions up to which all ways to choose the group are counted, about a second; beyond, ways are drawn."""
DRAWS = 99_999
"""Drawn ways where they cannot be counted, fewer for very many values (`KEYS`)."""
KEYS = 100_000_000
BLOCK = 1 << 21
"""Random numbers in memory at a time."""


def lower_p(low: ArrayLike, rest: ArrayLike, *, seed: int = 0) -> float:
    """p-value of the Wilcoxon-Mann-Whitney test of "both groups are alike" against "the first is lower".

    The share of all ways to choose the first group from the pooled values that give a sum of mid-ranks no larger than
    the one seen. Nothing is assumed but that each way is equally likely if nothing was learned, so it is valid for any
    numbers from 1 on and any ties: it falls to ``a`` or below with probability ``a`` at most. Small groups and clear
    differences are counted in full; where that is too much, `DRAWS` ways are drawn and the seen one is counted among
    them, which is valid too and never gives less than ``1 / (1 + DRAWS)``.

    >>> lower_p([1.0], [2.0, 3.0, 4.0])
    0.25

    Args:
        low: ``[N]`` values that would be low.
        rest: ``[M]`` values of units that are like them otherwise.
        seed: of the drawing, where it comes to that.

    Raises:
        BadInput: an empty group, or NaN.

    Sources: doi:10.2307/3001968, doi:10.1214/aoms/1177730491 (the test), doi:10.2202/1544-6115.1585 (why the seen way
    is counted among the drawn ones).
    """
    x, y = as_scores(low, name="low"), as_scores(rest, name="rest")
    doubled = np.rint(2 * rankdata(np.concatenate([x, y]))).astype(np.int64)  # whole numbers: sums compare exactly
    chosen, seen = len(x), int(doubled[: len(x)].sum())
    if len(x) > len(y):  # the smaller group tells the same, with the ranks turned round
        turned = 2 * (len(doubled) + 1) - doubled
        chosen, seen, doubled = len(y), int(turned[len(x) :].sum()), turned
    ranks = np.sort(doubled)
    unit = int(np.gcd.reduce(ranks - ranks[0])) or 1
    seen = (seen - chosen * int(ranks[0])) // unit
    ranks = (ranks - ranks[0]) // unit
    if len(ranks) * chosen * (seen + 1) <= EXACT:
        return _counted(ranks, chosen, seen)
    return _drawn(ranks, chosen, seen, seed)


def _counted(ranks: NDArray[np.int64], chosen: int, seen: int) -> float:
    """Share of the ways to choose ``chosen`` of the sorted ``ranks``, which start at 0, with a sum of at most ``seen``.

    One rank after the other is taken or left, with the probability that a random choice takes it, given how many were
    taken before. ``mass[k, s]``: k taken so far, with sum s. Larger sums are dropped: they only grow.
    """
    n = len(ranks)
    taken_before = np.arange(chosen + 1)[:, None]
    mass = np.zeros((chosen + 1, seen + 1))
    mass[0, 0] = 1.0
    for j in range(int(np.searchsorted(ranks, seen, side="right"))):
        rank = int(ranks[j])
        taken = np.clip((chosen - taken_before) / (n - j), 0.0, 1.0)
        moved = (taken * mass)[:-1, : seen + 1 - rank]
        mass *= 1.0 - taken
        mass[1:, rank:] += moved
    return float(min(1.0, mass[chosen].sum()))


def _drawn(ranks: NDArray[np.int64], chosen: int, seen: int, seed: int) -> float:
    """``(1 + #{drawn sum <= seen}) / (1 + drawn)``."""
    rng = np.random.default_rng(seed)
    draws = max(999, min(DRAWS, KEYS // len(ranks)))
    block = max(1, BLOCK // len(ranks))
    reached = 0
    for start in range(0, draws, block):
        keys: Floats = rng.random((min(block, draws - start), len(ranks)))
        ways = np.argpartition(keys, chosen - 1, axis=1)[:, :chosen]
        reached += int(np.count_nonzero(ranks[ways].sum(axis=1) <= seen))
    return (1 + reached) / (1 + draws)
