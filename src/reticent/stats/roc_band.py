# SPDX-License-Identifier: Apache-2.0
"""A band around a ROC curve that holds the whole true curve, from the false positive rate on at which enough held-out
units decide.

At a grid of false positive rates each true positive rate gets an interval that respects users, and all of them hold
together (`reticent.stats.simultaneous.together`: max-T over the grid). Between two places of the grid the curve
is held by its own monotony: it lies above the lower end to its left and below the upper end to its right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reticent.stats.roc import DECIDING
from reticent.stats.scores import Floats
from reticent.stats.simultaneous import MemberSides, together, tpr_number

PLACES = 18
"""False positive rates at which the band is made; evenly on a logarithmic scale below a half, evenly above."""


@dataclass(frozen=True, kw_only=True)
class Band:
    """Where the curve lies.

    Args:
        fpr: rising false positive rates.
        lo, hi: for each, rising too: between these is the true positive rate.
        confidence: that it is so everywhere.
    """

    fpr: tuple[float, ...]
    lo: tuple[float, ...]
    hi: tuple[float, ...]
    confidence: float


def roc_band(score: Floats, of: MemberSides, *, confidence: float = 0.95, seed: int = 0) -> Band | None:
    """The band of one attack's curve.

    >>> rng = np.random.default_rng(0)
    >>> member = np.arange(400) < 200
    >>> from reticent.stats.simultaneous import sides
    >>> band = roc_band(rng.normal(size=400) + member, sides(member, None))
    >>> band.fpr[0], round(band.lo[0], 2), round(band.hi[0], 2)
    (0.05, 0.05, 0.47)

    Args:
        score: ``[N]``, higher says member.
        of: which units are members, and whose they are.
        confidence: that the whole curve lies within, from the smallest rate of the grid on. Of few users who are much
            alike it is held a little less often (docs/statistics.md).
        seed: of the multipliers.

    Returns:
        None where fewer than two owners are on a side, or so few held-out units that no rate below a half is decided by
        ten of them.
    """
    held_out = int((~of.member).sum())
    least = DECIDING / max(held_out, 1)
    if least >= 0.5 or min(of.count(of.member), of.count(~of.member)) < 2:
        return None
    grid = np.concatenate([np.geomspace(least, 0.5, PLACES * 2 // 3), np.linspace(0.5, 0.95, PLACES // 3 + 1)[1:]])
    asked = confidence if of.alone else (1 + confidence) / 2  # of few users who are alike errors have longer tails
    band = together([tpr_number(score, of, float(fpr)) for fpr in grid], confidence=asked, seed=seed)
    lo = np.maximum.accumulate([estimate.lo for estimate in band])
    hi = np.minimum.accumulate([estimate.hi for estimate in band][::-1])[::-1]
    return Band(fpr=tuple(map(float, grid)), lo=tuple(map(float, lo)), hi=tuple(map(float, hi)), confidence=confidence)
