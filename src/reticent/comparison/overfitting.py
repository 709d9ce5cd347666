# SPDX-License-Identifier: Apache-2.0
"""Tests if trainings that generalize worse leak more: Spearman's rank correlation over trainings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

from reticent.comparison.bootstrap import SnapshotStats
from reticent.comparison.snapshots import Floats
from reticent.core.comparison import Association
from reticent.core.finding import Estimate

FEWEST = 6
"""Trainings; fewer ranks say nothing."""


def associations(last: Sequence[SnapshotStats]) -> list[Association]:
    """Over the last look of every training that was finished.

    The interval is over resampled records, for these trainings: it does not say what others would show.
    """
    wanted = (
        ("generalization gap of records and AUC of the record attack", "gap", "auc"),
        ("generalization gap of users and AUC of user inference", "user_gap", "user_auc"),
    )
    rows_shown = []
    for what, x, y in wanted:
        rows = [(getattr(point, x), getattr(point, y)) for point in last]
        measured = [(a, b) for a, b in rows if a is not None and b is not None]
        if len(measured) < FEWEST:
            continue
        rho = _spearman(np.array([a for a, _ in measured]), np.array([b for _, b in measured]))
        draws = rho[1:][np.isfinite(rho[1:])]
        if not np.isfinite(rho[0]) or not len(draws):
            continue
        lo, hi = (float(end) for end in np.quantile(draws, [0.025, 0.975]))
        estimate = Estimate(
            value=float(rho[0]), lo=min(lo, float(rho[0])), hi=max(hi, float(rho[0])), n=len(measured),
            method="percentiles of resampled records, for these trainings",
        )  # fmt: skip
        rows_shown.append(Association(what=what, rho=estimate, points=len(measured)))
    return rows_shown


def _spearman(x: Floats, y: Floats) -> Floats:
    """``[B]`` of ``[C, B]`` values, one correlation a column; ties by mid-ranks, NaN where one side does not vary."""
    ranks = [rankdata(values, axis=0) for values in (x, y)]
    centred = [rank - rank.mean(axis=0) for rank in ranks]
    size = np.sqrt((centred[0] ** 2).sum(axis=0) * (centred[1] ** 2).sum(axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation: Floats = (centred[0] * centred[1]).sum(axis=0) / size
    return correlation
