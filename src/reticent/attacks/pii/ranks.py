# SPDX-License-Identifier: Apache-2.0
"""Ranks of true values, what is read off them, and what guessing would give."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from reticent.core import validate

Floats = npt.NDArray[np.float64]


def rank_of(scores: Floats, truth: int) -> float:
    """Rank of ``scores[truth]`` among ``scores``, 1 = highest. Of equal scores each has the mean of their ranks, so
    that an attack that cannot tell candidates apart gains nothing.

    >>> rank_of(np.array([3.0, 1.0, 2.0]), 2), rank_of(np.array([1.0, 1.0, 1.0]), 0)
    (2.0, 2.0)
    """
    above = int((scores > scores[truth]).sum())
    equal = int((scores == scores[truth]).sum()) - 1
    return 1 + above + equal / 2


def top(ranks: Floats, k: int) -> Floats:
    """``[N]``: 1 where the rank is ``k`` or better, else 0."""
    validate.positive(k=k)
    return (ranks <= k).astype(np.float64)


def reciprocal(ranks: Floats) -> Floats:
    """``[N]`` in [0, 1]: 1 / rank; 0 for an infinite rank (the true value was not among the candidates)."""
    return 1 / ranks


def chance(candidates: Sequence[int], k: int | None = None) -> float:
    """Number that guessing gives among so many candidates for each place: the mean share of top-``k`` hits, or without
    ``k`` the mean reciprocal rank.

    >>> chance([100, 100], 5), round(chance([2]), 2)
    (0.05, 0.75)
    """
    if k is not None:
        return float(np.mean([min(1.0, k / count) for count in candidates]))
    return float(np.mean([(1 / np.arange(1, count + 1)).mean() for count in candidates]))
