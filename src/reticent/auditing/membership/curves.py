# SPDX-License-Identifier: Apache-2.0
"""ROC curves and score distributions of a level, for the plots of the report."""

from __future__ import annotations

import numpy as np

from reticent.auditing.membership.level import AttackScores, Level
from reticent.core.results import Curve, Distribution
from reticent.stats.roc import roc_curve, thin
from reticent.stats.roc_band import roc_band
from reticent.stats.simultaneous import sides


def curve(level: Level, scored: AttackScores, *, with_band: bool = False, seed: int = 0) -> Curve:
    """The ROC curve of one attack.

    Args:
        level: the units.
        scored: scores of the attack.
        with_band: make the band in which the true curve lies.
        seed: of its multipliers.
    """
    band = roc_band(scored.score, sides(level.member, level.cluster), seed=seed) if with_band else None
    fpr, tpr = thin(*roc_curve(scored.score[level.member], scored.score[~level.member]))
    return Curve(
        attack=scored.name,
        level=level.name,
        fpr=tuple(map(float, fpr)),
        tpr=tuple(map(float, tpr)),
        n_member=level.n_member,
        n_held_out=level.n_held_out,
        band=() if band is None else tuple(zip(band.fpr, band.lo, band.hi, strict=True)),
    )


def distribution(level: Level, scored: AttackScores, bins: int = 30) -> Distribution:
    """Histograms between the 0.5 % and 99.5 % quantiles of the finite scores; what lies beyond goes to the end bins."""
    finite = scored.score[np.isfinite(scored.score)]
    lo, hi = np.quantile(finite, [0.005, 0.995]) if finite.size else (0.0, 1.0)
    if lo == hi:
        lo, hi = lo - 0.5, hi + 0.5
    edges = np.linspace(lo, hi, bins + 1)
    member, held_out = (
        np.histogram(np.clip(scored.score[half], lo, hi), edges)[0] for half in (level.member, ~level.member)
    )
    return Distribution(
        attack=scored.name,
        level=level.name,
        edges=tuple(map(float, edges)),
        member=tuple(map(int, member)),
        held_out=tuple(map(int, held_out)),
    )
