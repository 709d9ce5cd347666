# SPDX-License-Identifier: Apache-2.0
"""Area under the divergence frontier of two histograms (MAUVE, arXiv:2102.01454), for many resamples at once.

The frontier is the set of points (exp(-c KL(Q‖R)), exp(-c KL(P‖R))) of all mixtures R = λP + (1-λ)Q, closed by (1, 0)
and (0, 1). Its area is 1 where both histograms are equal, and near 0 where they have nothing in common.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

SCALE = 5.0
"""c, as in the paper."""
MIXTURES = 51
SMOOTHING = 0.5
"""Added to each count: groups that a small sample missed are not taken for impossible (arXiv:2106.07898)."""


def smoothed(counts: Floats) -> Floats:
    """``[B, K]`` shares out of counts."""
    added = counts + SMOOTHING
    shares: Floats = added / added.sum(axis=-1, keepdims=True)
    return shares


def frontier_area(p: Floats, q: Floats) -> Floats:
    """``[B]``: area under the frontier; 1 is alike.

    Args:
        p, q: ``[B, K]`` shares, each row adds up to 1.

    Examples:
        >>> alike, apart = np.array([[0.5, 0.5]]), np.array([[1.0, 0.0]])
        >>> frontier_area(alike, alike).round(3), frontier_area(apart, apart[:, ::-1]).round(3) < 0.1
        (array([1.]), array([ True]))
    """
    share = np.linspace(0, 1, MIXTURES + 2)[1:-1]
    across = np.ones((MIXTURES + 2, len(p)))
    up = np.zeros((MIXTURES + 2, len(p)))
    for place, part in enumerate(share, start=1):
        mixed = part * p + (1 - part) * q
        across[place], up[place] = np.exp(-SCALE * _kl(q, mixed)), np.exp(-SCALE * _kl(p, mixed))
    across[-1], up[-1] = 0.0, 1.0
    area: Floats = ((up[1:] + up[:-1]) / 2 * (across[:-1] - across[1:])).sum(axis=0)
    return np.clip(area, 0.0, 1.0)


def _kl(p: Floats, r: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * np.log(p / r), 0.0)
    total: Floats = terms.sum(axis=-1)
    return total


def overlap(p: Floats, q: Floats) -> Floats:
    """``[B]``: share that two histograms have in common, Σ min(p, q); 1 is alike.

    >>> overlap(np.array([[0.5, 0.5]]), np.array([[1.0, 0.0]]))
    array([0.5])
    """
    shared: Floats = np.minimum(p, q).sum(axis=-1)
    return shared


def covered(p: Floats, q: Floats) -> Floats:
    """``[B]``: share of ``p`` in groups that ``q`` is in, too.

    >>> covered(np.array([[0.7, 0.3]]), np.array([[1.0, 0.0]]))
    array([0.7])
    """
    share: Floats = np.where(q > 0, p, 0.0).sum(axis=-1)
    return share
