# SPDX-License-Identifier: Apache-2.0
"""Exact tests for ranks that are uniform when nothing is known: each value among candidates drawn like it.

Direction: rank 1 is the best, p-values are small when ranks are better than chance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom

from reticent.core.errors import BadInput


def rank_sum_p(ranks: ArrayLike, candidates: int) -> float:
    """Probability that independent uniform ranks have a sum as small as these: exact, by convolution.

    Ranks that are uniform or worse (ties counted against the value) keep it valid.

    >>> round(rank_sum_p([1, 1], 10), 9), rank_sum_p([10], 10)
    (0.01, 1.0)

    Args:
        ranks: ``[N]`` whole numbers from 1 (best) to ``candidates``.
        candidates: how many values each was ranked among, itself counted in.

    Raises:
        BadInput: no ranks, or some that are none.
    """
    checked = _checked(ranks, candidates)
    mass, uniform_mass = np.ones(1), np.full(candidates, 1 / candidates)
    for _ in checked:
        mass = np.convolve(mass, uniform_mass)
    return float(min(1.0, mass[: int(checked.sum()) - len(checked) + 1].sum()))


def top_p(ranks: ArrayLike, candidates: int, best: int) -> float:
    """Probability that as many of independent uniform ranks are ``best`` or better: exact, binomial.

    >>> round(top_p([1, 1, 7], 10, 1), 3)
    0.028

    Args:
        ranks: as in `rank_sum_p`.
        candidates: as in `rank_sum_p`.
        best: the last rank that counts.
    """
    checked = _checked(ranks, candidates)
    hits = int((checked <= best).sum())
    return float(binom.sf(hits - 1, len(checked), best / candidates))


def _checked(ranks: ArrayLike, candidates: int) -> NDArray[np.int64]:
    array = np.asarray(ranks)
    whole = array.ndim == 1 and array.size > 0 and bool((array == np.rint(array)).all())
    if not whole or array.min() < 1 or array.max() > candidates:
        raise BadInput("ranks", f"are not whole numbers from 1 to {candidates}", "Give one rank for each value.")
    return array.astype(np.int64)
